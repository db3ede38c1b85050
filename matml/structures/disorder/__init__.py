"""Disordered crystals as virtual crystals: what shared, partly empty and split sites hold.

While a crystal is read, its sites are numbered by what they hold (`sites`), and those too near to
be occupied at once become one (`split`). Once its symmetry is found, each occupant of a shared site
is listed as an atom of its own at that place, with its occupancy (`atoms`): tables and graphs hold
elements only.
"""
