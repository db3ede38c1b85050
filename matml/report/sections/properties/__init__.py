"""Sections on the property predictors."""
