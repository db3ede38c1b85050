"""Space groups, orbits and standard cells."""
