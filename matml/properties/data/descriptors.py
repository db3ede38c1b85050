"""Fixed descriptors of crystals, for the baselines: composition, sites, geometry."""

from collections.abc import Iterable

import numpy as np

from matml.properties.data.element_features import element_features, feature_names
from matml.structures.crystals import CrystalSet

SITES = 4
"""Elements described one by one; a crystal with more keeps the most abundant ones."""
GEOMETRIC = 7
"""Descriptors that do not follow from the composition; the last ones."""
PACKING = (-7, -4, -3, -2, -1)
"""Those that tell how atoms are packed: volume, and distances of neighbours."""


def describe(crystals: CrystalSet) -> np.ndarray:
    """Return descriptors [crystals, features] in float64.

    Mean and spread of the element features over the atoms; the features of up to four elements one
    by one, ordered by amount and then by electronegativity, with their shares; volume per atom,
    number of orbits, space group, and the shortest neighbour distances over the radii sums.
    """
    numbers = (
        np.unique(np.asarray(row), return_counts=True) for row in crystals.table["atomic_numbers"]
    )
    return np.hstack([describe_compositions(numbers), _geometry(crystals)])


def describe_compositions(compositions: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the descriptors that depend on composition alone, [crystals, features].

    Parameters
    ----------
    compositions
        Atomic numbers, ascending, and amounts of each crystal.
    """
    elements = element_features().astype(float)
    electronegativity = elements[:, feature_names().index("electronegativity")]
    rows = []
    for numbers, counts in compositions:
        share = counts / counts.sum()
        order = np.lexsort((electronegativity[numbers], -counts))[:SITES]
        features = elements[numbers]
        mean = share @ features
        spread = np.sqrt(share @ (features - mean) ** 2)
        sites = np.zeros((SITES, features.shape[1] + 1))
        sites[: len(order), :-1] = features[order]
        sites[: len(order), -1] = share[order]
        rows.append(np.concatenate([mean, spread, sites.ravel()]))
    return np.array(rows)


def _geometry(crystals: CrystalSet) -> np.ndarray:
    """Return geometric descriptors, [crystals, GEOMETRIC]."""
    table = crystals.table
    flat = crystals.graphs.gather(np.arange(len(crystals)))
    nodes = np.bincount(flat["graph"], minlength=len(table))
    edge_graph = flat["graph"][flat["edge_target"]]
    distance = flat["edge_distance"].astype(float)
    weight = flat["edge_multiplicity"] * flat["node_multiplicity"][flat["edge_target"]]
    total = np.bincount(edge_graph, weights=weight, minlength=len(table))
    mean = np.bincount(edge_graph, weights=weight * distance, minlength=len(table)) / total
    square = np.bincount(edge_graph, weights=weight * distance**2, minlength=len(table)) / total
    shortest = np.full(len(table), np.inf)
    np.minimum.at(shortest, edge_graph, distance)
    volume = table["volume_per_atom_A3"].to_numpy(float)
    length = np.cbrt(volume)
    return np.stack(
        [
            np.log(volume),
            np.log(nodes),
            table["space_group_number"].to_numpy(float),
            shortest / length,
            mean / length,
            np.sqrt(np.maximum(square - mean**2, 0)) / length,
            shortest,
        ],
        1,
    )
