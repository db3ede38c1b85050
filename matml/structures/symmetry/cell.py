"""Small things of cells, without numpy's overhead on a handful of numbers."""

import numpy as np


def cell_volume(lattice: np.ndarray) -> float:
    """Volume of a cell given by its row vectors (3, 3), in their unit cubed; never negative."""
    (a, b, c), (d, e, f), (g, h, i) = lattice.tolist()
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def first_places(labels: np.ndarray) -> tuple[list[int], list[int]]:
    """Distinct integers in rising order, and where each stands first."""
    first: dict[int, int] = {}
    for place, label in enumerate(labels.tolist()):
        first.setdefault(label, place)
    found = sorted(first)
    return found, [first[label] for label in found]
