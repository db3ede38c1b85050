"""Screening held against what it would have found."""
