"""Benchmarks of the calibration."""
