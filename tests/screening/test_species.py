"""Ions against Shannon's table and textbook charges."""

import pytest

from matml.screening.generate.ions import (
    balanced_charges,
    coordination_ratio,
    electronegativity_gap,
    ion,
    oxidation_states,
)


@pytest.mark.parametrize(
    ("symbol", "charge", "coordination", "spin", "radius"),
    [
        ("Sr", 2, 12, "high", 1.44),
        ("Ti", 4, 6, "high", 0.605),
        ("O", -2, 6, "high", 1.40),
        ("Cs", 1, 12, "high", 1.88),
        ("Pb", 2, 6, "high", 1.19),
        ("Fe", 2, 6, "high", 0.78),
        ("Fe", 2, 6, "low", 0.61),
        ("Co", 3, 6, "low", 0.545),
    ],
)
def test_radii_are_shannons(symbol, charge, coordination, spin, radius):
    found = ion(symbol, charge, coordination, spin)
    assert found.radius == pytest.approx(radius)
    assert not found.extrapolated


def test_missing_coordination_is_scaled_and_marked():
    found = ion("Bi", 3, 12)
    assert found.extrapolated
    # Shannon lists 1.17 at eight; La3+ grows from 1.16 to 1.36 between eight and twelve
    assert found.radius == pytest.approx(1.17 * coordination_ratio(12, 8))
    assert 1.30 < found.radius < 1.40


def test_anion_radius_is_not_scaled():
    assert ion("N", -3, 6).radius == pytest.approx(1.46)
    assert ion("N", -3, 6).extrapolated


def test_ion_without_radius_is_none():
    assert ion("Sn", 2, 6) is None
    assert ion("H", 1, 6) is None


@pytest.mark.parametrize(
    ("symbols", "counts", "charges"),
    [
        (["Ba", "Ti", "O"], [1, 1, 3], (2, 4, -2)),
        (["La", "Co", "O"], [1, 1, 3], (3, 3, -2)),
        (["Cs", "Pb", "I"], [1, 1, 3], (1, 2, -1)),
        (["K", "Mg", "F"], [1, 1, 3], (1, 2, -1)),
        (["Mg", "Al", "O"], [1, 2, 4], (2, 3, -2)),
        (["Ni", "Al"], [1, 1], None),
    ],
)
def test_balanced_charges(symbols, counts, charges):
    assert balanced_charges(symbols, counts) == charges


def test_electronegativity_gap_tells_sense_from_nonsense():
    assert electronegativity_gap([ion("Sr", 2, 12), ion("O", -2, 6)]) == pytest.approx(2.49)
    assert electronegativity_gap([ion("Pt", 2, 6), ion("Te", -2, 6)]) < 0


def test_icsd_states_know_more():
    assert oxidation_states("V") == (5,)
    assert set(oxidation_states("V", "icsd")) == {2, 3, 4, 5}
    assert oxidation_states("V", "both")[0] == 5
