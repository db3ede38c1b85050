"""The next experiment: expected reductions against exact answers, and the command."""

import json
from dataclasses import replace
from itertools import combinations_with_replacement

import click
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.kinetics.options import Duration
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.design.choose import Cost, Region, choose, design
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.design import score_designs, summarise_designs
from matml.kinetics.inference.calibrate import pick_points
from matml.kinetics.inference.population import Population
from matml.kinetics.settings import KineticsSection


@pytest.fixture(scope="module")
def learned(learned_steels, tmp_path_factory):
    """Observations, population, and its file, of the simulated TTT set."""
    observations, population = learned_steels
    file = tmp_path_factory.mktemp("population") / "population.json"
    population.save(file)
    return observations, population, file


def test_gains_and_what_is_left_are_those_of_a_normal_posterior():
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(200_000, 2, generator=generator, dtype=torch.float64)
    draws = draws @ torch.tensor([[1.0, 0.3], [0.0, 0.7]], dtype=torch.float64)
    inputs = torch.tensor([[1.0, 1.0, 1.0], [-1.0, 0.0, 2.0]], dtype=torch.float64)
    values = draws @ inputs
    chosen, gains, remaining = choose(values, values, 0.5, 2)
    covariance = torch.cov(draws.T)

    def left(measured):
        precision = torch.linalg.inv(covariance)
        for i in measured:
            precision = precision + torch.outer(inputs[:, i], inputs[:, i]) / 0.25
        return float((inputs * (torch.linalg.inv(precision) @ inputs)).sum(0).mean())

    single = [left([]) - left([i]) for i in range(3)]
    torch.testing.assert_close(gains[0], torch.tensor(single).double(), rtol=1e-3, atol=0)
    assert remaining == pytest.approx([left([]), left(chosen[:1]), left(chosen)], rel=1e-3)
    # of the best pair of what is left to do, the one that does more alone
    for step in range(2):
        before = chosen[:step]
        pairs = combinations_with_replacement(range(3), 2)
        pair = min(pairs, key=lambda two: left([*before, *two]))
        assert chosen[step] == min(pair, key=lambda i: left([*before, i]))


def test_of_two_that_are_good_together_one_is_taken_before_a_good_single_one():
    """Ends of a line beside its middle: alone the middle tells most, together the ends do."""
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(100_000, 2, generator=generator, dtype=torch.float64)
    place = torch.linspace(-1, 1, 21, dtype=torch.float64)
    values = draws[:, :1] + 0.6 * draws[:, 1:] * place
    # a middle that is measured better than a single end, but says nothing of the slope
    candidates = torch.stack([1.6 * draws[:, 0], values[:, 0], values[:, -1]], 1)
    gains = choose(candidates, values, 0.3, 1)[1][0]
    assert int(gains.argmax()) == 0
    assert choose(candidates, values, 0.3, 1)[0][0] in (1, 2)
    middle_alone = torch.tensor([True, False, False])
    assert choose(candidates, values, 0.3, 2, middle_alone)[0] == [0, 0]


def test_proposals_lie_where_they_may_and_help_where_they_should(learned):
    observations, population, _ = learned
    name = population.held_out[0]
    own = observations.select([name])
    middle = float(own.points["temperature_K"].median())
    region = Region((middle - 40, middle + 40), (1.0, 1e5))
    high = Region((middle + 10, middle + 40), (1.0, 1e5), fractions=(0.5,))
    result = design(population, own.alloys, None, region, high, 2, seed=0)
    assert result.proposals["temperature_K"].between(*high.temperature_K).all()
    assert (result.proposals["fraction"] == 0.5).all()
    assert result.proposals["variance_left"].is_monotonic_decreasing
    # a second look at what is known already helps less than the first
    few = pick_points(observations, name, 4, 0)
    again = design(population, own.alloys, few, region, high, 1, seed=0)
    assert len(again.points) == 4
    other = replace(few, kind="fraction")
    with pytest.raises(MatmlError, match="observations"):
        design(population, own.alloys, other, region, high, 1, seed=0)


