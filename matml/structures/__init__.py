"""Crystals in: read, check, symmetry, family, graph, store."""
