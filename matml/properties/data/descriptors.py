"""Fixed descriptors of crystals, for the baselines: composition, sites, geometry."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from matml.properties.data.element_features import atomic_radii, element_features, feature_names
from matml.structures.crystals import CrystalSet
from matml.structures.disorder.atoms import occupancies

SITES = 4
"""Elements described one by one; a crystal with more keeps the most abundant ones."""
MOST_ELEMENTS = 128
"""More than there are atomic numbers."""
GEOMETRIC = 9 + 2 * SITES
"""Descriptors that do not follow from the composition; the last ones."""
PACKING = (-5, -4, -3, -2, -1)
"""Those that tell how atoms are packed: volume, and distances of neighbours."""


def describe(crystals: CrystalSet) -> np.ndarray:
    """Return descriptors [crystals, features] in float64.

    Mean and spread of the element features over the atoms; the features of up to four elements one
    by one, ordered by amount and then by electronegativity, with their shares; of the neighbours of
    each of these elements the electronegativity and the share of its own kind; distances of
    neighbours over the sums of their radii, volume per atom, and distances over its cube root. All
    change smoothly with the positions of the atoms: nothing counts orbits or names a symmetry.
    """
    if not len(crystals):
        return np.zeros((0, describe_compositions(*compositions([], [])).shape[1] + GEOMETRIC))
    known = compositions_of(crystals.table)
    return np.hstack([describe_compositions(*known), _geometry(crystals, *known)])


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
    place = _places(elements, amounts, offset)
    first = place < SITES
    sites = np.zeros((size, SITES, table.shape[1] + 1))
    sites[crystal[first], place[first], :-1] = features[first]
    sites[crystal[first], place[first], -1] = share[first]
    return np.hstack([mean, spread, sites.reshape(size, -1)])


def _places(elements: np.ndarray, amounts: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return each element's place in its crystal, by amount and then electronegativity, [e]."""
    crystal = np.repeat(np.arange(len(offset) - 1), np.diff(offset))
    # amounts that differ by rounded occupancies are equal
    order = np.lexsort((_electronegativities()[elements], -amounts.round(2), crystal))
    place = np.empty(len(order), int)
    place[order] = np.arange(len(order)) - offset[crystal]
    return place


def _electronegativities() -> np.ndarray:
    """Return the electronegativity of each element, standardised, by atomic number."""
    return element_features()[:, feature_names().index("electronegativity")].astype(float)


def _geometry(
    crystals: CrystalSet, elements: np.ndarray, amounts: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    """Return geometric descriptors, [crystals, GEOMETRIC]; compositions as of `compositions`."""
    table = crystals.table
    flat = crystals.graphs.gather(np.arange(len(crystals)))
    graph, centre, atoms = flat["graph"], flat["edge_target"], flat["node_multiplicity"]
    share = atoms / np.bincount(graph, atoms, len(table))[graph]
    weight = flat["edge_weight"].astype(float)
    total = np.bincount(centre, weight, len(graph))
    distance = flat["edge_distance"].astype(float)
    number, source = flat["atomic_number"].astype(int), flat["edge_source"]
    radius = atomic_radii()[number]
    ratio = distance / (radius[source] + radius[centre])
    crystal = np.repeat(np.arange(len(table)), np.diff(offset))
    # elements ascend in each crystal
    kind = np.searchsorted(crystal * MOST_ELEMENTS + elements, graph * MOST_ELEMENTS + number)
    place = _places(elements, amounts, offset)[kind]
    shown = place < SITES
    of_element = np.bincount(kind, share)[kind]

    def of_atoms(values: np.ndarray) -> np.ndarray:
        """Return means over the neighbours of each atom."""
        return np.bincount(centre, weight * values, len(graph)) / total

    def of_crystals(values: np.ndarray) -> np.ndarray:
        """Return means over the atoms of each crystal."""
        return np.bincount(graph, share * values, len(table))

    def of_sites(values: np.ndarray) -> np.ndarray:
        """Return means over the neighbours of each element, one by one, [crystals, SITES]."""
        each = (of_atoms(values) * share / of_element)[shown]
        size = len(table) * SITES
        return np.bincount((graph * SITES + place)[shown], each, size).reshape(-1, SITES)

    def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return mean and variance over atoms, [crystals], and variance of each atom's own."""
        own = of_atoms(values)
        mean = of_crystals(own)
        among = of_crystals(np.square(own - mean[graph]))
        return mean, among, of_atoms(np.square(values - own[centre]))

    mean, among, around = moments(distance)
    ratio_mean, ratio_among, ratio_around = moments(ratio)
    shortest = np.full(len(table), np.inf)
    np.minimum.at(shortest, graph[centre], distance)
    volume = table["volume_per_atom_A3"].to_numpy(float)
    length = np.cbrt(volume)
    chemistry = [of_sites(_electronegativities()[number][source])]
    chemistry.append(of_sites((number[source] == number[centre]).astype(float)))
    packing = np.stack(
        [
            np.sqrt(among) / length,
            ratio_mean,
            np.sqrt(ratio_among),
            of_crystals(np.sqrt(ratio_around)),
            np.log(volume),
            shortest / length,
            mean / length,
            np.sqrt(among + of_crystals(around)) / length,
            shortest,
        ],
        1,
    )
    return np.hstack([*chemistry, packing])
