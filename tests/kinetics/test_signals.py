"""Signals of a known transformation give its fraction back."""

import numpy as np
import pytest

from matml.core.errors import MatmlError
from matml.kinetics.instruments.signals import (
    baseline,
    ferrite_lever,
    lever_rule,
    partial_area,
    stages,
)


def test_a_dilatometer_by_the_lever_rule():
    """Cooling of steel: austenite contracts at 23e-6, ferrite at 14e-6, with a step between."""
    temperature = np.linspace(1100, 600, 501)
    fraction = 1 / (1 + np.exp((temperature - 850) / 8))
    parent, product = 1e-3 + 23e-6 * temperature, 11e-3 + 14e-6 * temperature
    length = (1 - fraction) * parent + fraction * product
    noisy = length + np.random.default_rng(0).normal(0, 2e-7, len(length))
    first, second = baseline(temperature, noisy, 950, 1100), baseline(temperature, noisy, 600, 740)
    assert first == pytest.approx((1e-3, 23e-6), rel=1e-3)
    found = lever_rule(temperature, noisy, first, second)
    np.testing.assert_allclose(found, fraction, atol=3e-3)
    # beyond what the baselines can explain there is no fraction
    wrong = lever_rule(temperature, length + 4e-3 * (temperature < 700), first, second)
    assert np.isnan(wrong[temperature < 690]).all()
    with pytest.raises(MatmlError, match="baselines cross near 9"):
        lever_rule(temperature, length, first, (first[0] + 900 * 9e-6, 14e-6))
    with pytest.raises(MatmlError, match="needs at least 3"):
        baseline(temperature, length, 1100, 1101)


@pytest.mark.parametrize(("kind", "step"), [("straight", 0), ("step", 4e-3)])
def test_a_calorimeter_by_partial_areas(kind, step):
    time = np.linspace(0, 1000, 4001)
    fraction = 1 - np.exp(-np.log(2) * (time / 300) ** 3)
    slope = 0 if kind == "step" else 1e-5
    heat = np.gradient(fraction, time) * 25 + 0.02 + slope * time + step * fraction
    found, _ = partial_area(time, heat, 5.0, 900.0, kind)
    np.testing.assert_allclose(found, fraction, atol=2e-3)
    assert found[0] == 0
    assert found[-1] == 1
    if kind == "step":
        wrong, _ = partial_area(time, heat, 5.0, 900.0)
        assert np.abs(wrong - fraction).max() > 0.01
    with pytest.raises(MatmlError, match="no peak"):
        partial_area(time, 0.02 + 0 * time, 5.0, 900.0, kind)
    with pytest.raises(MatmlError, match="must rise"):
        partial_area(time[::-1], heat, 5.0, 900.0, kind)


def test_tangents_carry_the_baseline_on():
    """Before and behind the peak the heat flow has other levels and other slopes."""
    time = np.linspace(0, 1400, 4001)
    fraction = 1 - np.exp(-np.log(2) * ((time - 250).clip(0) / 300) ** 3)
    baseline_ = (1 - fraction) * (0.02 + 1e-5 * time) + fraction * (0.05 - 2e-5 * time)
    heat = np.gradient(fraction, time) * 25 + baseline_
    found, under = partial_area(time, heat, 255.0, 1000.0, "tangents")
    np.testing.assert_allclose(found, fraction, atol=2e-3)
    inside = (time > 255) & (time < 1000)
    np.testing.assert_allclose(under[inside], baseline_[inside], atol=2e-4)
    with pytest.raises(MatmlError, match="a tangent needs"):
        partial_area(time, heat, 0.0, 1000.0, "tangents")


def test_overlapping_reactions_are_seen_and_single_ones_are_not():
    time = np.linspace(0, 1000, 3001)
    noise = np.random.default_rng(1).normal(0, 0.003, len(time))

    def step(half, n):
        return 1 - np.exp(-np.log(2) * (time / half) ** n)

    for n in (1.0, 1.5, 2.5, 4.0):
        assert len(stages(time, step(300, n) + noise)) <= 1
    # a minimum between them, and a shoulder only
    found = stages(time, 0.5 * step(200, 4) + 0.5 * step(600, 6) + noise)
    np.testing.assert_allclose(found, [200, 600], rtol=0.1)
    assert len(stages(time, 0.7 * step(300, 4) + 0.3 * step(480, 8) + noise)) == 2


@pytest.mark.parametrize("rows", [64, 1000])
def test_one_even_reaction_is_not_taken_for_several(rows):
    """The rate of a linear course is level: its two edges are bent, and noise shakes the rest."""
    time = np.linspace(0, 1000, rows)
    noises = np.random.default_rng(0).normal(0, 0.003, (20, rows))
    found = [len(stages(time, ((time - 50) / 900).clip(0, 1) + noise)) for noise in noises]
    assert sum(n > 1 for n in found) <= 2


def test_ferrite_that_leaves_its_carbon_lengthens_more():
    kelvin = np.array([950.0, 1000.0, 1050.0])
    # without carbon nothing is enriched
    np.testing.assert_allclose(ferrite_lever(kelvin, 0.0), 1.0)
    # a steel of 0.2 % C becomes three quarters of ferrite by the diagram of iron and carbon
    at_the_end = ferrite_lever(np.array([1000.0]), 0.2)
    assert 0.7 < at_the_end[0] < 0.85
    assert (np.diff([ferrite_lever(kelvin, c)[0] for c in (0.05, 0.1, 0.2, 0.4)]) < 0).all()
