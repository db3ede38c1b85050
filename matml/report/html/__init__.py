"""Markup, wording and the result files that the page is made of."""
