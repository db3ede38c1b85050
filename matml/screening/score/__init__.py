"""Objectives scored: predictions, domain, convex hull."""
