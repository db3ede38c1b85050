"""Figures and the self-contained page; reads result files only."""
