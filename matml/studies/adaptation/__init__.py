"""Studies of adaptation on the crystals; nothing imports them but their commands."""
