"""The workflow's configuration, composed of each room's own settings."""
