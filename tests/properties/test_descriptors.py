"""Descriptors of the neighbours of each element, against sums over all atoms and their images."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.properties.data.descriptors import GEOMETRIC, SITES, describe
from matml.properties.data.element_features import element_features, feature_names
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.neighbours import SHARPNESS

PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
)
ORDER = {"O": 0, "Sr": 1, "Ti": 2}
"""By amount, then electronegativity."""


def neighbours(structure):
    """Of each element's neighbours the electronegativity, and the share of like ones, [2, 3]."""
    chi = element_features()[:, feature_names().index("electronegativity")].astype(float)
    sums: dict[str, list] = {name: [] for name in ORDER}
    for atom, near in zip(structure, structure.get_all_neighbors(8.0), strict=True):
        distance = np.array([each.nn_distance for each in near])
        low, high = distance.min(), 8.0
        # the radius at which weights sum to 8, by bisection
        for _ in range(60):
            radius = (low + high) / 2
            weight = np.clip(1 - (distance / radius) ** SHARPNESS, 0, None) ** 2
            low, high = (radius, high) if weight.sum() < 8 else (low, radius)
        z = np.array([each.specie.Z for each in near])
        own = weight @ np.stack([chi[z], z == atom.specie.Z], 1) / weight.sum()
        sums[atom.specie.symbol].append(own)
    return np.array([np.mean(sums[name], 0) for name in sorted(ORDER, key=ORDER.__getitem__)]).T


def found(structure):
    own = describe(CrystalSet.from_structures([structure]))[0, -GEOMETRIC:][: 2 * SITES]
    return own.reshape(2, SITES)


@pytest.mark.parametrize("moved", [0.0, 0.1])
def test_neighbours_of_each_element_are_those_of_the_whole_crystal(moved):
    structure = PEROVSKITE * (1, 1, 2)
    shifts = moved * np.random.default_rng(0).standard_normal((len(structure), 3))
    structure = Structure(
        structure.lattice,
        structure.species,
        structure.cart_coords + shifts,
        coords_are_cartesian=True,
    )
    own = found(structure)
    np.testing.assert_allclose(own[:, :3], neighbours(structure), atol=2e-4)
    # no fourth element
    assert own[:, 3].tolist() == [0, 0]
    np.testing.assert_allclose(found(structure * (2, 1, 1)), own, atol=2e-4)


def test_order_is_told_from_disorder_of_the_same_composition():
    lattice = Lattice.cubic(3.0)
    caesium_chloride = Structure(lattice, ["Ni", "Al"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    layers = Structure(
        Lattice.tetragonal(3.0, 6.0),
        ["Ni", "Ni", "Al", "Al"],
        [[0, 0, 0], [0.5, 0.5, 0.25], [0, 0, 0.5], [0.5, 0.5, 0.75]],
    )
    assert (found(layers)[1, :2] > found(caesium_chloride)[1, :2] + 0.2).all()
