"""Sentences on the default against others say what the paired differences show."""

import pandas as pd
import pytest

from matml.kinetics.data.columns import alloys_of, counted
from matml.kinetics.evaluation.findings import findings
from matml.kinetics.evaluation.methods import DEFAULT, LEAST_SQUARES, REFERENCE


def scores(differences, default=0.1, half=0.002):
    """Errors of all methods at ten observations, from how much they exceed the default's."""
    rows = [(DEFAULT, "rmse_mean", default, default)]
    for method, value in differences.items():
        rows.append((method, "rmse_mean", default + value, default + value))
        rows.append((method, "rmse_minus_default_mean", value, value))
    table = pd.DataFrame(rows, columns=["method", "metric", "value", "middle"])
    return table.assign(
        low=table["value"] - half,
        high=table["value"] + half,
        shots=10,
        n_tasks=28,
        unit="log10 s",
    )


@pytest.mark.parametrize(
    ("plain", "groups", "words"),
    [
        (0.1, 28, "clearly better than least squares, generic start (lower by 0.100 (50 %), 95 %"),
        (
            0.001,
            28,
            "no clear difference from least squares, generic start (lower by 0.00100 (0.99",
        ),
        (
            -0.05,
            28,
            "clearly worse than least squares, generic start (higher by 0.0500 (100 %), 95",
        ),
        (0.1, 3, "too few composition groups"),
    ],
)
def test_the_default_against_least_squares(plain, groups, words):
    [sentence] = findings(scores({LEAST_SQUARES: plain}), ["A", "B"], groups)
    assert words in sentence
    assert "0.100 log10 s" in sentence


@pytest.mark.parametrize(
    ("excess", "words"), [(-0.02, "clearly; by 20 %"), (-0.001, "not clearly; by 1.0 %")]
)
def test_a_method_that_is_better_than_the_default_is_named(excess, words):
    found = scores({LEAST_SQUARES: 0.1, REFERENCE: excess, "maml": 0.3})
    [sentence] = findings(found, ["A", "B"], 27)
    assert "Lower than the default: Gaussian prior, most probable parameters" in sentence
    assert words in sentence
    [sentence] = findings(scores({LEAST_SQUARES: 0.1, REFERENCE: 0.02}), ["A", "B"], 27)
    assert "Lower than the default" not in sentence


def test_a_sure_difference_too_small_to_name_is_told_with_the_reason():
    found = scores({LEAST_SQUARES: 0.001}, half=0.0005)
    [sentence] = findings(found, ["A", "B"], 27)
    words = (
        "(lower by 0.00100 (0.990 %, below the 2 % threshold), 95 % interval [0.000500, 0.00150]"
    )
    assert f"no clear difference from {LEAST_SQUARES} {words}" in sentence


def test_all_methods_that_are_clearly_better_than_the_default_are_counted():
    found = scores({LEAST_SQUARES: 0.1, REFERENCE: -0.02, "maml": -0.01, "meta_sgd": -0.001})
    [sentence] = findings(found, ["A", "B"], 27)
    assert "Two methods are clearly lower, most of all Gaussian prior, most probable" in sentence
    assert "parameters, 0.0800 (by 20 %); the default was not changed" in sentence


def test_series_of_one_alloy_are_one_alloy():
    series = ["S355 / condition 1", "S355 / condition 2", "X / condition 1", "X / condition 2"]
    assert alloys_of(series) == ["S355", "X"]
    assert counted(series) == "4 series of 2 alloys"
    assert counted(["A", "B", "A"]) == "2 alloys"
    [sentence] = findings(scores({LEAST_SQUARES: 1}), series[:2], 1)
    assert "over 1 composition group; 2 series of 1 alloy)" in sentence
