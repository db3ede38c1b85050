"""Candidates made by substitution and from prototypes."""
