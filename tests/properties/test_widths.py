"""How wide intervals may become as labels come in."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import ndtr

from matml.properties.methods.stack import WIDEST, Stacked, median

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


def test_the_median_of_two_normals_moves_little_for_an_unlikely_one():
    first = np.array([0.0, 1.0, 2.0]), np.array([0.1, 0.1, 3.0])
    second = np.array([5.0, -4.0, 2.0]), np.array([0.2, 2.0, 0.3])
    for weight in (0.0, 0.2, 0.9):
        found = median(weight, first, second)
        share = (1 - weight) * ndtr((found - first[0]) / first[1])
        share += weight * ndtr((found - second[0]) / second[1])
        np.testing.assert_allclose(share, 0.5, atol=1e-6)
    # where their mean would be 1
    assert median(0.2, first, second)[0] < 0.05


def test_what_the_stack_says_is_wider_where_few_labels_tell_of_a_slope():
    class Given(SimpleNamespace):
        def __len__(self):
            return 2

    found = np.zeros(1), np.ones(1), np.ones(1)
    able = SimpleNamespace(labels_alone=Alone())
    assert Stacked.wider(able, found, Given(sloped=0.5))[1] == 1.25
    assert Stacked.wider(SimpleNamespace(labels_alone=None), found, Given(sloped=0.5)) is found
