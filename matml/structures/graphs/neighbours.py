"""Periodic neighbours of atoms: all within a radius, or the nearest ones with all ties."""

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.symmetry.cell import cell_volume

PERIODIC = np.ones(3, dtype=np.int64)
# find_points_in_spheres keeps atoms up to this beyond the radius; far below any tie tolerance
SEARCH_TOLERANCE_A = 1e-9


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


def nearest_neighbours(
    lattice: np.ndarray,
    cartesian: np.ndarray,
    centres: np.ndarray,
    neighbours: int,
    tie_tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `neighbours` nearest of each centre, with all ties; sorted by centre, then distance.

    Distances sorted from a centre belong to one shell while each follows the one before within
    `tie_tolerance`; the shell that holds the k-th neighbour is kept whole. The radius grows until
    that shell is known to be complete for every centre.

    Returns
    -------
    centre, neighbour, distance
        As from `neighbour_search`.
    """
    volume_per_atom = cell_volume(lattice) / len(cartesian)
    # a sphere that holds the wanted number at the mean density, and a little more
    radius = 1.08 * (3 * (neighbours + 5) * volume_per_atom / (4 * np.pi)) ** (1 / 3)
    while True:
        centre, neighbour, distance = neighbour_search(lattice, cartesian, centres, radius)
        count = np.bincount(centre, minlength=len(centres))
        if count.min() >= neighbours:
            order = np.lexsort((distance, centre))
            centre, neighbour, distance = centre[order], neighbour[order], distance[order]
            after = count.cumsum()
            rank = np.arange(len(centre)) - (after - count).repeat(count)
            # the first gap at or behind rank k ends the neighbourhood
            gap = np.empty(len(distance), dtype=bool)
            gap[0] = False
            np.greater(distance[1:] - distance[:-1], tie_tolerance, out=gap[1:])
            ends = (gap & (rank >= neighbours)).nonzero()[0]
            end = np.full(len(centres), -1)
            end[centre[ends][::-1]] = ends[::-1]
            if (closed := end >= 0).all() or (
                closed | (distance[after - 1] + tie_tolerance < radius)
            ).all():
                end = np.where(closed, end, after)
                keep = np.arange(len(centre)) < end.repeat(count)
                return centre[keep], neighbour[keep], distance[keep]
        radius *= 1.25
