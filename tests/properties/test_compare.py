"""Choices are made on validation families; scores are what they say."""

import numpy as np
import pandas as pd
import pytest

from matml.core.errors import MatmlError
from matml.core.statistics import bootstrap_interval
from matml.properties.evaluation.compare import (
    Choice,
    choose,
    episode_errors,
    family_errors,
    score_table,
    statements,
    with_chosen_fine_tuning,
)
from matml.properties.evaluation.summarise import join_predictions
from matml.properties.stack.conformal import half_widths, weighted_quantile, width_at

VARIANTS = ["fine_tuned rate=0.001 steps=3", "fine_tuned rate=0.001 steps=10"]


def table(errors, property_name="p"):
    """Rows of {(method, shots, family): error}."""
    rows = [
        {"property": property_name, "method": m, "shots": k, "family": f, "error": e}
        for (m, k, f), e in errors.items()
    ]
    return pd.DataFrame(rows)


def test_the_lowest_error_over_positive_shots_is_chosen():
    errors = {}
    for family in ("u", "v"):
        errors |= {
            ("pretrained", 0, family): 0.1,
            ("pretrained", 5, family): 0.3,
            ("maml", 0, family): 9.0,
            ("maml", 5, family): 0.2,
            (VARIANTS[0], 5, family): 0.5,
            (VARIANTS[1], 5, family): 0.4,
        }
    choice = choose(table(errors), ["p"])["p"]
    assert choice == Choice("maml", VARIANTS[1])
    errors |= {(VARIANTS[0], 5, family): 0.01 for family in ("u", "v")}
    assert choose(table(errors), ["p"])["p"] == Choice("fine_tuned", VARIANTS[0])


def test_the_stack_is_the_default_wherever_it_was_fitted():
    errors = {("maml", 5, "u"): 0.1, ("gp_stack", 5, "u"): 0.2, (VARIANTS[0], 5, "u"): 0.3}
    assert choose(table(errors), ["p"])["p"] == Choice("gp_stack", VARIANTS[0])


def test_a_property_without_validation_families_takes_the_common_choice():
    errors = {("pretrained", 5, "u"): 2.0, ("maml", 5, "u"): 1.0, (VARIANTS[0], 5, "u"): 3.0}
    assert choose(table(errors), ["p", "q"])["q"].method == "maml"


def test_only_the_chosen_variant_of_fine_tuning_stands_in_the_scores():
    rows = table({(VARIANTS[0], 5, "u"): 1.0, (VARIANTS[1], 5, "u"): 2.0, ("maml", 5, "u"): 3.0})
    kept = with_chosen_fine_tuning(rows, {"p": Choice("maml", VARIANTS[1])})
    assert kept.set_index("method")["error"].to_dict() == {"fine_tuned": 2.0, "maml": 3.0}


def test_errors_are_averaged_within_families_first():
    episodes = pd.DataFrame(
        {
            "episode": [0, 1, 2],
            "property": "p",
            "family": ["u", "u", "v"],
            "shots": 0,
            "query": [[0, 1], [1], [2]],
        }
    )
    predictions = pd.DataFrame(
        {
            "episode": [0, 1, 2],
            "method": "maml",
            "prediction": [np.array([1.0, 1.0]), np.array([4.0]), np.array([0.0])],
        }
    )
    errors = episode_errors(episodes, predictions, {"p": np.array([1.0, 2.0, 10.0])})
    assert errors["error"].tolist() == [0.5, 2.0, 10.0]
    assert family_errors(errors).set_index("family")["error"].to_dict() == {"u": 1.25, "v": 10.0}


def test_members_are_averaged():
    def member(value):
        return pd.DataFrame(
            {
                "episode": [0, 1],
                "method": ["maml", "maml"],
                "prediction": [np.full(2, value), np.full(3, 10 * value)],
            }
        )

    joined = join_predictions([member(1.0), member(3.0)], [])
    assert [p.tolist() for p in joined["prediction"]] == [[2.0, 2.0], [20.0, 20.0, 20.0]]
    shards = [member(1.0).iloc[:1], member(3.0), member(1.0).iloc[1:]]
    again = join_predictions(shards, [])
    assert [p.tolist() for p in again["prediction"]] == [[2.0, 2.0], [20.0, 20.0, 20.0]]
    with pytest.raises(MatmlError, match="episode 1 are missing"):
        join_predictions(shards[:2], [])


