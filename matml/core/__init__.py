"""What every room builds on: files, errors, processes, statistics, provenance."""
