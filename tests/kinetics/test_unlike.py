"""Alloys unlike the population, or without one: the prior can be outvoted, and that is said."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.cli.main import cli
from matml.core.errors import MatmlError
from matml.core.files import read_json
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import read_observations
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.calibrate import calibrate, held_out_scores
from matml.kinetics.inference.composition_prior import FAR_K, MEASURABLE, UNLIKE_NOISE_DOF
from matml.kinetics.inference.population import Population, learn_population


def lines(slopes):
    """Return tasks y = z0 + z1 x of five observations each."""
    x = torch.linspace(-1, 1, 5, dtype=torch.float64).expand(len(slopes), -1)
    y = torch.tensor(slopes, dtype=torch.float64)[:, None] * x
    return Tasks.of(lambda z, c: z[..., 0] + z[..., 1] * c["x"] - c["y"], {"x": x, "y": y})


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_the_probability_of_being_unlike_is_that_of_bayes_theorem(share):
    """Against the closed form of linear models: two normals' evidences."""
    slopes, noise = [0.0, 0.25, 0.4, 0.6, 3.0], 0.1
    narrow, wide = torch.eye(2).double() * 0.04, torch.eye(2).double()
    prior = TaskPriors.normal(GaussianPrior(torch.zeros(2).double(), narrow, noise), len(slopes))
    generic = GaussianPrior(torch.tensor([0.0, 0.5]).double(), wide, noise)
    shares = torch.full((len(slopes),), share, dtype=torch.float64)
    mixed = prior.with_generic(generic, shares, [(1.0, 1.0)])
    tasks = lines(slopes)
    found = sample_posterior(tasks, mixed, proposals=20_000).generic
    design = torch.stack([torch.ones(5).double(), tasks.columns["x"][0]], 1)
    for row, target in enumerate(tasks.columns["y"]):
        evidence = []
        for mean, covariance in ((torch.zeros(2).double(), narrow), (generic.mean, wide)):
            total = design @ covariance @ design.T + noise**2 * torch.eye(5).double()
            normal = torch.distributions.MultivariateNormal(design @ mean, total)
            evidence.append(float(normal.log_prob(target)))
        odds = share / (1 - share) * math.exp(evidence[1] - evidence[0])
        assert float(found[row]) == pytest.approx(odds / (1 + odds), rel=0.05, abs=2e-3)


