"""Studies of how adapted predictors behave, on families that no training stage has seen."""
