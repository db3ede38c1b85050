"""Kinetic equations, each a short declaration."""