def test_without_the_generic_part_a_prior_is_what_was_learned():
    prior = TaskPriors.normal(GaussianPrior(torch.zeros(2).double(), torch.eye(2).double(), 0.1), 3)
    generic = GaussianPrior(torch.ones(2).double(), torch.eye(2).double(), 0.1)
    mixed = prior.with_generic(generic, torch.full((3,), 0.4).double(), [(4.0, 0.2), (1.0, 0.8)])
    points = torch.randn(3, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for found, expected in ((mixed.without_generic(), prior), (prior.without_generic(), prior)):
        torch.testing.assert_close(found.log_components(points), expected.log_components(points))
        torch.testing.assert_close(found.log_probabilities, expected.log_probabilities)


def fractions(half_time, energy, exponent, times, kelvins):
    rate = energy * 1000 / 8.314462618
    return [
        (t, s, 1 - math.exp(-math.log(2) * (s / half) ** exponent))
        for t in kelvins
        for half in [half_time * math.exp(rate * (1 / t - 1 / 1173.15))]
        for s in half * np.array(times)
    ]


def write(folder, alloys):
    """Write fractions of alloys by name; returns them as observations."""
    path, table = folder / "x.csv", folder / "alloys.csv"
    text = [f"{name},{t},{s:.6g},{f:.5f}" for name, rows in alloys.items() for t, s, f in rows]
    path.write_text("alloy,temperature_K,time_s,fraction_transformed\n" + "\n".join(text))
    lines = [f"{name},1173.15" for name in alloys]
    table.write_text("alloy,reference_temperature_K\n" + "\n".join(lines))
    return read_observations(path, table)


KELVINS, TIMES = (1100.0, 1173.15, 1250.0), (0.3, 0.6, 1.0, 1.4, 2.0)


@pytest.fixture(scope="module")
def alike(tmp_path_factory):
    """Population of twelve alloys that hardly differ."""
    folder, rng = tmp_path_factory.mktemp("alike"), np.random.default_rng(5)
    alloys = {}
    for i in range(12):
        values = 300 * math.exp(rng.normal(0, 0.3)), rng.normal(200, 10), rng.normal(1.5, 0.1)
        rows = fractions(*values, TIMES, KELVINS)
        alloys[f"A{i}"] = [(t, s, f + rng.normal(0, 0.02)) for t, s, f in rows]
    found = write(folder, alloys)
    return learn_population(
        found, equation_named("jmak"), 2.0, 0, held_out=[], origin=folder / "x.csv"
    )[0]


def test_an_alloy_unlike_the_population_is_fitted_as_it_is_and_that_is_said_first(alike, tmp_path):
    truth = {"half_time_s": 5.0, "activation_energy_kJ_mol": 420.0, "avrami_exponent": 3.0}
    rows = fractions(*truth.values(), TIMES, KELVINS)
    everything = write(tmp_path, {"X": rows})
    few = everything.keep(np.arange(len(rows)) % 2 == 0)
    result = calibrate(alike, few, "X", 0)
    # before all but where it lies
    said = [note for note in result.notes if not note.startswith("outside of what")]
    assert said[0].startswith("the observations speak against the population")
    assert held_out_scores(result, everything)["rmse"] < 0.03
    table = result.parameters().set_index("parameter")
    for name, value in truth.items():
        assert table.loc[name, "low_90"] < value < table.loc[name, "high_90"]
    # what was learned alone pulls it to itself
    priors = alike.prior.of(few.alloys, like_the_learned=True)
    task = to_tasks(few, alike.equation, 1173.15)
    learned = sample_posterior(task, priors, draws=500).draws[0].quantile(0.5, dim=0)
    pulled = float(alike.equation.values(learned)["avrami_exponent"])
    assert pulled < table.loc["avrami_exponent", "median"] - 0.05


def test_an_alloy_like_the_population_is_not_called_unlike(alike, tmp_path):
    usual = write(tmp_path, {"X": fractions(250.0, 205.0, 1.55, TIMES[:3], KELVINS[:2])})
    assert not any("speak against" in note for note in calibrate(alike, usual, "X", 0).notes)


def test_own_observations_open_the_window(learned_steels):
    observations, population = learned_steels
    name = population.held_out[0]
    low, high = population.prior.window
    usual = observations.select([name])
    fast = usual.keep(np.arange(len(usual.points)) < 6)
    fast.points["time_s"] = 10 ** (low - 2 + 0.3 * np.arange(6))
    assert [float(end) for end in calibrate(population, usual, name, 0).window] == [low, high]
    assert float(calibrate(population, fast, name, 0).window[0]) == -math.inf
    fast.points["time_s"] = 10 ** (low - 0.3 * np.arange(6) / 6)
    assert float(calibrate(population, fast, name, 0).window[0]) == MEASURABLE["ttt"][0]


def test_what_lies_far_outside_is_taken_for_unlike_before_anything_is_measured(learned_steels):
    observations, population = learned_steels
    prior, one = population.prior, observations.select(population.held_out[:1])
    usual = 1 / (population.data_card["composition_groups"] + 2)
    assert float(prior.unlike(one.alloys)) == pytest.approx(usual)
    unknown = pd.DataFrame({"alloy": ["X"]})
    assert float(prior.unlike(unknown)) == pytest.approx(usual)
    shares = [
        float(prior.unlike(one.alloys.assign(Cr_wt_pct=amount))) for amount in (1.2, 3, 6, 12, 25)
    ]
    assert shares == sorted(shares)
    assert shares[0] < usual + 0.01 < 0.5 < shares[3]
    task = to_tasks(one, population.equation, None)
    assert float(prior.unlike(one.alloys, task)) == pytest.approx(usual, abs=0.01)
    assert prior.of(one.alloys, task).noise_dof == population.prior.prior.noise_dof
    hot = one.keep(np.arange(len(one.points)) < 4)
    hot.points["temperature_K"] = prior.temperature_K[1] + 1.5 * FAR_K
    hot_task = to_tasks(hot, population.equation, None)
    assert float(prior.unlike(one.alloys, hot_task)) > 0.99
    # its noise is another one's, too
    assert prior.of(one.alloys, hot_task).noise_dof <= UNLIKE_NOISE_DOF
    notes = calibrate(population, hot, one.names[0], 0).notes
    assert any("composition or temperatures lie far outside" in note for note in notes)


def test_no_time_is_expected_that_nobody_measures(learned_steels):
    observations, population = learned_steels
    generic = Population.generic(population.equation, "ttt")
    one = observations.select(population.held_out[:1])
    few = one.keep(np.arange(len(one.points)) < 2)
    assert calibrate(generic, few, few.names[0], 0).window == MEASURABLE["ttt"]
    few.points["time_s"] = 1e8
    assert [float(end) for end in calibrate(generic, few, few.names[0], 0).window] == [
        MEASURABLE["ttt"][0],
        math.inf,
    ]


def run(*arguments):
    return CliRunner().invoke(cli, ["kinetics", *map(str, arguments)], catch_exceptions=False)


def test_one_alloy_is_calibrated_without_any_population(tmp_path):
    kissinger = equation_named("kissinger")
    truth = {"activation_energy_kJ_mol": 240.0, "peak_at_10_K_per_min_K": 817.0}
    rates = np.array([5.0, 10.0, 20.0, 40.0])
    peaks = kissinger.predict(
        "peak_temperature",
        kissinger.standardise(truth),
        {"heating_rate_K_per_s": torch.from_numpy(rates / 60)},
    )
    noise = np.random.default_rng(1).normal(0, 1.0, 4)
    rows = [
        f"A1,{r:g},{float(p) - 273.15 + e:.1f}" for r, p, e in zip(rates, peaks, noise, strict=True)
    ]
    data = tmp_path / "mine.csv"
    data.write_text("alloy,heating_rate_K_per_min,peak_temperature_C\n" + "\n".join(rows) + "\n")
    run("calibrate", "--equation", "kissinger", "--data", data, "--out", tmp_path / "c")
    table = pd.read_csv(tmp_path / "c/A1/parameters.csv").set_index("parameter")
    for name, value in truth.items():
        assert table.loc[name, "low_90"] < value < table.loc[name, "high_90"]
        assert table.loc[name, "determined_by"] == "data"
    notes = read_json(tmp_path / "c/A1/calibration.json")["notes"]
    assert notes[0].startswith("no population: the prior is generic")
    assert "60 to 600 kJ/mol" in notes[0]
    assert not any("speak against" in note for note in notes)
    assert (tmp_path / "c/A1/curve.png").stat().st_size > 10_000
    both = "--prior", data, "--equation", "kissinger"
    for options, message in (
        ((), "give --prior.*--equation NAME"),
        (both, "--prior .*csv and --equation kissinger were both given"),
    ):
        with pytest.raises(MatmlError, match=message):
            run("calibrate", *options, "--data", data, "--out", tmp_path / "c")


def test_a_single_temperature_is_its_own_reference(tmp_path):
    data, out = tmp_path / "hold.csv", tmp_path / "c"
    rows = "".join(f"A1,650,{s},{f}\n" for s, f in ((50, 0.1), (100, 0.3), (300, 0.8)))
    data.write_text(f"alloy,temperature_C,time_s,fraction_transformed\n{rows}")
    run("calibrate", "--equation", "jmak", "--data", data, "--out", out)
    assert read_json(out / "A1/calibration.json")["reference_temperature_K"] == 923.15
    table = pd.read_csv(out / "A1/parameters.csv").set_index("parameter")
    assert table.loc["half_time_s", "description"].endswith("reference temperature, 923.15 K")
    assert 100 < table.loc["half_time_s", "median"] < 300
    CliRunner().invoke(cli, ["report", str(out)], catch_exceptions=False)
    assert "half time at 650 °C" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("equation", "header", "rows"),
    [
        (
            "kissinger",
            "heating_rate_K_per_min,peak_temperature_C",
            ("10,544", "10,560", "10,530", "10,551"),
        ),
        (
            "jmak",
            "temperature_C,time_s,fraction_transformed",
            ("600,100,0.4", "600,200,0.3", "650,100,0.6", "620,90,0.5"),
        ),
    ],
)
def test_one_observation_an_alloy_is_enough_to_learn(tmp_path, equation, header, rows):
    data = tmp_path / "data.csv"
    body = "".join(f"{name},{row}\n" for name, row in zip("ABCD", rows, strict=True))
    data.write_text(f"alloy,{header}\n{body}")
    run("learn", "--data", data, "--equation", equation, "--held-out", 0, "--out", tmp_path)
    learned = read_json(tmp_path / "learn.json")
    assert learned["training_alloys"] == 4
    assert all(math.isfinite(p["median"]) for p in learned["parameters"])
