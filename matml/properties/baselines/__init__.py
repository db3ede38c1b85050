"""What a user would take instead, on the same episodes."""
