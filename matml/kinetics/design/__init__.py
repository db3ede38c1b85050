"""The next experiment."""
