"""The coverage of intervals at several levels, as the evaluation measures it."""

import numpy as np
import pandas as pd
import pytest

from matml.properties.evaluation.compare import Choice
from matml.properties.evaluation.summarise import coverage_table
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
    table = coverage_table(test, validation, truth, {"p": Choice("gp_stack", "")}, {"p": "eV"})
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
    assert len(table) == len(LEVELS) + 1


def test_conformal_widths_are_the_quantiles_of_validation_families():
    random = np.random.default_rng(0)
    # heavy tails: a normal distribution's ratios would be wrong, quantiles are right
    validation = episodes(random.standard_t(2, (40, 200)))
    test = episodes(random.standard_t(2, (40, 200)))
    shares, _ = measured(test, validation)
    for level in LEVELS:
        assert shares[f"coverage_{100 * level:.0f}"] == pytest.approx(level, abs=0.02)
