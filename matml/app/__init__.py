"""The local page of `matml kinetics app`: one alloy, from points to a diagram with its band."""
