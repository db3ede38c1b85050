"""The prior that calibration uses: features, noise, the measured range, a check by MCMC."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch

from matml.bayes.empirical_bayes import learn_prior
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.kinetics.data.batch import Features, residual_function, to_tasks
from matml.kinetics.equations import equation_named
from matml.kinetics.inference.composition_prior import (
    learn_composition_prior,
    set_noise,
)
from matml.kinetics.inference.population import generic_prior, learn_gaussian
from matml.kinetics.inference.predict import predict_draws

ALLOYS = pd.DataFrame(
    {
        "alloy": ["A", "B", "C"],
        "C_wt_pct": [0.25, 0.36, 0.49],
        "Mn_wt_pct": [1.0, 1.0, 1.0],
        "Cr_wt_pct": [4.0, np.nan, 16.0],
        "grain_size_ASTM": [5.0, np.nan, 9.0],
    }
)


def test_features_are_roots_in_units_of_their_spread():
    features = Features.learn(ALLOYS)
    assert features.columns == ["C_wt_pct", "Cr_wt_pct", "grain_size_ASTM"]  # Mn tells nothing
    values = features.of(ALLOYS)
    # roots 0.5, 0.6, 0.7: their spread is below the smallest difference that counts
    expected = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(values[:, 0], expected)
    roots = np.array([2.0, 0.0, 4.0])  # an element that is not given is not there
    torch.testing.assert_close(values[:, 1], torch.from_numpy((roots - 2) / roots.std()))
    torch.testing.assert_close(values[:, 2], torch.tensor([-1.0, 0.0, 1.0]).double())
    unknown = features.of(pd.DataFrame({"alloy": ["X"]}))
    assert unknown.isnan().all()


def jmak_tasks(count, noise, seed=0, points=12):
    """Alloys of one population whose noises differ by the factors `noise`."""
    equation = equation_named("jmak")
    generator = torch.Generator().manual_seed(seed)
    truth = 0.6 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    columns = {
        "temperature_K": torch.linspace(850, 950, points).double().repeat(count, 1),
        "reference_temperature_K": torch.full((count, points), 900.0, dtype=torch.float64),
        "fraction": torch.tensor([0.2, 0.5, 0.8]).double().repeat(count, points // 3),
    }
    clean = equation.predict("ttt", truth[:, None], columns)
    error = torch.randn(count, points, generator=generator, dtype=torch.float64)
    columns["target"] = clean + noise[:, None] * error
    return equation, truth, Tasks.of(residual_function(equation, "ttt"), columns)


def test_noise_is_found_and_its_spread_over_alloys_too():
    found = {}
    for spread in (0.0, 1.0):
        generator = torch.Generator().manual_seed(3)
        noise = 0.1 * (spread * torch.randn(60, generator=generator, dtype=torch.float64)).exp()
        _, truth, tasks = jmak_tasks(60, noise)
        one = torch.ones(1, dtype=torch.float64)
        unit = torch.eye(3).double()
        # pooled residuals that one misfitted alloy dominates: four times the noise
        priors = TaskPriors(0 * truth, 0.36 * unit, one.expand(60, 1), one, 0.4, 8.0)
        found[spread] = set_noise(tasks, priors, [None], seed=0)
    assert found[0.0].noise == pytest.approx(0.1)
    assert 0.06 <= found[1.0].noise <= 0.15
    assert found[1.0].noise_dof == 2.0
    assert found[0.0].noise_dof > found[1.0].noise_dof


def test_draws_beyond_the_measured_range_count_as_its_end():
    equation = equation_named("jmak")
    draws = torch.zeros(1, 4, 3, dtype=torch.float64)
    draws[0, :, 0] = torch.tensor([-0.1, 0.0, 0.1, 40.0])  # the last: a half time of 10^60 s
    columns = {
        "temperature_K": torch.full((1, 1), 900.0, dtype=torch.float64),
        "reference_temperature_K": torch.full((1, 1), 900.0, dtype=torch.float64),
        "fraction": torch.full((1, 1), 0.5, dtype=torch.float64),
    }
    free = predict_draws(equation, "ttt", draws, 0.1, columns, 0)
    held = predict_draws(equation, "ttt", draws, 0.1, columns, 0, (0.0, 5.0))
    centre = float(equation.predict("ttt", draws[0, 1], {k: c[0] for k, c in columns.items()}))
    assert float(free[0]) > 12
    assert float(held[0]) == pytest.approx((3 * centre + 5) / 4, abs=1e-6)
    assert float(held[2]) <= 5


def test_importance_draws_agree_with_the_no_u_turn_sampler():
    pytest.importorskip("pyro", reason="the check by MCMC needs Pyro (matml[mcmc])")
    from matml.kinetics.inference.nuts import nuts_draws

    _, _, tasks = jmak_tasks(2, torch.full((2,), 0.1).double())
    few = tasks.pick(torch.tensor([0, 1]), torch.tensor([[0, 1], [4, 11]]))
    share = torch.tensor([0.2, 0.8], dtype=torch.float64)
    priors = TaskPriors(
        torch.zeros(2, 3).double(),
        0.36 * torch.eye(3).double(),
        torch.tensor([[6.0, 0.8]]).double().expand(2, 2),
        share,
        0.1,
        4.0,
    )
    mine = sample_posterior(few, priors, draws=4000, proposals=40_000)
    draws, noise = nuts_draws(few, priors, mine.fit, draws=600, warmup=200)
    spread = mine.draws.std(1)
    assert ((draws.mean(1) - mine.draws.mean(1)).abs() < 0.25 * spread).all()
    assert (draws.std(1) / spread - 1).abs().max() < 0.3
    assert (noise.quantile(0.5, dim=1) / mine.noise.quantile(0.5, dim=1) - 1).abs().max() < 0.2


def test_composition_is_used_where_it_tells(simulated):
    from matml.kinetics.data.observations import read_observations

    folder = simulated / "ttt"
    observations = read_observations(folder / "observations.csv", folder / "alloys.csv")
    equation = equation_named("c_curve")
    tasks = to_tasks(observations, equation)
    learned = learn_prior(tasks, generic_prior(equation, "ttt"), rounds=15)
    arguments = equation, "ttt", tasks, learned, observations.alloys
    told = learn_composition_prior(*arguments, 2.0, 0)
    plain = learn_composition_prior(*arguments, 2.0, 0, use_composition=False)
    # simulated from composition by Li's equation: the composition must tell
    assert told.prior.amplitude > 0
    assert plain.prior.amplitude == 0
    assert plain.features.columns == []
    shape = told.prior.covariance.logdet(), plain.prior.covariance.logdet()
    assert shape[0] < shape[1]


@pytest.mark.parametrize(("whole", "most_bias"), [(True, 0.04), (False, 0.05)])
def test_learned_from_forty_alloys_the_intervals_of_others_cover(whole, most_bias):
    """Fractions of 40 simulated alloys teach the prior; 400 others have ten observations each.

    Times follow the transformation from 5 to 95 %, as the likelihood takes them to do, or stand
    near 20, 50 and 80 % only, which biases the exponent a little (0.043 of its spread).
    """
    noise = torch.full((440,), 0.03, dtype=torch.float64)
    equation, truth, tasks = jmak_tasks(440, 0 * noise, seed=8, points=18)
    columns = dict(tasks.columns)
    generator = torch.Generator().manual_seed(1)
    jitter = torch.randn(440, 18, generator=generator, dtype=torch.float64)
    if whole:
        aimed = 0.05 + 0.9 * torch.rand(440, 18, generator=generator, dtype=torch.float64)
        columns["target"] = equation.predict("ttt", truth[:, None], columns | {"fraction": aimed})
    columns["time_s"] = 10 ** (columns["target"] + 0.05 * jitter)
    clean = equation.predict("fraction", truth[:, None], columns)
    jitter = torch.randn(440, 18, generator=generator, dtype=torch.float64)
    columns["target"] = clean + noise[:, None] * jitter
    everything = Tasks.of(residual_function(equation, "fraction"), columns)
    names = [f"alloy {i}" for i in range(40)]
    alloys = pd.DataFrame({"alloy": names, "composition_group": names})
    gaussian = learn_gaussian(everything[:40], generic_prior(equation, "fraction"), 2.0, 40)
    learned = learn_composition_prior(
        equation, "fraction", everything[:40], gaussian, alloys, 2.0, 0
    )
    rows = torch.arange(40, 440)
    picks = torch.stack([torch.randperm(18, generator=generator)[:10] for _ in rows])
    unknown = torch.zeros(400, 0, dtype=torch.float64)
    posterior = sample_posterior(everything.pick(rows, picks), learned.prior.of(unknown), draws=400)
    ends = torch.tensor([0.05, 0.95], dtype=torch.float64)
    low, high = posterior.draws.quantile(ends, dim=1)
    covered = ((low <= truth[40:]) & (truth[40:] <= high)).double().mean(0)
    # 400 intervals of 90 %: two standard errors are 0.03
    assert (covered - 0.9).abs().max() < 0.05
    bias = (posterior.draws.mean(1) - truth[40:]).mean(0) / truth[40:].std(0)
    assert bias.abs().max() < most_bias


def test_without_pyro_the_check_says_what_to_install(monkeypatch):
    from matml.core.errors import MatmlError
    from matml.kinetics.inference.nuts import nuts_draws

    monkeypatch.setitem(sys.modules, "pyro", None)
    with pytest.raises(MatmlError, match=r"pip install 'matml\[mcmc\]'"):
        nuts_draws(None, None, None)
