"""The few-shot predictor as users have it: encode, adapt, predict, export."""
