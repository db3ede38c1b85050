"""Reach a target value of a new alloy with few, short or cheap trials."""
