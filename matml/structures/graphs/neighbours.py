"""Periodic neighbours of atoms: all within a radius, or near ones with weights that fade out."""

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.symmetry.cell import cell_volume

PERIODIC = np.ones(3, dtype=np.int64)
# find_points_in_spheres keeps atoms up to this beyond the radius; far below any tie tolerance
SEARCH_TOLERANCE_A = 1e-9
SHARPNESS = 8
"""Power of the distance in weights: the higher it is, the later and the steeper they fall."""
FIRST_RADIUS = 0.92
"""Radius of the first search, in cube roots of the volume of so many atoms as weights sum to."""


def neighbour_search(
    lattice: np.ndarray, cartesian: np.ndarray, centres: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All periodic neighbours of some atoms within a radius, the atom itself left out.

    Parameters
    ----------
    lattice, cartesian
        Row vectors (3, 3) and positions (atoms, 3), angstrom.
    centres
        Indices of the centre atoms, shape (centres,).

    Returns
    -------
    centre, neighbour, distance
        Position in `centres`, index of the neighbour, angstrom; each of shape (pairs,).
    """
    centre, neighbour, _, distance = find_points_in_spheres(
        cartesian,
        cartesian[centres],
        r=radius,
        pbc=PERIODIC,
        lattice=lattice,
        tol=SEARCH_TOLERANCE_A,
    )
    # atoms nearer than this are excluded by the checks, so only the centre itself is dropped
    other = distance > 1e-3
    return centre[other], neighbour[other], distance[other]


def fading_neighbours(
    lattice: np.ndarray, cartesian: np.ndarray, centres: np.ndarray, neighbours: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Near neighbours of each centre, with weights that sum to `neighbours` and fade out.

    The weight at distance d is (1 - (d / R)^p)^2 with p = `SHARPNESS`, up to the centre's own
    radius R, which follows from the sum. Weights and R are continuously differentiable functions
    of positions and cell (no neighbour enters or leaves but with weight 0), and the same in every
    cell of a crystal.

    Returns
    -------
    centre, neighbour, distance, weight
        As from `neighbour_search`, sorted by centre, then distance; each of shape (pairs,).
    """
    volume_per_atom = cell_volume(lattice) / len(cartesian)
    radius = FIRST_RADIUS * (neighbours * volume_per_atom) ** (1 / 3)
    while True:
        centre, neighbour, distance = neighbour_search(lattice, cartesian, centres, radius)
        count = np.bincount(centre, minlength=len(centres))
        if count.all():
            order = np.lexsort((distance, centre))
            centre, distance = centre[order], distance[order]
            after = count.cumsum()
            first = after - count
            number = np.arange(1, len(centre) + 1) - first.repeat(count)
            scaled = (distance / radius) ** SHARPNESS
            total, square = scaled.cumsum(), np.square(scaled).cumsum()
            total -= (total[first] - scaled[first]).repeat(count)
            square -= (square[first] - scaled[first] ** 2).repeat(count)
            # the sum of the weights where the search, and where each neighbour in turn, ends
            if (number - 2 * total + square)[after - 1].min() >= neighbours:
                break
        radius *= 1.2
    held = number - 2 * total / scaled + square / scaled**2
    inside = held < neighbours
    last = first + np.add.reduceat(inside, first, dtype=np.int64) - 1
    surplus = number[last] - neighbours
    # n - 2 t total + t^2 square = neighbours, by which t = (search radius / R)^p
    t = surplus / (total[last] + np.sqrt(total[last] ** 2 - square[last] * surplus))
    weight = (1 - scaled * t.repeat(count))[inside] ** 2
    return centre[inside], neighbour[order][inside], distance[inside], weight
