"""Population and calibration: what is learned over alloys, and one alloy from it."""
