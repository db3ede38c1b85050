"""Phase-transformation kinetics across alloys."""
