"""Gaussian processes: kernels, conditioning, and the processes built from them."""
