"""The recovery check: simulated truth, intervals, seconds."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.files import read_table
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.methods import DEFAULT
from matml.kinetics.evaluation.recovery import draw_truth, observe
from matml.kinetics.settings import KineticsSimulation


def test_simulated_alloys_are_like_the_published_ones():
    table = read_table(KineticsSimulation().jmak_table)
    generator = np.random.default_rng(0)
    truth = draw_truth(table, 500, generator)
    assert truth.shape == (500, 3)
    values = equation_named("jmak").values(truth)
    for name in ("activation_energy_kJ_mol", "avrami_exponent"):
        low, high = table[name].min(), table[name].max()
        assert values[name].min() >= low * 0.999
        assert values[name].max() <= high * 1.001
        middle = np.log(table[name]).mean()
        assert abs(float(values[name].log().mean()) - middle) < 0.3
    series = observe(truth, 6, 0.03, generator)
    clean = equation_named("jmak").predict("fraction", truth[:, None], series.columns)
    assert float((series.columns["target"] - clean).std()) < 0.033
    assert float(clean.std()) > 0.2
    assert torch.isfinite(clean).all()


def test_the_command_prints_and_writes(tmp_path):
    out = tmp_path / "r.json"
    arguments = ["--alloys", "200", "--training", "20", "--repetitions", "1", "--json", str(out)]
    result = CliRunner().invoke(cli, ["kinetics", "recovery", *arguments], catch_exceptions=False)
    assert "200 others with 10 fractions each" in result.output
    records = json.loads(out.read_text())
    cover = [r["value"] for r in records if r["metric"] == "coverage_90"]
    # 200 intervals each: two standard errors are 0.04, and a prior of 20 alloys adds to that
    assert len(cover) == 3
    assert all(0.82 < value < 0.97 for value in cover)
    bias = [abs(r["value"]) for r in records if r["metric"] == "bias_over_spread"]
    assert max(bias) < 0.1
    seconds = {r["metric"]: r["value"] for r in records if r["metric"].endswith("/ s")}
    # of processor time; the goals are 0.02 s for one alloy and 60 s for the population
    assert 0 < seconds["laplace_one / s"] < 0.1
    assert 0 < seconds["learn_population / s"] < 60


def test_the_default_agrees_with_the_no_u_turn_sampler(simulated, quick):
    pytest.importorskip("pyro", reason="the comparison needs Pyro (matml[mcmc])")
    from matml.kinetics.evaluation.against_nuts import NUTS, format_nuts, nuts_records, score_nuts

    folder = simulated / "jmak"
    data = read_observations(folder / "observations.csv", folder / "alloys.csv")
    few = data.select(data.names[::4])
    settings = quick.model_copy(update={"shots": [5], "folds": 2})
    scores = score_nuts(few, equation_named("jmak"), settings, 0, draws=60, warmup=60)
    assert set(scores["method"]) == {DEFAULT, NUTS}
    records = nuts_records(scores, "simulated", "fraction", 0)
    found = {(r["method"], r["metric"]): r for r in records}
    ratio = found[DEFAULT, "rmse_mean_over_nuts"]
    # the chain is short
    assert ratio["value"] == pytest.approx(1, abs=0.3)
    assert ratio["low"] <= ratio["value"] <= ratio["high"]
    cost = "processor time per alloy / s"
    assert found[NUTS, cost]["value"] > 5 * found[DEFAULT, cost]["value"]
    assert "K=5" in format_nuts(records)
