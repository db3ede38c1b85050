"""Crystals that are declared to be hypothetical, with the shipped model."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.core.errors import MatmlError
from matml.properties.methods.registry import HYPOTHETICAL

ENERGY = "formation_energy_eV_per_atom"
CRYSTALS = [
    Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(edge), [metal, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    for metal, edge in (("Mg", 4.21), ("Ca", 4.81), ("Sr", 5.16))
]


@pytest.fixture(scope="module")
def predictor(shipped):
    return shipped


def test_declared_crystals_have_higher_energies_in_wider_intervals_and_it_is_said(predictor):
    usual, declared = (
        predictor.adapt([], [], ENERGY, method=method) for method in (None, HYPOTHETICAL)
    )
    mean, interval = usual.predict(CRYSTALS)
    other, wider = declared.predict(CRYSTALS)
    added = other - mean
    np.testing.assert_allclose(added, added[0])
    assert 0.03 < added[0] < 0.2
    factor = np.ptp(wider, 1) / np.ptp(interval, 1)
    assert (factor > 1.2).all()
    (said,) = declared.warnings
    assert f"{added[0]:+.3f} eV/atom" in said
    assert not usual.warnings


def test_properties_without_energies_above_the_hull_refuse(predictor):
    with pytest.raises(MatmlError, match="do not tell how hypothetical crystals differ"):
        predictor.adapt([], [], "bulk_modulus_GPa", method=HYPOTHETICAL)
