"""The stacked Gaussian process, the default method."""