def test_experiments_end_in_time_and_tell_how_long_they_take(learned):
    observations, population, _ = learned
    own = observations.select([population.held_out[0]])
    region = Region((800.0, 950.0))
    free = design(population, own.alloys, own, region, region, 2, seed=0)
    longest = float(free.candidates["duration_s"].quantile(0.2))
    short = design(population, own.alloys, own, region, region, 2, seed=0, longest_s=longest)
    assert (short.proposals["duration_s"] <= longest).all()
    assert (short.proposals["variance_left"] >= free.proposals["variance_left"] - 1e-9).all()
    times = short.proposals[[f"time_to_{part}_pct_s" for part in (10, 50, 90)]]
    assert (times.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
    # by default nothing is proposed that lasts longer than anything measured
    assert (free.proposals["duration_s"] <= population.data_card["time_s"][1]).all()
    with pytest.raises(MatmlError, match="nothing is expected to end within 1e-09 s"):
        design(population, own.alloys, own, region, region, 1, seed=0, longest_s=1e-9)


def test_costs_shorten_experiments_and_are_told(learned, tmp_path):
    observations, population, file = learned
    own = observations.select([population.held_out[0]])
    low, high = (
        observations.points["temperature_K"].min(),
        observations.points["temperature_K"].max(),
    )
    region = Region((low, high))
    arguments = (
        population,
        own.alloys,
        own.keep(np.arange(len(own.points)) < 2),
        region,
        region,
        3,
        0,
    )
    free = design(*arguments).proposals
    priced = design(*arguments, cost=Cost(1.0, 1e4)).proposals
    assert priced["duration_s"].sum() < 0.5 * free["duration_s"].sum()
    np.testing.assert_allclose(priced["cost"], 1 + 1e4 * priced["duration_s"] / 3600)
    # a price for each alone changes nothing
    same = design(*arguments, cost=Cost(7.0)).proposals
    pd.testing.assert_frame_equal(same[free.columns], free)
    command = ["kinetics", "design", "--prior", file, "--points", 2, "--out", tmp_path / "d"]
    run = CliRunner().invoke(cli, [str(a) for a in [*command, "--cost", 50, 20]])
    assert run.exit_code == 0, run.output
    total = pd.read_csv(tmp_path / "d/design.csv")["cost"].sum()
    assert f"together {total:.3g} in the currency of --cost" in run.output
    with pytest.raises(MatmlError, match="cost 0 an experiment and 20 an hour: the first is posi"):
        Cost(0.0, 20.0)


def test_a_peak_takes_the_heating_to_it():
    population = Population.generic(equation_named("kissinger"), "peak_temperature")
    rates = Region(heating_rate_K_per_s=(0.05, 1.0))
    alloys = pd.DataFrame({"alloy": ["A"]})
    result = design(population, alloys, None, rates, rates, 1, seed=0, longest_s=3600)
    # the generic peak lies between 350 and 1100 K
    duration = result.candidates["duration_s"] * result.candidates["heating_rate_K_per_s"]
    assert duration.between(50, 900).all()
    assert (result.proposals["duration_s"] <= 3600).all()


@pytest.mark.parametrize(
    ("text", "second"), [("8h", 28_800), ("90 min", 5400), ("3600", 3600), ("1.5d", 129_600)]
)
def test_durations_are_read(text, second):
    assert Duration().convert(text, None, None) == second
    with pytest.raises(click.BadParameter, match="give a number with s, min, h or d"):
        Duration().convert(f"{text} or so", None, None)


def test_chosen_points_beat_random_ones_on_simulated_steels(learned):
    observations, _, _ = learned
    settings = KineticsSection(folds=2)
    scores = score_designs(observations, equation_named("c_curve"), settings, 4, 4, seed=0)
    summary = summarise_designs(scores, "x", "log10 s", seed=0)
    mean = summary[summary["metric"].str.startswith("rmse_mean")].set_index(["method", "shots"])
    assert mean.loc[("chosen", 4), "value"] < mean.loc[("random", 4), "value"]
    needed = summary[summary["metric"] == "points_for_error_of_4_random_median"]
    assert needed.set_index("method").loc["chosen", "value"] <= 4
    assert set(summary.columns) >= {"benchmark", "setting", "method", "is_default", "shots"}
    json.dumps(summary.to_dict("records"))


def test_command_writes_table_and_figure(learned, simulated, tmp_path):
    _, _, file = learned
    arguments = ["kinetics", "design", "--prior", file, "--out", tmp_path, "--points", "2"]
    folder = simulated / "ttt"
    data = ["--data", folder / "observations.csv", "--alloys", folder / "alloys.csv"]
    more = ["--alloy", "AISI 1030", "--temperature", "500", "650"]
    outcome = CliRunner().invoke(cli, [str(a) for a in [*arguments, *data, *more]])
    assert outcome.exit_code == 0, outcome.output
    assert "1. " in outcome.output
    table = pd.read_csv(tmp_path / "design.csv")
    assert table["temperature_C"].between(500, 650).all()
    assert (tmp_path / "design.png").stat().st_size > 5000
    with pytest.raises(MatmlError, match="--alloy: give one of"):
        CliRunner().invoke(cli, [str(a) for a in [*arguments, *data]], catch_exceptions=False)
    with pytest.raises(MatmlError, match="is empty or not positive"):
        CliRunner().invoke(
            cli,
            [str(a) for a in [*arguments, "--temperature", "700", "600"]],
            catch_exceptions=False,
        )