def test_gains_are_paired_and_signed():
    rows = []
    for family, base in (("t", 1.0), ("u", 1.0), ("v", 3.0), ("w", 5.0)):
        for shots in (0, 5):
            gain = 0.5 if shots else 0.0
            for method, error in (("pretrained", base), ("maml", base - gain)):
                rows.append(
                    {
                        "property": "p",
                        "shots": shots,
                        "family": family,
                        "method": method,
                        "error": error,
                        "episode": len(rows),
                    }
                )
    choices = {"p": Choice("maml", VARIANTS[0])}
    scores = score_table(pd.DataFrame(rows), choices, {"p": "eV"})
    own = scores[(scores["method"] == "maml") & (scores["shots"] == 5)].set_index("metric")
    assert own.loc["mae_family_mean", "value"] == pytest.approx(2.0)
    assert own.loc["mae_family_median", "value"] == pytest.approx(1.5)
    for key in ("gain_over_pretrained", "gain_over_zero_shot"):
        assert own.loc[key, ["value", "low", "high"]].tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert own["is_default"].all()
    [sentence] = statements(scores, choices, {"p": "energy"})
    assert "+0.500 [+0.500, +0.500] with 5 labels (labels help, 4 families)" in sentence
    fewer = score_table(pd.DataFrame(rows[:-4]), choices, {"p": "eV"})
    [sentence] = statements(fewer, choices, {"p": "energy"})
    assert "too few families to say, 3 families" in sentence
    sentence, better = statements(scores, {"p": Choice("pretrained", VARIANTS[0])}, {"p": "energy"})
    assert "no adaptation won" in sentence
    assert "MAML had a lower error than the chosen method on average over 5 labels" in better
    other = {"p": Choice("pretrained", VARIANTS[0])}
    _, better = statements(score_table(pd.DataFrame(rows), other, {"p": "eV"}), other, {"p": "e"})
    # its error is lower by 0.5 in every family
    assert "(2.00 against 2.50; the paired difference is clear with 5)" in better


def test_bootstrap_interval_covers_the_mean():
    generator = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        low, high = bootstrap_interval(generator.normal(size=25), seed=trial, draws=500)
        inside += low <= 0 <= high
    assert 0.86 <= inside / 200 <= 0.99
    assert np.isnan(bootstrap_interval(np.array([1.0]))).all()


def test_intervals_weigh_families_equally():
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    weights = np.array([0.2, 0.2, 0.2, 0.2, 0.2])
    assert weighted_quantile(values, weights, 0.8) == 4.0
    assert weighted_quantile(values, np.array([0.1, 0.1, 0.1, 0.1, 0.6]), 0.9) == 100.0
    errors = pd.DataFrame(
        {
            "property": "p",
            "method": "maml",
            "shots": 5,
            "family": ["big", "small"],
            "query": [list(range(18)), [18, 19]],
            "prediction": [np.full(18, 1.0), np.full(2, 5.0)],
        }
    )
    widths = half_widths(errors, {"p": np.zeros(20)})
    # a width at 10 shots from these two families alone is not believed
    more = errors.assign(shots=10, prediction=[np.full(18, 0.1), np.full(2, 0.1)])
    both = half_widths(pd.concat([errors, more]), {"p": np.zeros(20)})
    assert both[("p", "maml", 10)] == both[("p", "maml", 5)] == 5.0
    # by rows the 90 % quantile would be 1
    assert widths[("p", "maml", 5)] == 5.0
    assert width_at(widths, "p", "maml", 20) == 5.0
    assert width_at(widths, "p", "maml", 2) == 5.0
    assert np.isnan(width_at(widths, "q", "maml", 2))
