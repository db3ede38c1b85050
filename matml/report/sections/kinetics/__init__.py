"""Sections on the kinetics."""
