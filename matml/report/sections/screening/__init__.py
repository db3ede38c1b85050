"""Sections on the screening."""
