"""Coverage and proper scores of intervals, as the evaluation measures them."""

import numpy as np
import pandas as pd
import pytest

from matml.properties.evaluation.compare import Choice
from matml.properties.evaluation.intervals import crps, interval_score, interval_table
from matml.properties.stack.conformal import LEVELS, normal_ratio


def episodes(errors, half_width=None):
    """One episode a family; `errors` [families, crystals] are of predictions of 0."""
    rows = []
    for i, own in enumerate(errors):
        rows.append(
            {
                "property": "p", "method": "gp_stack", "shots": 5, "family": f"f{i}", "draw": 0,
                "episode": i, "prediction": np.array(own), "query": list(range(len(own))),
                "half_width": None if half_width is None else np.full(len(own), half_width),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def measured(test, validation):
    truth = {"p": np.zeros(1000)}
    table = interval_table(test, validation, truth, {"p": Choice("gp_stack", "")}, {"p": "eV"})
    shares = table[table["metric"].str.startswith("coverage")]
    return shares.set_index("metric")["value"], table


def test_ratio_of_a_normal_distribution():
    assert normal_ratio(0.9) == 1.0
    assert normal_ratio(0.5) == pytest.approx(0.67449 / 1.64485, rel=1e-4)
    assert normal_ratio(0.95) == pytest.approx(1.95996 / 1.64485, rel=1e-4)


def test_a_methods_own_widths_are_scaled_from_90():
    test = episodes([[0.3, 0.5, 1.1, 3.0], [0.0, 0.0, 0.9, 0.95]], half_width=1.0)
    shares, table = measured(test, test)
    # 50 %: within 0.410; 60 %: 0.512; 80 %: 0.779; 90 %: 1; 95 %: 1.192
    assert shares["coverage_50"] == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert shares["coverage_60"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert shares["coverage_80"] == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert shares["coverage_90"] == pytest.approx((2 / 4 + 4 / 4) / 2)
    assert shares["coverage_95"] == pytest.approx((3 / 4 + 4 / 4) / 2)
    # the width that is told is that of the interval that predictions come with
    width = table[table["metric"] == "interval_width"]
    assert width["value"].tolist() == [2.0]
    found = table.set_index("metric")["value"]
    # a tenth of the width's complement is the fine: (1.1 - 1, 3 - 1) * 20 over four, and nothing
    assert found["interval_score"] == pytest.approx(2 + 20 * (0.1 + 2.0) / 4 / 2)
    assert len(table) == len(LEVELS) + 6


def test_conformal_widths_are_the_quantiles_of_validation_families():
    random = np.random.default_rng(0)
    # heavy tails: a normal distribution's ratios would be wrong, quantiles are right
    validation = episodes(random.standard_t(2, (40, 200)))
    test = episodes(random.standard_t(2, (40, 200)))
    shares, _ = measured(test, validation)
    for level in LEVELS:
        assert shares[f"coverage_{100 * level:.0f}"] == pytest.approx(level, abs=0.02)


def test_proper_scores_are_those_of_the_literature():
    random = np.random.default_rng(0)
    draws = random.normal(0.4, 1.5, (2, 400_000))
    # E|X - y| - E|X - X'| / 2 (Gneiting and Raftery 2007, eq. 21)
    expected = np.abs(draws[0] - 1.0).mean() - np.abs(draws[0] - draws[1]).mean() / 2
    assert crps(np.array([0.4 - 1.0]), np.array([1.5]))[0] == pytest.approx(expected, rel=0.01)
    # the interval with the least expected score has the quantiles at its ends
    halves = np.linspace(1.0, 2.5, 151)
    error = random.normal(size=100_000)
    scores = [interval_score(error, np.full(len(error), half)).mean() for half in halves]
    assert halves[np.argmin(scores)] == pytest.approx(1.645, abs=0.05)


def test_the_ends_are_those_of_the_predictions():
    test = episodes(np.zeros((10, 10)), half_width=1.0)
    test["prediction"] = [np.arange(10) + 10.0 * i for i in range(10)]
    test["query"] = [list(range(10 * i, 10 * i + 10)) for i in range(10)]
    truth = np.arange(1000.0)
    truth[:3] += 5
    truth[90:99] -= 5
    table = interval_table(test, test, {"p": truth}, {"p": Choice("gp_stack", "")}, {"p": "eV"})
    found = table.set_index("metric")["value"]
    assert found["coverage_90_lowest_tenth"] == pytest.approx(0.7)
    assert found["coverage_90_highest_tenth"] == pytest.approx(0.1)
    # one family is the lowest tenth: without it, it is another, all of which is inside
    ends = table.set_index("metric")[["low", "high"]]
    for end, most in (("lowest", 0.7), ("highest", 0.1)):
        low, high = ends.loc[f"coverage_90_{end}_tenth"]
        assert low <= most
        assert high == 1.0


def test_half_widths_are_held_against_those_without_labels():
    before = episodes(np.zeros((2, 3)), half_width=1.0).assign(shots=0)
    after = episodes(np.zeros((2, 3)), half_width=1.5)
    after["half_width"] = [np.full(3, 1.5), np.array([0.5, 0.5, 2.5])]
    both = pd.concat([after, before])
    table = interval_table(both, both, {"p": np.zeros(9)}, {"p": Choice("gp_stack", "")}, {"p": ""})
    found = table[table["metric"] == "widest_over_first"].set_index("shots")["value"]
    assert found.to_dict() == {0: 1.0, 5: 2.5}
