"""One block of a CIF: its tags, its sites, and the crystal they make."""
