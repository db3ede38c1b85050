"""Observations and alloys: read, checked, simulated, batched."""
