import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from matml.bayes.mixed_effects import (
    Marginal,
    MixedModel,
    TaskData,
    effects_at,
    learn_effects,
    posterior_of,
)

LINE = MixedModel(lambda z, c: z[..., 0] + z[..., 1] * c["x"], (True, True), correlated=True)


def lines(tasks=30, observations=4, seed=0, spread=(0.5, 0.3), noise=0.2, proportional=0.0):
    """Return lines whose slope depends on a covariate, and their population's mean."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 3, (tasks, observations))
    covariate = random.normal(0, 1, tasks)
    beta = np.array([4.0, 1.0, 0.6])
    design = np.zeros((tasks, 2, 3))
    design[:, 0, 0] = design[:, 1, 1] = 1
    design[:, 1, 2] = covariate
    z = design @ beta + random.normal(0, 1, (tasks, 2)) * spread
    clean = z[:, :1] + z[:, 1:] * x
    deviation = np.sqrt(noise**2 + (proportional * clean) ** 2)
    y = clean + random.normal(0, 1, x.shape) * deviation
    columns = {name: torch.from_numpy(value) for name, value in (("x", x), ("measured", y))}
    mask, offset = torch.ones(tasks, observations).double(), torch.zeros(tasks, 2).double()
    return TaskData(columns, mask, offset, torch.from_numpy(design)), torch.from_numpy(z), beta


def test_the_likelihood_of_linear_tasks_is_the_multivariate_normal():
    data, _, beta = lines(tasks=5)
    data.mask[2, 3] = 0
    at = torch.tensor([*beta, math.log(0.5), math.log(0.3), 0.1, math.log(0.2)])
    effects = effects_at(LINE, at.double(), 3)
    with torch.no_grad():
        found = Marginal(LINE, data).of_each(effects)
    for i in range(5):
        keep = data.mask[i] > 0
        rows = torch.stack([torch.ones(4).double(), data.columns["x"][i]], 1)[keep]
        half = rows @ effects.factor
        normal = torch.distributions.MultivariateNormal(
            rows @ (data.design[i] @ effects.beta),
            half @ half.T + 0.04 * torch.eye(int(keep.sum())).double(),
        )
        expected = normal.log_prob(data.columns["measured"][i][keep])
        assert float(found[i]) == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize("noise", ["constant", "proportional", "combined"])
@pytest.mark.parametrize("correlated", [False, True])
def test_the_gradient_of_the_likelihood_is_exact(noise, correlated):
    def predict(z, c):
        return z[..., 0].exp() * torch.exp(-z[..., 1].exp() * c["x"])

    data, _, _ = lines(tasks=6)
    z = torch.tensor([1.0, -1.0]).double() + 0.2 * torch.randn(6, 2).double()
    clean = predict(z[:, None].expand(-1, 4, -1), data.columns)
    columns = data.columns | {
        "measured": clean * 1.1,
        "kind": (data.columns["x"] > 1.5).double(),
    }
    data = replace(data, columns=columns)
    model = MixedModel(predict, (True, True), noise, correlated, kinds=2)
    marginal = Marginal(model, data)
    size = 3 + 2 + correlated + 2 * (1 + (noise == "combined"))
    at = torch.linspace(-1.6, -1.2, size).double()
    at[:3] = torch.tensor([1.0, -1.0, 0.1])

    def value(point):
        return marginal.of_each(effects_at(model, point, 3)).sum()

    free = at.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(free), free)
    for k in range(size):
        step = torch.zeros(size).double()
        step[k] = 1e-4
        with torch.no_grad():
            slope = float(value(at + step) - value(at - step)) / 2e-4
        assert float(gradient[k]) == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_a_population_with_a_covariate_and_a_fixed_effect_is_learned_with_its_errors():
    """The slope varies with its covariate only; its coefficient and errors come out."""
    estimates, errors = [], []
    for seed in range(8):
        data, _, beta = lines(tasks=40, seed=seed, spread=(0.5, 0.0), noise=0.1, proportional=0.1)
        model = replace(LINE, varies=(True, False), noise="combined", correlated=False)
        learned = learn_effects(model, data, torch.tensor([3.0, 0.0, 0.0]).double())
        assert learned.converged
        assert float(learned.spread[1]) == 0
        estimates.append(learned.beta.numpy())
        errors.append(learned.errors[:3].numpy())
    bias = np.abs(np.mean(estimates, 0) - beta)
    spread, told = np.std(estimates, axis=0, ddof=1), np.mean(errors, 0)
    assert (bias < 3.5 * spread / math.sqrt(8)).all()
    # a standard deviation of eight is itself known to about a quarter
    assert spread / told == pytest.approx(np.ones(3), abs=0.75)


def test_one_task_and_nothing_that_varies_are_refused():
    data, _, _ = lines(tasks=3)
    beta = torch.zeros(3).double()
    with pytest.raises(ValueError, match="at least 2"):
        learn_effects(LINE, data[:1], beta)
    with pytest.raises(ValueError, match="let at least one vary"):
        learn_effects(replace(LINE, varies=(False, False)), data, beta)


def test_too_few_iterations_are_told(caplog):
    data, _, _ = lines()
    learned = learn_effects(LINE, data, torch.zeros(3).double(), iterations=2, with_errors=False)
    assert not learned.converged
    assert "not learned to the end" in caplog.text


@pytest.mark.parametrize("known", [0, 1, 3])
def test_posteriors_are_calibrated_by_simulation(known):
    """Ranks of true parameters among their posterior's draws are uniform (Talts et al. 2018)."""
    data, z, beta = lines(tasks=400, noise=0.1, proportional=0.1, seed=7)
    data.mask[:, known:] = 0
    model = replace(LINE, noise="combined", correlated=False)
    at = torch.tensor([*beta, math.log(0.5), math.log(0.3), math.log(0.1), math.log(0.1)])
    draws = posterior_of(model, effects_at(model, at.double(), 3), data, draws=200).draws
    ranks = (draws < z[:, None]).double().mean(1).numpy()
    for parameter in range(2):
        counts = np.histogram(ranks[:, parameter], 10, (0, 1 + 1e-9))[0]
        # of chi-squared with nine degrees of freedom, one in a thousand is above 27.9
        assert ((counts - 40) ** 2 / 40).sum() < 27.9
