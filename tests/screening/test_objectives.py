"""Objectives against sampling and quadrature, and the texts that state them."""

import numpy as np
import pytest
from scipy.stats import norm

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.screening.objectives import judge, learned_properties, normal, parse_objective
from matml.screening.objectives import parse_objectives as parse
from matml.screening.select.run import objectives_of, with_options
from matml.screening.settings import ScreeningSection

MEAN, DEVIATION = np.array([1.4, -0.3, 2.0]), np.array([0.3, 0.5, 0.05])
SAMPLES = np.random.default_rng(0).normal(size=400_000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("bulk_modulus_GPa >= 150", "bulk_modulus_GPa >= 150"),
        ("bulk_modulus_GPa<1e2", "bulk_modulus_GPa <= 100"),
        (" 1 <= band_gap_eV <=  2.5 ", "1 <= band_gap_eV <= 2.5"),
        ("band_gap_eV == 1.5", "band_gap_eV = 1.5"),
        ("formation_energy_eV_per_atom minimize", "formation_energy_eV_per_atom minimise"),
    ],
)
def test_texts_are_read_and_shown(text, shown):
    assert str(parse_objective(text)) == shown
    assert parse_objective(shown) == parse_objective(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bulk modulus > 3", "is not understood"),
        ("band_gap_eV >= high", "is not understood"),
        ("2 <= band_gap_eV <= 1", "window is empty"),
        ("bulk_modulus_GPa <= -5", "always positive"),
    ],
)
def test_wrong_texts_name_themselves(text, message):
    with pytest.raises(MatmlError, match=message) as caught:
        parse_objective(text)
    assert text in str(caught.value)


def test_one_window_and_one_goal_per_property():
    assert len(parse(["band_gap_eV >= 1", "band_gap_eV minimise"])) == 2
    with pytest.raises(MatmlError, match="join the windows"):
        parse(["band_gap_eV >= 1", "band_gap_eV <= 2"])


def test_hull_needs_the_formation_energy():
    found = learned_properties(parse(["energy_above_hull_eV_per_atom <= 0.1", "band_gap_eV >= 1"]))
    assert found == ["formation_energy_eV_per_atom", "band_gap_eV"]


@pytest.mark.parametrize(
    "text", ["band_gap_eV >= 1.5", "band_gap_eV <= 0", "1 <= band_gap_eV <= 2"]
)
def test_probability_of_a_window(text):
    objective = parse_objective(text)
    found = np.exp(objective.log_probability(MEAN, DEVIATION))
    expected = norm.cdf(objective.high, MEAN, DEVIATION) - norm.cdf(objective.low, MEAN, DEVIATION)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_far_windows_still_tell_candidates_apart():
    objective = parse_objective("10 <= band_gap_eV <= 11")
    found = objective.log_probability(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1))
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    # the lower tail by its asymptotic series (Abramowitz and Stegun 26.2.12)
    z = 70.0
    assert found[2] == pytest.approx(-0.5 * z**2 - np.log(z * np.sqrt(2 * np.pi)), rel=1e-5)


def test_windows_of_moduli_are_logarithmic():
    objective = parse_objective("bulk_modulus_GPa >= 100")
    mean, deviation = normal(True, *(np.array([v]) for v in (100.0, 80.0, 125.0)))
    assert mean == pytest.approx(2)
    assert deviation == pytest.approx(np.log10(1.25) / NORMAL_90)
    assert np.exp(objective.log_probability(mean, deviation)) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("text", "best"),
    [("band_gap_eV maximise", 1.6), ("band_gap_eV minimise", 0.2), ("band_gap_eV = 1.5", -0.3)],
)
def test_expected_improvement_against_sampling(text, best):
    objective = parse_objective(text)
    found = np.exp(objective.log_expected_improvement(MEAN, DEVIATION, best))
    values = MEAN[:, None] + DEVIATION[:, None] * SAMPLES
    expected = np.maximum(objective.utility(values) - best, 0).mean(1)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_expected_improvement_far_off_keeps_the_order():
    objective = parse_objective("band_gap_eV maximise")
    found = objective.log_expected_improvement(np.array([0.0, 1.0, 2.0]), np.full(3, 0.01), 9.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


def test_judgement_joins_windows_and_goals():
    objectives = parse(["band_gap_eV >= 1", "formation_energy_eV_per_atom minimise"])
    energy = np.array([-1.0, -2.0, -3.0])
    found = judge(
        objectives,
        {
            "band_gap_eV": (MEAN, DEVIATION),
            "formation_energy_eV_per_atom": (energy, DEVIATION),
        },
        best={"formation_energy_eV_per_atom": 1.5},
        spreads={"formation_energy_eV_per_atom": 2.0},
    )
    inside = norm.sf(1, MEAN, DEVIATION)
    np.testing.assert_allclose(np.exp(found.log_probability), inside)
    np.testing.assert_allclose(found.score("prediction"), -energy / 2 + np.log(inside))
    np.testing.assert_allclose(found.score("probability"), np.log(inside), atol=1e-12)
    gain = np.exp(found.log_improvement)
    np.testing.assert_allclose(
        np.exp(found.score("expected_improvement")), gain * inside, rtol=1e-9
    )
    np.testing.assert_allclose(found.gaps[:, 0], [0, 1.3 / 0.5, 0])


@pytest.mark.parametrize(
    ("settings", "options", "wanted"),
    [
        ({}, {"property": "formation_energy_eV_per_atom"}, "minimise"),
        ({}, {"property": "bulk_modulus_GPa"}, "maximise"),
        ({}, {"property": "formation_energy_eV_per_atom", "goal": "maximise"}, "maximise"),
        ({"goal": "maximise"}, {"property": "formation_energy_eV_per_atom"}, "maximise"),
        ({}, {}, "maximise"),
    ],
)
def test_low_energies_are_wanted_unless_told(settings, options, wanted):
    [objective] = objectives_of(with_options(ScreeningSection(**settings), **options))
    assert objective.kind == wanted
