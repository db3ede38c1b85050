"""Simulation, populations, meta-learning and recovery of known truth."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.bayes.empirical_bayes import learn_prior
from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import read_json, read_table
from matml.core.integrity.formats import sealed
from matml.kinetics.data.batch import residual_function, to_tasks
from matml.kinetics.data.observations import Observations, read_observations
from matml.kinetics.data.simulate import simulate_jmak, simulate_ttt
from matml.kinetics.equations import equation_named
from matml.kinetics.evaluation.benchmark import (
    METHODS,
    draw_points,
    grouped_folds,
    score_alloys,
)
from matml.kinetics.evaluation.gradient_start import EquationModule, PseudoHuberLoss, meta_learn
from matml.kinetics.evaluation.methods import DEFAULT, GRADIENT_METHODS, MEAN
from matml.kinetics.evaluation.scores import summarise, weighted_mean, weighted_median
from matml.kinetics.inference.calibrate import calibrate, pick_points
from matml.kinetics.inference.population import (
    FORMAT,
    Population,
    TrainingAlloys,
    generic_prior,
    split_groups,
)
from matml.kinetics.pipeline import one_per_group
from matml.kinetics.settings import KineticsSection, KineticsSimulation
from matml.meta import GradientSteps


def read(folder, name):
    return read_observations(folder / name / "observations.csv", folder / name / "alloys.csv")


@pytest.fixture(scope="module")
def learned(learned_steels):
    return learned_steels


@pytest.fixture(scope="module")
def scored(simulated, quick):
    """Settings, and scores of each alloy of the simulated TTT set."""
    settings = quick.model_copy(update={"meta_batches": 4})
    equation = equation_named("c_curve")
    return settings, score_alloys(read(simulated, "ttt"), equation, settings, seed=0)


def test_simulations_are_labelled_and_follow_the_seed():
    settings = KineticsSimulation()
    for simulate in (simulate_jmak, simulate_ttt):
        first, again, other = simulate(settings, 1), simulate(settings, 1), simulate(settings, 2)
        pd.testing.assert_frame_equal(first.observations, again.observations)
        assert not first.observations.equals(other.observations)
        assert first.observations["simulated"].all()
        assert first.description["simulated"] is True
        assert first.description["seed"] == 1
        assert "sd" in first.description["noise"]


def test_simulated_steels_are_at_least_twenty_with_three_curves():
    simulation = simulate_ttt(KineticsSimulation(), 0)
    assert len(simulation.alloys) >= 20
    assert set(simulation.observations["ttt_fraction"]) == {0.01, 0.5, 0.99}


def test_noiseless_simulation_returns_the_published_parameters():
    settings = KineticsSimulation(fraction_noise=0.0, conditions=1)
    simulation = simulate_jmak(settings, 0)
    row = simulation.truth.iloc[0]
    points = simulation.observations[simulation.observations["alloy"] == row["alloy"]]
    reference = simulation.alloys["reference_temperature_K"].iloc[0]
    kelvin = points["temperature_C"] + 273.15
    local = row["half_time_s"] * np.exp(
        row["activation_energy_kJ_mol"] * 1e3 / 8.314462618 * (1 / kelvin - 1 / reference)
    )
    expected = 1 - np.exp(-np.log(2) * (points["time_s"] / local) ** row["avrami_exponent"])
    assert points["fraction_transformed"].to_numpy() == pytest.approx(expected, abs=1e-3)
    assert row["activation_energy_kJ_mol"] == 163.5  # S355, from its table


def test_batched_adaptation_equals_the_inner_loop_of_meta(simulated):
    observations = read(simulated, "ttt")
    equation = equation_named("c_curve")
    tasks = to_tasks(observations, equation)
    result, history = meta_learn(
        equation,
        "ttt",
        tasks,
        generic_prior(equation, "ttt"),
        method="meta_sgd",
        shots=[3],
        steps=4,
        rate=0.2,
        batches=2,
        tasks_per_batch=2,
        seed=0,
    )
    assert len(history.train_loss) > 1
    assert result.rates.shape == (5,)
    module = EquationModule(equation, "ttt", result.start, result.factor)
    inner = GradientSteps(module, steps=4, learning_rate=0.2, largest_gradient=10.0)
    task = tasks.pick(torch.tensor([1, 2]), torch.tensor([[0, 7, 20], [3, 9, 30]]))
    plain = replace(result, rates=torch.full((5,), 0.2).double())
    together = plain.adapt(equation, "ttt", task)
    for row in range(2):
        columns = {name: column[row] for name, column in task.columns.items()}
        fast = inner.adapt(module, PseudoHuberLoss(result.scale), columns).parameters
        adapted = result.start + result.factor @ fast["position"].detach()
        torch.testing.assert_close(together[row], adapted)


@pytest.mark.parametrize("method", ["maml", "cavia"])
def test_meta_training_lowers_the_query_loss(simulated, method):
    tasks = to_tasks(read(simulated, "ttt"), equation_named("c_curve"))
    options = {"shots": [3], "steps": 2, "rate": 0.1, "tasks_per_batch": 4, "seed": 1}
    equation = equation_named("c_curve")
    # from the generic start, and not the population's, there is more to learn
    prior = generic_prior(equation, "ttt")
    rows, picks = draw_points(tasks.counts(), 3, 2, 9)
    support = tasks.pick(rows, picks)

    def loss(result):
        position = result.adapt(equation, "ttt", support)
        whole = tasks[rows]
        value = whole.residual(position[:, None], whole.columns)
        return float((whole.mask * value.square()).mean())

    first, result = (
        meta_learn(equation, "ttt", tasks, prior, method=method, batches=batches, **options)[0]
        for batches in (1, 25)
    )
    before, after = loss(first), loss(result)
    assert after < 0.7 * before
    if method == "cavia":
        # alloys differ along the directions of two context parameters alone
        moved = result.adapt(equation, "ttt", support) - result.start
        assert torch.linalg.matrix_rank(moved, rtol=1e-6) == 2


def test_population_survives_its_file(learned, tmp_path):
    _, population = learned
    path = tmp_path / "population.json"
    population.save(path)
    again = Population.load(path)
    assert again.prior.to_record() == population.prior.to_record()
    assert again.held_out == population.held_out
    # up to rounding: the prior of an alloy follows from a linear solve
    described = (pd.DataFrame(what.describe()) for what in (again, population))
    pd.testing.assert_frame_equal(*described, rtol=1e-9)
    assert again.describe()[1]["unit"] == "K"
    stored = json.loads(path.read_text())
    assert stored["parameters"][1]["name"] == "nose_temperature_K"
    assert stored["data_card"]["simulated"] is True
    # nothing stands in the file that a new alloy is not calibrated by: see the module's docstring
    assert "mean" not in stored
    assert "meta_learned" not in stored


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matml": "0.0"}, "checksum differs.*`matml kinetics learn --data .*csv"),
        ({"parameters": None}, "damaged"),
        ({"prior": None}, "damaged"),
        ({"prior": {"noise": -1}}, "are positive"),
        ({"prior": {"centre": [float("nan")] * 5}}, "not finite"),
        ({"prior": {"centre": [0.0] * 4}}, "do not fit"),
        ({"prior": {"covariance": [[1.0] * 5] * 5}}, "positive definite"),
        ({"equation": "avrami"}, "unknown"),
        ({"equation": "jmak"}, "does not describe|other parameters"),
    ],
)
def test_a_damaged_population_is_refused(learned, tmp_path, change, message):
    path = tmp_path / "population.json"
    learned[1].save(path)
    stored = read_json(path, FORMAT)
    if change.get("prior"):
        change = {"prior": stored["prior"] | change["prior"]}
    if "matml" in change:
        path.write_text(json.dumps(read_json(path) | change))
    else:
        # sealed anew, NaN and all
        path.write_text(json.dumps(sealed(stored | change, FORMAT)))
    with pytest.raises(MatmlError, match=message):
        Population.load(path)


def test_calibration_of_a_held_out_alloy(learned):
    observations, population = learned
    name = population.held_out[0]
    result = calibrate(population, pick_points(observations, name, 5, 0), name, seed=0)
    table = result.parameters().set_index("parameter")
    assert (table["low_90"] < table["median"]).all()
    assert (table["median"] < table["high_90"]).all()
    assert table.loc["nose_half_time_s", "determined_by"] == "data"
    assert table["unit"].tolist() == ["s", "K", "K", "K", ""]
    assert json.dumps(result.record(), allow_nan=False)


def test_one_point_says_what_is_not_determined(learned):
    observations, population = learned
    name = population.held_out[0]
    result = calibrate(population, pick_points(observations, name, 1, 0), name, seed=0)
    assert any("one observation" in note for note in result.notes)
    assert (result.parameters()["determined_by"] == "prior").sum() >= 2


def test_intervals_cover_the_truth_of_simulated_alloys():
    """80 alloys of a known population: learned from 40, the intervals of the other 40 cover."""
    equation = equation_named("jmak")
    generator = torch.Generator().manual_seed(5)
    spread = torch.tensor([0.6, 0.5, 0.5], dtype=torch.float64)
    truth = 0.2 + spread * torch.randn(80, 3, generator=generator, dtype=torch.float64)
    temperature = torch.tensor([860.0, 900.0, 940.0], dtype=torch.float64).repeat(4)[None]
    columns = {
        "temperature_K": temperature.repeat(80, 1),
        "reference_temperature_K": torch.full((80, 12), 900.0, dtype=torch.float64),
        "fraction": torch.full((80, 12), 0.5, dtype=torch.float64),
    }
    half = equation.predict("ttt", truth[:, None], columns)
    drawn = torch.rand(80, 12, generator=generator, dtype=torch.float64)
    columns["time_s"] = 10 ** (half + 0.8 * (drawn - 0.5))
    clean = equation.predict("fraction", truth[:, None], columns)
    noise = 0.03 * torch.randn(80, 12, generator=generator, dtype=torch.float64)
    columns["target"] = clean + noise
    residual = residual_function(equation, "fraction")
    initial = GaussianPrior(equation.start(), torch.eye(3).double(), 0.1)
    everything = Tasks.of(residual, columns)
    prior = learn_prior(everything[:40], initial).prior
    assert prior.noise == pytest.approx(0.03, rel=0.15)
    new = everything.pick(torch.arange(40, 80), torch.arange(6).expand(40, 6))
    priors = TaskPriors.normal(prior, 40)
    draws = sample_posterior(new, priors, draws=400, proposals=2000).draws
    low, high = draws.quantile(torch.tensor([0.05, 0.95], dtype=torch.float64), dim=1)
    covered = ((low <= truth[40:]) & (truth[40:] <= high)).double().mean()
    assert 0.82 <= float(covered) <= 0.97  # 120 intervals of 90 %: two standard errors are 0.055


def test_groups_never_leak_and_draws_are_nested(simulated):
    observations = read(simulated, "jmak")
    group = observations.alloys.set_index("alloy")["composition_group"]
    folds = grouped_folds(observations, 4, seed=0)
    assert sorted(name for held in folds for name in held) == sorted(observations.names)
    for held in folds:
        training = set(observations.names) - set(held)
        assert not set(group[held]) & set(group[sorted(training)])
    training, held = split_groups(observations, 0.3, seed=0)
    assert not set(group[held]) & set(group[training])
    _, few = draw_points([9, 12], 2, 3, seed=1)
    _, many = draw_points([9, 12], 5, 3, seed=1)
    assert torch.equal(few, many[:, :2])
    assert draw_points([3], 2, 3, seed=1)[0].numel() == 0
    with pytest.raises(MatmlError, match="cannot make 50 folds"):
        grouped_folds(observations, 50, seed=0)


def test_benchmark_scores(scored):
    _, per_alloy = scored
    scores = summarise(per_alloy, "x", equation_named("c_curve"), "log10 s", seed=0)
    wide = scores[scores["metric"] == "rmse_mean"].pivot_table(
        index="method", columns="shots", values="value"
    )
    assert (wide.loc[DEFAULT] < wide.loc["least squares, generic start"]).all()
    assert (scores["low"] <= scores["value"]).all()
    assert (scores["value"] <= scores["high"]).all()
    own = scores[(scores["method"] == DEFAULT) & scores["is_default"]]
    coverage = own.loc[own["metric"] == "coverage_90", "value"]
    assert coverage.between(0.8, 0.98).all()


def test_the_command_prints_writes_and_repeats_the_scores(simulated, scored, tmp_path):
    """Whatever other shots are asked for, but of meta-trained methods, which learn for all."""
    _, before = scored
    (tmp_path / "kinetics.yaml").write_text(
        "{meta_batches: 1, meta_tasks: 2, shots: [2], draws: 2, folds: 2}"
    )
    folder, out = simulated / "ttt", tmp_path / "out"
    options = {
        "--data": folder / "observations.csv",
        "--alloys": folder / "alloys.csv",
        "--equation": "c_curve",
        "--config": tmp_path / "kinetics.yaml",
        "--out": out,
        "--json": tmp_path / "b.json",
        "--seed": 0,
    }
    call = ["kinetics", "benchmark", *(str(each) for pair in options.items() for each in pair)]
    done = CliRunner().invoke(cli, call, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "Gaussian prior, posterior mean" in done.output
    summary = read_json(out / "summary.json")
    assert (summary["simulated"], summary["seed"]) == (True, 0)
    assert "sd" in summary["noise"]
    (record, *_) = read_json(tmp_path / "b.json")
    assert set(record) == {
        *("benchmark", "setting", "method", "is_default", "shots", "metric", "value"),
        *("low", "high", "n_tasks", "seed"),
    }
    scores = read_table(out / "scores.csv")
    assert scores["is_default"].any()
    equation = equation_named("c_curve")
    expected = summarise(before[before["shots"] == 2], "x", equation, "log10 s", seed=0)
    means = [
        table[(table["metric"] == "rmse_mean") & ~table["method"].isin([*GRADIENT_METHODS, MEAN])]
        .set_index("method")["value"]
        .sort_index()
        for table in (scores, expected)
    ]
    assert len(means[0]) == 8
    pd.testing.assert_series_equal(*means)


def test_too_few_alloys_are_refused(simulated):
    observations = read(simulated, "jmak")
    with pytest.raises(MatmlError, match="at least 3"):
        split_groups(observations.select(observations.names[:2]), 0.2, 0)
    assert isinstance(observations, Observations)
    assert KineticsSection().folds >= 2


@pytest.mark.parametrize("name", ["jmak", "ttt"])
def test_adapting_beats_the_mean_of_the_training_alloys(simulated, scored, name, monkeypatch):
    settings, per_alloy = scored
    if name == "jmak":
        settings = settings.model_copy(update={"shots": [5]})
        equation = equation_named("jmak")
        # of these methods alone
        few = {method: METHODS[method] for method in (MEAN, *GRADIENT_METHODS)}
        monkeypatch.setattr("matml.kinetics.evaluation.benchmark.METHODS", few)
        monkeypatch.setattr(TrainingAlloys, "composition_prior", lambda *_, **__: None)
        per_alloy = score_alloys(read(simulated, "jmak"), equation, settings, seed=0)
    error = per_alloy[per_alloy["shots"] == 5].groupby("method")["rmse"].mean()
    assert (error[list(GRADIENT_METHODS)] < 0.9 * error[MEAN]).all()


@pytest.mark.parametrize("name", ["jmak", "c_curve"])
def test_gradients_of_fractions_do_not_vanish_far_from_the_data(name):
    equation = equation_named(name)
    columns = {
        "temperature_K": torch.tensor([900.0]).double(),
        "reference_temperature_K": torch.tensor([900.0]).double(),
        "time_s": torch.tensor([1e5]).double(),
        "target": torch.tensor([0.5]).double(),
    }

    def slopes(residual):
        start = equation.start().requires_grad_()
        return torch.autograd.grad(residual(start).sum(), start)[0].norm()

    # at 1000 half times the fraction is 1 for any parameters near the start
    assert slopes(lambda z: equation.predict("fraction", z, columns)) < 1e-6
    assert slopes(lambda z: equation.descent_residual("fraction", z, columns)) > 1
    half = columns | {
        "time_s": 10
        ** equation.predict("ttt", equation.start(), columns | {"fraction": columns["target"]})
    }
    assert equation.descent_residual("fraction", equation.start(), half).abs() < 1e-9


def test_weighted_averages_count_repeats():
    values, weights = np.array([3.0, 1.0, 2.0, 9.0]), np.array([[1, 1, 1, 1], [2, 0, 0, 3]])
    assert weighted_mean(values, weights) == pytest.approx([3.75, 33 / 5])
    assert weighted_median(values, weights) == pytest.approx([2.5, 9.0])


def test_near_twin_steels_share_a_group_and_one_of_a_group_is_shown(simulated):
    steels = read(simulated, "ttt")
    group = steels.alloys.set_index("alloy")["composition_group"]
    assert group["AISI 8640"] == group["AISI 8740"]
    assert group.nunique() == len(group) - 1
    assert one_per_group(steels, ["AISI 8740", "AISI 8640", "AISI 1030"]) == [
        "AISI 8740",
        "AISI 1030",
    ]
