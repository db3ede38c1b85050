"""The domain of a property is where crystals labelled with it are; of the shipped model."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

BULK, GAP, ENERGY = "bulk_modulus_GPa", "band_gap_eV", "formation_energy_eV_per_atom"
COPPER = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])
ROCK_SALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
)
SHEET = Structure(
    Lattice.hexagonal(3.16, 23.1),
    ["Mo", "S", "S"],
    [[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5677], [2 / 3, 1 / 3, 0.4323]],
)
MANY = Structure(
    Lattice.cubic(3.6),
    ["Cr", "Mn", "Fe", "Ni"],
    [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
)


@pytest.fixture(scope="module")
def predictor(shipped):
    return shipped


@pytest.fixture(scope="module")
def tables(predictor):
    cells = [COPPER, ROCK_SALT, SHEET, MANY]
    return {n: predictor.adapt([], [], n).predict_table(cells) for n in (BULK, GAP, ENERGY)}


def test_what_is_labelled_is_inside(tables):
    assert tables[BULK]["in_domain"][:2].all()
    assert tables[GAP]["in_domain"][1]
    assert (tables[ENERGY]["outside"][:2] == "").all()


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        (GAP, 0, "only insulators are labelled"),
        (BULK, 2, "atoms packed as in no labelled crystal"),
        (BULK, 3, "4 elements, labelled crystals have at most 3"),
    ],
)
def test_reasons_are_given_in_words(tables, name, row, reason):
    assert not tables[name]["in_domain"][row]
    assert reason in tables[name]["outside"][row]


def test_a_property_has_a_domain_of_its_own(tables):
    assert tables[GAP]["distance"][0] > tables[BULK]["distance"][0]


def test_a_crystal_of_the_support_is_inside(predictor):
    cells = [SHEET, MANY]
    adapted = predictor.adapt(cells, [30.0, 150.0], BULK, check_units=False)
    table = adapted.predict_table([*cells, COPPER])
    assert table["in_domain"].all()
    np.testing.assert_allclose(table["distance"][:2], 0, atol=1e-5)


def test_the_domain_of_an_own_property_is_that_of_its_labels(predictor):
    support = [
        Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        for metal, a in (("Mg", 4.21), ("Ca", 4.81), ("Sr", 5.16), ("Ba", 5.52))
    ]
    table = predictor.adapt(support, [3125.0, 2886, 2804, 2196], "melting_point_K").predict_table(
        [support[2], COPPER]
    )
    assert table["in_domain"].tolist() == [True, False]
    assert table["outside"][1].startswith("far from all labelled crystals")
    # training has met copper, and likeness tells of it
    assert table["unseen_elements"].tolist() == ["", ""]
