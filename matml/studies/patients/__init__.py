"""Pharmacokinetics: a patient as a task."""
