"""The commands `matml properties …`."""
