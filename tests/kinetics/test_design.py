"""The next experiment: expected reductions against exact answers, and the command."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.design.choose import Region, choose, design
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.design import score_designs, summarise_designs
from matml.kinetics.inference.calibrate import pick_points
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
    assert chosen[0] == max(range(3), key=lambda i: single[i])
    assert remaining == pytest.approx([left([]), left(chosen[:1]), left(chosen)], rel=1e-3)
    assert chosen[1] == min(range(3), key=lambda i: left([chosen[0], i]))


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
