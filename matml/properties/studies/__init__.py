"""Studies of adaptation on real crystals: what helps, and what does not."""
