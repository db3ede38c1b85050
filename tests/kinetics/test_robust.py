"""Gross errors of single observations, and errors that a run shares."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from scipy import stats

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.likelihood import evaluate, point_weights
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import ROBUST_DOF, calibrate
from matml.kinetics.inference.population import learn_population
from matml.kinetics.inference.run_offsets import RunOffsets, append_offsets, with_run_offsets

REFERENCE = 900.0


def times(half_time, energy, exponent, kelvin, fraction):
    inverse = energy * 1e3 / 8.31446261815324 * (1 / kelvin - 1 / REFERENCE)
    reached = np.log(-np.log1p(-fraction) / math.log(2))
    return half_time * np.exp(inverse + reached / exponent)


def observations(alloys, runs=1, points=12, noise=0.05, seed=0, shift=None):
    """Simulated TTT points: alloys of one population; runs may be off in temperature."""
    generator = np.random.default_rng(seed)
    rows = []
    for number in range(alloys):
        half, energy = 200 * math.exp(generator.normal()), 220 + 30 * generator.normal()
        exponent = 2 * math.exp(0.15 * generator.normal())
        for run in range(runs):
            off = 0.0 if shift is None else shift[run]
            for _ in range(points):
                kelvin, fraction = generator.uniform(850, 950), generator.choice([0.1, 0.5, 0.9])
                time = times(half, energy, exponent, kelvin + off, fraction)
                error = 10 ** (noise * generator.normal())
                rows.append((f"A{number}", f"run {run}", kelvin, time * error, fraction))
    table = pd.DataFrame(rows, columns=["alloy", "run", "temperature_K", "time_s", "fraction"])
    table["sigma"], table["line"] = np.nan, range(2, len(table) + 2)
    names = list(dict.fromkeys(table["alloy"]))
    cards = pd.DataFrame({"alloy": names, "composition_group": names})
    cards["reference_temperature_K"] = REFERENCE
    return Observations("ttt", table, cards, pd.DataFrame(), simulated=True)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    data = observations(20)
    path = tmp_path_factory.mktemp("p") / "made up.csv"
    data.points.to_csv(path)
    return learn_population(data, equation_named("jmak"), 2.0, 0, held_out=[], origin=path)[0]


def test_likelihood_is_students_t_with_the_noise_integrated_out():
    residuals = torch.tensor([[0.3, -0.1, 5.0]], dtype=torch.float64)
    priors = TaskPriors(
        torch.zeros(1, 1).double(), torch.eye(1).double(), torch.ones(1, 1).double(),
        torch.ones(1).double(), 0.2, 1e6, 4.0,
    )  # fmt: skip
    tasks = Tasks.of(lambda z, columns: columns["r"] + 0 * z[..., 0], {"r": residuals})
    found = evaluate(tasks, priors, torch.zeros(1, 1, 1).double()).misfits
    scale = 0.2 * stats.norm.ppf(0.84) / stats.t.ppf(0.84, 4)
    density = stats.t.logpdf(residuals[0].numpy(), 4, scale=scale)
    differences = found[0, 0] - density.sum()
    # up to a constant, the same at all levels, since the noise is as good as known here
    constant = 3 * (stats.t.logpdf(0, 4))
    assert differences.numpy() == pytest.approx(-constant, abs=0.02)
    weights = point_weights(residuals.square(), torch.full((1, 3), 0.04).double(), 4.0)
    assert weights[0, 2] < 0.02 < 0.9 < weights[0, 1]


def test_a_gross_outlier_moves_robust_parameters_less(population):
    moved = {}
    for seed in range(3):
        data = observations(1, points=8, seed=100 + seed)
        wrong = observations(1, points=8, seed=100 + seed)
        wrong.points.loc[3, "time_s"] *= 10**1.5
        for dof in (math.inf, ROBUST_DOF):
            options = {"alloy": "A0", "seed": 0, "point_dof": dof}
            clean = calibrate(population, data, **options)
            hurt = calibrate(population, wrong, **options)
            shift = (hurt.draws.mean(0) - clean.draws.mean(0)) / clean.draws.std(0)
            moved.setdefault(dof, []).append(float(shift.abs().max()))
    assert np.mean(moved[ROBUST_DOF]) < 0.5 * np.mean(moved[math.inf])
    table = hurt.residual_table()
    assert table["weight"].idxmin() == 3
    assert table.loc[3, "weight"] < 0.2
    assert table.loc[3, "outlier"]
    assert hurt.record()["error_dof_of_points"] == ROBUST_DOF
    assert table["weight"].drop(3).median() > 1


def test_a_shared_offset_is_found_and_widens_the_intervals(population):
    """Three runs of the same alloy, one of them 15 K off (sd 8 K stated)."""
    data = observations(1, runs=3, points=8, noise=0.03, seed=7, shift=(0.0, 0.0, 15.0))
    plain = calibrate(population, data, "A0", 0)
    shared = calibrate(population, data, "A0", 0, offsets=RunOffsets(temperature_K=8.0))
    table = shared.parameters().set_index("parameter")
    offsets = table[table.index.str.startswith("temperature_offset_K")]
    assert len(offsets) == 3
    difference = offsets["median"].iloc[2] - offsets["median"].iloc[:2].mean()
    assert difference == pytest.approx(15, abs=5)
    assert shared.noise < 0.6 * plain.noise
    # the absolute temperature is uncertain by 8 K / sqrt(3) at least: so is the half time
    own = plain.parameters().set_index("parameter")
    width = [
        np.log(t.loc["half_time_s", "high_90"] / t.loc["half_time_s", "low_90"])
        for t in (own, table)
    ]
    expected = 2 * 1.645 * 8 / math.sqrt(3) * 220e3 / (8.314 * REFERENCE**2)
    assert width[1] == pytest.approx(expected, rel=0.35)
    assert len(shared.residual_table()) == 24
    # predictions are for a specimen without an offset
    columns = {
        "temperature_K": torch.tensor([900.0]).double(),
        "fraction": torch.tensor([0.5]).double(),
        "reference_temperature_K": torch.tensor([REFERENCE]).double(),
    }
    half = 10 ** shared.predict(columns)[0][0]
    assert half == pytest.approx(table.loc["half_time_s", "median"], rel=0.1)


def test_a_late_start_is_found():
    equation = equation_named("jmak")
    runs = with_run_offsets(equation, ["a", "b"], RunOffsets(time_s=5.0))
    position = torch.cat([equation.start(), torch.tensor([2.0, 0.0]).double()])
    inputs = {
        "temperature_K": torch.full((3,), 900.0).double(),
        "reference_temperature_K": torch.full((3,), 900.0).double(),
        "time_s": torch.tensor([110.0, 110.0, 8.0]).double(),
        "run_number": torch.tensor([0.0, 1.0, 0.0]).double(),
    }
    earlier = inputs | {"time_s": torch.tensor([100.0, 110.0, 0.08]).double()}
    del earlier["run_number"]
    found = runs.predict("fraction", position, inputs)
    torch.testing.assert_close(found, equation.predict("fraction", position[:3], earlier))
    # for a measured time the same offset is added to the prediction
    runs = with_run_offsets(equation, ["a", "b"], RunOffsets(time_s=5.0))
    inputs["fraction"] = torch.full((3,), 0.5).double()
    time = 10 ** runs.predict("ttt", position, inputs)
    plain = 10 ** equation.predict("ttt", position[:3], inputs)
    assert (time - plain).tolist() == pytest.approx([10.0, 0.0, 10.0])


def test_offsets_leave_the_population_prior_as_it_is():
    base = TaskPriors(
        torch.tensor([[0.5, -1.0]]).double(), torch.tensor([[1.0, 0.3], [0.3, 2.0]]).double(),
        torch.tensor([[6.0, 0.8]]).double(), torch.tensor([0.2, 0.8]).double(), 0.1, 4.0,
    )  # fmt: skip
    longer = append_offsets(base, 2)
    point = torch.tensor([[[0.1, 0.2, 1.0, -2.0]]]).double()
    expected = base.log_components(point[..., :2]) - (1 + 4) / 2 - math.log(2 * math.pi)
    torch.testing.assert_close(longer.log_components(point), expected)
    assert longer.component(0)[1][0].diagonal().tolist() == pytest.approx([6.0, 12.0, 1.0, 1.0])
    assert longer.half_width(0.9)[0, 2:].tolist() == pytest.approx([1.645, 1.645], abs=1e-3)
    # nothing measured: the posterior of the offsets is their prior
    nothing = torch.zeros(1, 1).double()
    tasks = Tasks.of(lambda z, columns: z[..., 0] - columns["target"], {"target": nothing}, nothing)
    found = sample_posterior(tasks, longer, draws=4000, proposals=20_000)
    assert found.draws[0, :, 2:].std(0).tolist() == pytest.approx([1.0, 1.0], abs=0.05)


def test_the_commands_options(population, tmp_path):
    population.save(tmp_path / "p.json")
    data = observations(1, runs=2, points=5, seed=5)
    rows = data.points.rename(columns={"fraction": "ttt_fraction"}).drop(columns=["line", "sigma"])
    rows.to_csv(tmp_path / "d.csv", index=False)
    data.alloys.to_csv(tmp_path / "a.csv", index=False)
    files = ["--prior", "p.json", "--data", "d.csv", "--alloys", "a.csv", "--out", "c"]
    files = [str(tmp_path / part) if "." in part or part == "c" else part for part in files]
    call = ["kinetics", "calibrate", *files, "--robust", "--offset-temperature", "4"]
    result = CliRunner().invoke(cli, [*call, "--offset-time", "1"], catch_exceptions=False)
    assert result.exit_code == 0
    found = pd.read_csv(tmp_path / "c" / "A0" / "parameters.csv")["parameter"].tolist()
    assert "temperature_offset_K of run run 1" in found
    assert "time_offset_s of run run 0" in found
    assert "weight" in pd.read_csv(tmp_path / "c" / "A0" / "observations.csv")
    record = json.loads((tmp_path / "c" / "A0" / "calibration.json").read_text())
    assert record["error_dof_of_points"] == ROBUST_DOF
    rows.drop(columns="run").to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(MatmlError, match="needs the column 'run'"):
        CliRunner().invoke(cli, call, catch_exceptions=False)
