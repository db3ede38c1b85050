"""`matml study …`: other fields on the same core."""
