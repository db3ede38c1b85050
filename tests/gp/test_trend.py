"""Deviations that go with the prediction are learned from errors, and held at the ends."""

import numpy as np
import pytest

from matml.gp.trend import FLAT, Trend


def learned(slope, crystals=4000, families=80):
    random = np.random.default_rng(0)
    prediction = random.normal(size=crystals)
    deviation = random.uniform(0.5, 2.0, crystals)
    error = random.laplace(size=crystals) * deviation * np.exp(slope * prediction)
    return Trend.learn(prediction, error, deviation, np.ones(crystals), families)


@pytest.mark.parametrize("slope", [-0.5, 0.0, 0.7])
def test_the_slope_is_found_again(slope):
    assert learned(slope).slope == pytest.approx(slope, abs=0.06)


def test_few_families_show_less_of_it():
    # a slope that forty crystals of three families let guess
    assert abs(learned(0.7, 40, 3).slope) < 0.8 * abs(learned(0.7, 40, 10**6).slope)


def test_the_factor_is_held_beyond_what_was_seen():
    trend = learned(0.7)
    low, high = trend.factor(np.array([trend.low, trend.high]))
    assert trend.factor(np.array([-100.0, 100.0])).tolist() == [low, high]
    assert low < 1 < high
    assert FLAT.factor(np.array([-3.0, 0.0, 3.0])).tolist() == [1, 1, 1]
