"""The commands `matml kinetics …`."""
