"""Crystal graphs of symmetry orbits, built and stored."""
