"""Prices: an asset as a task, its volatility learned from its first days."""
