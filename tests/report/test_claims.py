"""The first screen claims what the tables show: results where the method wins, ties and loses."""

import itertools
import re

import pandas as pd
import pytest

from matml.kinetics.evaluation.methods import LEAST_SQUARES
from matml.properties.evaluation.compare import Choice, score_table
from matml.report.page import make_page
from matml.report.settings import ReportSection

FAMILIES = 8
NAMES = {"bulk_modulus_GPa": "log10(GPa)", "band_gap_eV": "eV", "refractive_index": ""}


def errors_of(lead, labels_help, families=FAMILIES):
    """Errors of each family: the simple method's are larger than the default's by `lead`."""
    rows = []
    for name, shots, family in itertools.product(NAMES, (0, 5, 10), range(families)):
        odd = (-1) ** family
        ours = 0.5 - labels_help * shots + 0.001 * shots * odd
        other = ours + lead[name] + 0.05 * odd
        for method, error in (("pretrained", 0.6), ("gp_stack", ours), ("extra_trees", other)):
            rows.append([name, shots, method, f"f{family}", error, family])
    columns = ["property", "shots", "method", "family", "error", "episode"]
    return pd.DataFrame(rows, columns=columns)


def first_screen(results, errors):
    """The words of the page above its first section."""
    choices = {name: Choice("gp_stack", "") for name in NAMES}
    scores = score_table(errors, choices, NAMES)
    scores.to_csv(results / "properties/evaluation/scores.csv", index=False)
    page = make_page(results, ReportSection())[0]
    text = re.sub(r"<.*?>", "", page.split('<section id="shortlist"')[0])
    return re.sub(r"\s+", " ", text)


def test_it_is_better_where_the_paired_interval_says_so_and_for_the_labels_named(results):
    lead = {"bulk_modulus_GPa": 0.2, "band_gap_eV": 0.0, "refractive_index": -0.2}
    text = first_screen(results, errors_of(lead, 0.01))
    assert "clearly lower than the best simple method’s for bulk modulus (10)." in text
    assert "No clear difference for band gap (10)." in text
    assert "Its error is clearly higher for refractive index (10)." in text
    assert "for band gap (5 and 10); bulk modulus (5 and 10); refractive index (5 and 10)" in text


@pytest.mark.parametrize(
    ("labels_help", "families", "words"),
    [
        (0.0, FAMILIES, "No clear difference: band gap (5 and 10)"),
        (-0.01, FAMILIES, "They make it worse: band gap (5 and 10)"),
        (0.01, 3, "Too few families to say: band gap (5 and 10)"),
    ],
)
def test_labels_help_no_more_than_the_gains_say(results, labels_help, families, words):
    text = first_screen(results, errors_of(dict.fromkeys(NAMES, 0.2), labels_help, families))
    assert words in text
    assert "clearly improve" not in text
    assert ("clearly lower" in text) == (families == FAMILIES)
    assert ("Too few families to say for band gap (10)" in text) == (families == 3)


@pytest.mark.parametrize(
    ("low", "high", "alloys", "words"),
    [
        (0.1, 0.3, 9, "with 50 % lower error than plain least squares (Simulated TTT)"),
        (-0.3, -0.1, 9, "with 50 % higher error than plain least squares (Simulated TTT)"),
        (-0.1, 0.3, 9, "without a clear difference from plain least squares (Simulated TTT)"),
        (0.1, 0.3, 3, "too few alloys to compare"),
    ],
)
def test_kinetics_claim_what_the_paired_difference_shows(results, low, high, alloys, words):
    file = results / "kinetics/simulated_ttt/scores.csv"
    scores = pd.read_csv(file)
    plain = scores["method"] == LEAST_SQUARES
    scores.loc[plain & (scores["metric"] == "rmse_mean"), "value"] = 1.0
    scores.loc[scores["is_default"], "value"] = 0.5 if high > 0 else 1.5
    paired = scores[plain & (scores["metric"] == "rmse_mean")].assign(
        metric="rmse_minus_default_mean", value=(low + high) / 2, low=low, high=high, n_tasks=alloys
    )
    pd.concat([scores, paired]).to_csv(file, index=False)
    text = re.sub(r"<.*?>", "", make_page(results, ReportSection())[0])
    assert words in text
    assert "times less" not in text
