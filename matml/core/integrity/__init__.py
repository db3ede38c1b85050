"""Files that tell when they are not what was written, and runs that leave nothing behind."""
