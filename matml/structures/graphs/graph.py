"""Crystal graphs: k nearest neighbours with all ties, reduced exactly by symmetry.

A node is a symmetry orbit, with the number of its atoms in the primitive cell; an edge is a shell
of equivalent neighbours: (orbit of the neighbour, orbit of the centre, distance), with the number
of such neighbours around one centre atom. A network that sees only distances gives equivalent
atoms equal features, so messages weighted by the multiplicities are those of the full graph.
"""

from dataclasses import dataclass

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.symmetry.cell import cell_volume, first_places

PERIODIC = np.ones(3, dtype=np.int64)
# find_points_in_spheres keeps atoms up to this beyond the radius; far below any tie tolerance
SEARCH_TOLERANCE_A = 1e-9


@dataclass(frozen=True)
class CrystalGraph:
    """One reduced graph: N orbits, E shells.

    Attributes
    ----------
    atomic_number, node_multiplicity
        Shape (N,).
    edge_source, edge_target
        Orbit of the neighbours and of the centre, shape (E,); sorted by target, then distance.
    edge_distance
        Angstrom, float64, shape (E,): the mean over the shell.
    edge_multiplicity
        Neighbours in the shell around one centre atom, shape (E,).
    """

    atomic_number: np.ndarray
    node_multiplicity: np.ndarray
    edge_source: np.ndarray
    edge_target: np.ndarray
    edge_distance: np.ndarray
    edge_multiplicity: np.ndarray


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
            start = np.cumsum(count) - count
            rank = np.arange(len(centre)) - start[centre]
            gap = np.empty(len(distance))
            gap[0] = np.inf
            np.subtract(distance[1:], distance[:-1], out=gap[1:])
            # the first gap at or behind rank k ends the neighbourhood
            ends = np.flatnonzero((rank >= neighbours) & (gap > tie_tolerance))
            end = np.full(len(centres), -1)
            end[centre[ends][::-1]] = ends[::-1]
            last = start + count - 1
            closed = (end >= 0) | (distance[last] + tie_tolerance < radius)
            if closed.all():
                end = np.where(end >= 0, end, last + 1)
                keep = np.arange(len(centre)) < end[centre]
                return centre[keep], neighbour[keep], distance[keep]
        radius *= 1.25


def crystal_graph(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atomic_numbers: np.ndarray,
    orbit: np.ndarray,
    neighbours: int = 12,
    tie_tolerance: float = 1e-4,
) -> CrystalGraph:
    """Build the reduced graph of one crystal.

    Parameters
    ----------
    lattice
        Row vectors, shape (3, 3), angstrom.
    frac_coords, atomic_numbers
        Shapes (atoms, 3) and (atoms,).
    orbit
        Symmetry orbit of each atom, 0-based and contiguous, shape (atoms,);
        `np.arange(atoms)` gives the unreduced graph.
    neighbours
        Nearest neighbours of each atom; all ties are kept.
    tie_tolerance
        Angstrom; see `nearest_neighbours`. Distances between the same two orbits that follow
        each other within it are one shell, at their mean.
    """
    orbit = np.asarray(orbit)
    centres = np.array(first_places(orbit)[1])
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    cartesian = np.ascontiguousarray(np.asarray(frac_coords, dtype=np.float64) @ lattice)
    target, neighbour, distance = nearest_neighbours(
        lattice, cartesian, centres, neighbours, tie_tolerance
    )
    source = orbit[neighbour]
    order = np.lexsort((distance, source, target))
    target, source, distance = target[order], source[order], distance[order]
    new = np.empty(len(target), dtype=bool)
    new[0] = True
    new[1:] = (
        (target[1:] != target[:-1])
        | (source[1:] != source[:-1])
        | (distance[1:] - distance[:-1] > tie_tolerance)
    )
    first = np.flatnonzero(new)
    multiplicity = np.empty_like(first)
    np.subtract(first[1:], first[:-1], out=multiplicity[:-1])
    multiplicity[-1] = len(target) - first[-1]
    # the mean as an offset from the first, so that equal distances keep their value exactly
    excess = np.add.reduceat(distance - distance[first].repeat(multiplicity), first)
    shell_distance = distance[first] + excess / multiplicity
    order = np.lexsort((source[first], shell_distance, target[first]))
    return CrystalGraph(
        atomic_number=np.asarray(atomic_numbers)[centres],
        node_multiplicity=np.bincount(orbit),
        edge_source=source[first][order],
        edge_target=target[first][order],
        edge_distance=shell_distance[order],
        edge_multiplicity=multiplicity[order],
    )
