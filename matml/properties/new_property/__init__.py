"""Learning a property that training did not know."""
