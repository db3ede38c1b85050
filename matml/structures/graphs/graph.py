"""Crystal graphs: k nearest neighbours with all ties, reduced exactly by symmetry.

A node is a symmetry orbit, with the number of its atoms in the primitive cell; an edge is a shell
of equivalent neighbours: (orbit of the neighbour, orbit of the centre, distance), with the number
of such neighbours around one centre atom. A network that sees only distances gives equivalent
atoms equal features, so messages weighted by the multiplicities are those of the full graph.
"""

from dataclasses import dataclass

import numpy as np

from matml.structures.graphs.neighbours import nearest_neighbours
from matml.structures.symmetry.cell import first_places


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
    centres = np.array(first_places(orbit.tolist())[1])
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    cartesian = np.ascontiguousarray(np.asarray(frac_coords, dtype=np.float64) @ lattice)
    target, neighbour, distance = nearest_neighbours(
        lattice, cartesian, centres, neighbours, tie_tolerance
    )
    source = orbit[neighbour]
    pair = target * len(centres) + source
    order = np.lexsort((distance, pair))
    pair, distance = pair[order], distance[order]
    new = np.empty(len(pair), dtype=bool)
    new[0] = True
    np.logical_or(pair[1:] != pair[:-1], distance[1:] - distance[:-1] > tie_tolerance, out=new[1:])
    first = new.nonzero()[0]
    multiplicity = np.append(first[1:], len(pair)) - first
    # the mean as an offset from the first, so that equal distances keep their value exactly
    excess = np.add.reduceat(distance - distance[first].repeat(multiplicity), first)
    shell_distance = distance[first] + excess / multiplicity
    target, source = np.divmod(pair[first], len(centres))
    order = np.lexsort((source, shell_distance, target))
    return CrystalGraph(
        atomic_number=np.asarray(atomic_numbers)[centres],
        node_multiplicity=np.bincount(orbit),
        edge_source=source[order],
        edge_target=target[order],
        edge_distance=shell_distance[order],
        edge_multiplicity=multiplicity[order],
    )
