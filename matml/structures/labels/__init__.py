"""Labels of crystals: their values checked, their files read, their crystals found."""
