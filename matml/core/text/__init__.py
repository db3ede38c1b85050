"""Text as people and programs write it: encodings, cells, tables."""
