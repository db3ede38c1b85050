"""Figures: what is to be drawn, for the page (plotly) and for files (matplotlib)."""
