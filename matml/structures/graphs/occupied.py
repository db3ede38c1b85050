"""The graph of a disordered crystal: each occupant of a site is a node of its own.

An occupant sees the neighbours of its site, each as often as it is there: messages are then the
mean over all ways to occupy the neighbouring sites independently of one another.
"""

from dataclasses import replace

import numpy as np

from matml.structures.graphs.graph import CrystalGraph


def occupied(
    sites: CrystalGraph, owner: np.ndarray, numbers: np.ndarray, occupancy: np.ndarray
) -> CrystalGraph:
    """Return the graph of the occupants of sites.

    Parameters
    ----------
    sites
        The graph of the orbits of sites, whatever is on them.
    owner, numbers, occupancy
        Of each occupant its orbit of sites (rising), atomic number and share of the cells, [nodes].
    """
    by_source, source = _occupants_of(sites.edge_source, owner)
    by_target, target = _occupants_of(sites.edge_target[by_source], owner)
    edge, source = by_source[by_target], source[by_target]
    distance = sites.edge_distance[edge]
    order = np.lexsort((distance, source, target))
    edge, source, target = edge[order], source[order], target[order]
    weight = sites.edge_weight[edge] * occupancy[source]
    return replace(
        sites,
        atomic_number=numbers,
        node_multiplicity=sites.node_multiplicity[owner] * occupancy,
        edge_source=source,
        edge_target=target,
        edge_distance=distance[order],
        edge_weight=weight / np.bincount(target, weight)[target],
    )


def _occupants_of(ends: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the occupants of the orbits at some ends of edges, and at which end each is."""
    counts = np.bincount(owner)
    number, before = counts[ends], np.cumsum(counts) - counts
    end = np.arange(len(ends)).repeat(number)
    rank = np.arange(len(end)) - (np.cumsum(number) - number)[end]
    return end, before[ends][end] + rank
