"""Studies of adaptation on real crystals, on families that no training stage has seen."""
