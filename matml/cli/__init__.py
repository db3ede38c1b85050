"""The commands of `matml`, one file a subject."""
