"""Bonds and coordination polyhedra of a crystal's drawing."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.report.sections.screening.bonds import bonds_of

KINDS = {
    "perovskite": (
        ("Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"]),
        ([0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]),
        6,
        {("Ti", 6, 8)},
    ),
    "zincblende": (
        ("F-43m", Lattice.cubic(5.4), ["Zn", "S"]),
        ([0, 0, 0], [0.25, 0.25, 0.25]),
        16,
        {("Zn", 4, 4)},
    ),
    # an alloy: neighbours are joined, once each, and there is no anion
    "copper": (("Fm-3m", Lattice.cubic(3.6), ["Cu"]), ([0, 0, 0],), 24, set()),
    # sheets of threefold boron
    "graphite": (("P6/mmm", Lattice.hexagonal(2.46, 6.7), ["C"]), ([1 / 3, 2 / 3, 0],), 3, set()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_first_shells_are_joined(kind):
    (symbol, lattice, elements), places, bonds, polyhedra = KINDS[kind]
    crystal = Structure.from_spacegroup(symbol, lattice, elements, places)
    found = bonds_of(crystal.to(fmt="cif"))
    assert len(found["bonds"]) == bonds
    shapes = {(p["element"], len(p["vertices"]), len(p["faces"])) for p in found["polyhedra"]}
    assert shapes == polyhedra
    assert found["partner"] == {"perovskite": "O", "zincblende": "S"}.get(kind, "")
    lengths = [np.linalg.norm(np.subtract(*bond)) for bond in found["bonds"]]
    shortest = min(n.nn_distance for n in crystal.get_neighbors(crystal[-1], 4))
    np.testing.assert_allclose(lengths, shortest, atol=0.01)


def test_a_skew_cell_has_its_first_edge_along_x():
    lattice = Lattice.from_parameters(4, 5, 6, 80, 95, 110)
    crystal = Structure(lattice, ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.8]])
    found = bonds_of(crystal.to(fmt="cif"))
    np.testing.assert_allclose(found["cell"][0], [4, 0, 0], atol=1e-3)
    assert found["cell"][1][2] == pytest.approx(0, abs=1e-3)
    start, _ = found["bonds"][0]
    inside = np.array([0.1, 0.2, 0.3]) @ np.array(found["cell"])
    np.testing.assert_allclose(start, inside, atol=0.01)


def test_disordered_and_large_crystals_are_drawn_without():
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0] * 3, [0.5] * 3]
    )
    large = salt * (2, 2, 2)
    assert bonds_of(large.to(fmt="cif")) == {}
    salt.replace_species({"Na": {"Na": 0.5, "K": 0.5}})
    assert bonds_of(salt.to(fmt="cif")) == {}
