"""Crystal graphs: near neighbours with weights that fade out, reduced exactly by symmetry.

A node is a symmetry orbit, with the number of its atoms in the primitive cell; an edge is a shell
of equivalent neighbours: (orbit of the neighbour, orbit of the centre, distance), with their share
in the weights around one centre atom. A network that sees only distances gives equivalent atoms
equal features, so messages weighted by the shares are those of the full graph. Weights and
distances are smooth functions of positions and cell: a small distortion splits shells and changes
what a network says by little.
"""

from dataclasses import dataclass

import numpy as np

from matml.structures.graphs.neighbours import fading_neighbours
from matml.structures.symmetry.cell import first_places


@dataclass(frozen=True)
class CrystalGraph:
    """One reduced graph: N orbits, E shells.

    Attributes
    ----------
    atomic_number, node_multiplicity
        Shape (N,).
    edge_source, edge_target
        Orbit of the neighbours and of the centre, shape (E,); sorted by target, source, distance.
    edge_distance
        Angstrom, float64, shape (E,): the weighted mean over the shell.
    edge_weight
        Share of the shell in the weights around one centre atom, float64, shape (E,).
    """

    atomic_number: np.ndarray
    node_multiplicity: np.ndarray
    edge_source: np.ndarray
    edge_target: np.ndarray
    edge_distance: np.ndarray
    edge_weight: np.ndarray


def crystal_graph(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    atomic_numbers: np.ndarray,
    orbit: np.ndarray,
    neighbours: int = 8,
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
        Sum of the weights of an atom's neighbours; see `fading_neighbours`.
    tie_tolerance
        Angstrom. Distances between the same two orbits that follow each other within it are one
        shell, at their mean; of its square is what that changes.
    """
    orbit = np.asarray(orbit)
    centres = np.array(first_places(orbit.tolist())[1])
    lattice = np.ascontiguousarray(lattice, dtype=np.float64)
    cartesian = np.ascontiguousarray(np.asarray(frac_coords, dtype=np.float64) @ lattice)
    target, neighbour, distance, weight = fading_neighbours(lattice, cartesian, centres, neighbours)
    pair = target * len(centres) + orbit[neighbour]
    # distances ascend for each target already
    order = pair.argsort(kind="stable")
    pair, distance, weight = pair[order], distance[order], weight[order]
    new = np.empty(len(pair), dtype=bool)
    new[0] = True
    np.logical_or(pair[1:] != pair[:-1], distance[1:] - distance[:-1] > tie_tolerance, out=new[1:])
    first = new.nonzero()[0]
    multiplicity = np.append(first[1:], len(pair)) - first
    shell_weight = np.add.reduceat(weight, first)
    # the mean as an offset from the first, so that equal distances keep their value exactly
    excess = weight * (distance - distance[first].repeat(multiplicity))
    shell_distance = distance[first] + np.add.reduceat(excess, first) / shell_weight
    target, source = np.divmod(pair[first], len(centres))
    return CrystalGraph(
        atomic_number=np.asarray(atomic_numbers)[centres],
        node_multiplicity=np.bincount(orbit),
        edge_source=source,
        edge_target=target,
        edge_distance=shell_distance,
        edge_weight=shell_weight / neighbours,
    )
