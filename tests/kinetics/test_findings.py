"""Sentences on the default against others say what the paired differences show."""

import pandas as pd
import pytest

from matml.kinetics.data.columns import alloys_of, counted
from matml.kinetics.evaluation.findings import findings
from matml.kinetics.evaluation.methods import DEFAULT, LEAST_SQUARES, REFERENCE


def scores(differences, default=0.1, tasks=28, half=0.002):
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
        n_tasks=tasks,
        unit="log10 s",
    )


@pytest.mark.parametrize(
    ("plain", "tasks", "words"),
    [
        (0.1, 28, "clearly better than least squares, generic start"),
        (0.001, 28, "not clearly different from"),
        (-0.05, 28, "clearly worse than"),
        (0.1, 3, "too few alloys"),
    ],
)
def test_the_default_against_least_squares(plain, tasks, words):
    [sentence] = findings(scores({LEAST_SQUARES: plain}, tasks=tasks), ["A", "B"])
    assert words in sentence
    assert "0.100 log10 s" in sentence


@pytest.mark.parametrize(
    ("excess", "words"), [(-0.02, "clearly; by 20 %"), (-0.001, "not clearly; by 1.0 %")]
)
def test_a_method_that_is_better_than_the_default_is_named(excess, words):
    found = scores({LEAST_SQUARES: 0.1, REFERENCE: excess, "maml": 0.3})
    [sentence] = findings(found, ["A", "B"])
    assert "Lower than the default: Gaussian prior, most probable parameters" in sentence
    assert words in sentence
    [sentence] = findings(scores({LEAST_SQUARES: 0.1, REFERENCE: 0.02}), ["A", "B"])
    assert "Lower than the default" not in sentence


def test_series_of_one_alloy_are_one_alloy():
    series = ["S355 / condition 1", "S355 / condition 2", "X / condition 1", "X / condition 2"]
    assert alloys_of(series) == ["S355", "X"]
    assert counted(series) == "4 series (conditions) of 2 alloys"
    assert counted(["A", "B", "A"]) == "2 alloys"
    assert (
        "2 series (conditions) of 1 alloy)" in findings(scores({LEAST_SQUARES: 1}), series[:2])[0]
    )
