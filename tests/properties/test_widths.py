"""How wide intervals may become as labels come in."""

from types import SimpleNamespace

import numpy as np
import pytest

from matml.properties.methods.stack import WIDEST, Stacked

SCALES = {0: 2.0, 2: 1.8, 5: 2.2}


class Alone:
    """A label process that knows next to nothing."""

    def predict(self, query):
        return np.zeros(len(query)), np.full(len(query), 1e3)


@pytest.fixture
def method():
    fitted = SimpleNamespace(scale=lambda shots: SCALES[shots])
    return SimpleNamespace(fitted=fitted)


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5])
def test_no_half_width_is_wider_than_three_times_the_first_as_far_as_the_model_applies(
    method, weight
):
    before, query = np.array([0.1, 0.2, 0.3]), np.arange(3)
    told = np.zeros(3), np.array([0.05, 7.0, 7.0]), before
    _, deviation = Stacked.mixed(method, told, Alone() if weight else None, weight, query, 5)
    times = deviation * SCALES[5] / (before * SCALES[0])
    assert times.max() == pytest.approx(WIDEST / (1 - weight))
    if not weight:
        # and what is narrower stays as it is
        assert deviation[0] == 0.05
    # one or two labels may be all there is to tell that the model is wrong
    assert Stacked.mixed(method, told, None, 0.0, query, 2)[1][1] == 7.0
