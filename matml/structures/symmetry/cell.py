"""Small things of cells, without numpy's overhead on a handful of numbers."""

from collections.abc import Sequence

import numpy as np

MOST_SKEW = 1e4
"""Of a cell in whatever unit, far above any crystal's: its edges' product over its volume, times
the longest edge over the shortest."""


def cell_volume(lattice: np.ndarray) -> float:
    """Volume of a cell given by its row vectors (3, 3), in their unit cubed; never negative."""
    (a, b, c), (d, e, f), (g, h, i) = lattice.tolist()
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def is_too_long(lattice: np.ndarray) -> bool:
    """Whether a cell (3, 3) is far longer than high: there searches panic or have no end."""
    edges = np.linalg.norm(lattice, axis=1)
    limit = MOST_SKEW * cell_volume(lattice) * edges.min()
    return not edges.prod() * edges.max() < limit


def inverse(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Inverse of a matrix (3, 3) that is none of those whose rounding matters."""
    (a, b, c), (d, e, f), (g, h, i) = rows
    first, second, third = e * i - f * h, f * g - d * i, d * h - e * g
    scale = 1 / (a * first + b * second + c * third)
    return np.array(
        (
            (first * scale, (c * h - b * i) * scale, (b * f - c * e) * scale),
            (second * scale, (a * i - c * g) * scale, (c * d - a * f) * scale),
            (third * scale, (b * g - a * h) * scale, (a * e - b * d) * scale),
        )
    )


def first_places(labels: Sequence[int]) -> tuple[list[int], list[int]]:
    """Distinct integers in rising order, and where each stands first."""
    first: dict[int, int] = {}
    for place, label in enumerate(labels):
        first.setdefault(label, place)
    found = sorted(first)
    return found, [first[label] for label in found]


def widest_gap_A(lattice: np.ndarray, frac_coords: np.ndarray) -> float:
    """Thickness of the widest layer along two edges of a cell that holds no atom's centre.

    Parameters
    ----------
    lattice, frac_coords
        Row vectors (3, 3) in angstrom, and positions (sites, 3).
    """
    heights = 1 / np.sqrt(np.square(inverse(lattice.tolist())).sum(axis=0))
    places = np.sort(frac_coords % 1.0, axis=0)
    steps = np.diff(places, axis=0, append=places[:1] + 1)
    return float((steps.max(axis=0) * heights).max())
