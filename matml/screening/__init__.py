"""Candidates, ranking, shortlist."""
