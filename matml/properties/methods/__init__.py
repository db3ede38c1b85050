"""Ways to predict a property of a family from a few labels: one class each, and their registry."""
