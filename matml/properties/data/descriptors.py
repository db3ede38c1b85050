"""Fixed descriptors of crystals, for the baselines: composition, sites, geometry."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from matml.properties.data.element_features import element_features, feature_names
from matml.structures.crystals import CrystalSet
from matml.structures.disorder.atoms import occupancies

SITES = 4
"""Elements described one by one; a crystal with more keeps the most abundant ones."""
MOST_ELEMENTS = 128
"""More than there are atomic numbers."""
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
    if not len(crystals):
        return np.zeros((0, describe_compositions(*compositions([], [])).shape[1] + GEOMETRIC))
    found = describe_compositions(*compositions_of(crystals.table))
    return np.hstack([found, _geometry(crystals)])


def compositions_of(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the compositions, as of `compositions`, of a table like `structures.parquet`."""
    return compositions(table["atomic_numbers"], occupancies(table))


def compositions(
    atomic_numbers: Iterable[Sequence[int] | np.ndarray], shares: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the elements of crystals, ascending, their amounts, and where each crystal's start.

    Parameters
    ----------
    atomic_numbers, shares
        Of each crystal's atoms, and the shares of the cells in which they are there.

    Returns
    -------
    elements, amounts
        Of one crystal after another, [e].
    offset
        First one of each crystal, and their number, [crystals + 1].
    """
    rows = [np.asarray(row, dtype=np.int64) for row in atomic_numbers]
    crystal = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    atoms = np.concatenate([*rows, np.zeros(0, np.int64)])
    kinds, kind = np.unique(crystal * MOST_ELEMENTS + atoms, return_inverse=True)
    amounts = np.bincount(kind, weights=np.concatenate([*shares, np.zeros(0)]))
    crystal, elements = np.divmod(kinds, MOST_ELEMENTS)
    return elements, amounts, np.searchsorted(crystal, np.arange(len(rows) + 1))


def describe_compositions(
    elements: np.ndarray, amounts: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    """Return the descriptors that depend on composition alone, [crystals, features].

    Parameters
    ----------
    elements, amounts, offset
        As `compositions` gives them.
    """
    table, size = element_features().astype(float), len(offset) - 1
    if not size:
        return np.zeros((0, (2 + SITES) * table.shape[1] + SITES))
    crystal = np.repeat(np.arange(size), np.diff(offset))
    share = amounts / np.add.reduceat(amounts, offset[:-1])[crystal]
    features = table[elements]
    mean = np.add.reduceat(share[:, None] * features, offset[:-1])
    square = np.square(features - mean[crystal])
    spread = np.sqrt(np.add.reduceat(share[:, None] * square, offset[:-1]))
    electronegativity = features[:, feature_names().index("electronegativity")]
    # amounts that differ by rounded occupancies are equal
    order = np.lexsort((electronegativity, -amounts.round(2), crystal))
    place = np.arange(len(order)) - offset[crystal]
    first = place < SITES
    sites = np.zeros((size, SITES, table.shape[1] + 1))
    sites[crystal[first], place[first], :-1] = features[order[first]]
    sites[crystal[first], place[first], -1] = share[order[first]]
    return np.hstack([mean, spread, sites.reshape(size, -1)])


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
