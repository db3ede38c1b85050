"""Figures, specified once and drawn for page and files."""
