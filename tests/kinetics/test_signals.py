"""Signals of a known transformation give its fraction back."""

import numpy as np
import pytest

from matml.core.errors import MatmlError
from matml.kinetics.instruments.signals import baseline, lever_rule, partial_area


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


def test_a_calorimeter_by_partial_areas():
    time = np.linspace(0, 1000, 4001)
    fraction = 1 - np.exp(-np.log(2) * (time / 300) ** 3)
    heat = np.gradient(fraction, time) * 25 + 0.02 + 1e-5 * time  # on a sloping baseline
    found = partial_area(time, heat, 5.0, 900.0)
    np.testing.assert_allclose(found, fraction, atol=2e-3)
    assert found[0] == 0
    assert found[-1] == 1
    with pytest.raises(MatmlError, match="no peak"):
        partial_area(time, 0.02 + 0 * time, 5.0, 900.0)
    with pytest.raises(MatmlError, match="must rise"):
        partial_area(time[::-1], heat, 5.0, 900.0)
