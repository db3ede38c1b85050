"""Crystals in: files, archives, tables and databases, with their labels."""
