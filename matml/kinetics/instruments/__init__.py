"""Records of instruments turned into fractions transformed."""
