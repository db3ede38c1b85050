"""Sizes of cells, without numpy's overhead on nine numbers."""

import numpy as np


def cell_volume(lattice: np.ndarray) -> float:
    """Volume of a cell given by its row vectors (3, 3), in their unit cubed; never negative."""
    (a, b, c), (d, e, f), (g, h, i) = lattice.tolist()
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))
