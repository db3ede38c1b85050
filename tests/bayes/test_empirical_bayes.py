"""Hierarchical adaptation against closed forms of the linear-Gaussian case, and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.stats import multivariate_normal

from matml.bayes.empirical_bayes import (
    for_a_new_task,
    learn_prior,
    log_evidence,
    maximum_a_posteriori,
    predictive_variance,
)
from matml.bayes.gauss_newton import GaussianPrior, best_of, gauss_newton
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
FACTOR = torch.tensor([[1.0, 0, 0], [0.5, 0.7, 0], [-0.3, 0.2, 0.4]], dtype=torch.float64)
NOISE = 0.3


def linear_residual(z, columns):
    return (columns["design"] * z).sum(-1) - columns["y"]


def decay_residual(z, columns):
    return z[..., 0].exp() * torch.exp(-z[..., 1].exp() * columns["x"]) - columns["y"]


def linear_tasks(tasks=200, observations=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    z = MEAN + torch.randn(tasks, 3, generator=generator, dtype=torch.float64) @ FACTOR.T
    design = torch.randn(tasks, observations, 3, generator=generator, dtype=torch.float64)
    error = torch.randn(tasks, observations, generator=generator, dtype=torch.float64)
    y = (design @ z[..., None]).squeeze(2) + NOISE * error
    return z, Tasks.of(linear_residual, {"y": y, "design": design})


def test_map_evidence_and_prediction_equal_the_closed_form():
    _, tasks = linear_tasks(tasks=5)
    tasks.mask[3, 4:] = 0
    prior = GaussianPrior(MEAN, FACTOR @ FACTOR.T, NOISE)
    fit = maximum_a_posteriori(tasks, prior)
    evidence = log_evidence(fit, prior, tasks.weights(NOISE))
    for task in range(5):
        present = tasks.mask[task] > 0
        x, y = tasks.columns["design"][task][present], tasks.columns["y"][task][present]
        precision = torch.linalg.inv(prior.covariance)
        covariance = torch.linalg.inv(precision + x.T @ x / NOISE**2)
        mean = covariance @ (precision @ MEAN + x.T @ y / NOISE**2)
        torch.testing.assert_close(fit.position[task], mean, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(fit.covariance[task], covariance)
        marginal = x @ prior.covariance @ x.T + NOISE**2 * torch.eye(len(y))
        expected = multivariate_normal((x @ MEAN).numpy(), marginal.numpy()).logpdf(y.numpy())
        assert float(evidence[task]) == pytest.approx(expected, abs=1e-6)
        new = torch.ones(1, 1, 3, dtype=torch.float64)
        variance = predictive_variance(fit, new.expand(5, 1, 3))[task, 0]
        assert float(variance) == pytest.approx(float(new[0] @ covariance @ new[0].T))


def test_em_raises_the_evidence_and_recovers_the_prior():
    _, tasks = linear_tasks(tasks=400)
    initial = GaussianPrior(torch.zeros(3).double(), 4 * torch.eye(3).double(), 1.0)
    learned = learn_prior(tasks, initial, pseudo_tasks=0.0)
    assert (np.diff(learned.log_evidence) >= -1e-9).all()
    assert learned.prior.noise == pytest.approx(NOISE, rel=0.05)
    # the standard errors of 400 tasks: 1/20 of a spread for the mean, about 7 % for a covariance
    assert (learned.prior.mean - MEAN).abs().max() < 3 / 20
    torch.testing.assert_close(learned.prior.covariance, FACTOR @ FACTOR.T, rtol=0.25, atol=0.08)


def test_em_separates_known_variance_from_noise():
    generator = torch.Generator().manual_seed(3)
    _, tasks = linear_tasks(tasks=300, observations=8)
    known = torch.rand(tasks.mask.shape, generator=generator, dtype=torch.float64)
    extra = torch.randn(known.shape, generator=generator, dtype=torch.float64) * known.sqrt()
    columns = tasks.columns | {"y": tasks.columns["y"] + extra}
    tasks = Tasks.of(linear_residual, columns, known_variance=known)
    initial = GaussianPrior(torch.zeros(3).double(), 4 * torch.eye(3).double(), 1.0)
    learned = learn_prior(tasks, initial, pseudo_tasks=0.0)
    assert learned.prior.noise == pytest.approx(NOISE, rel=0.15)


def test_one_task_cannot_give_a_prior():
    _, tasks = linear_tasks(tasks=1)
    initial = GaussianPrior(MEAN, torch.eye(3).double(), 1.0)
    with pytest.raises(ValueError, match="at least 2"):
        learn_prior(tasks, initial)


def decay_tasks(tasks=6, observations=9, seed=1):
    random = np.random.default_rng(seed)
    x = np.tile(np.linspace(0.1, 4, observations), (tasks, 1))
    a, b = random.uniform(0, 1, tasks), random.uniform(-1, 0.5, tasks)
    clean = np.exp(a)[:, None] * np.exp(-np.exp(b)[:, None] * x)
    y = clean + random.normal(0, 0.02, x.shape)
    return Tasks.of(decay_residual, {"x": torch.from_numpy(x), "y": torch.from_numpy(y)})


@pytest.mark.parametrize("bounds", [None, (-0.4, 0.4)])
def test_least_squares_agrees_with_scipy(bounds):
    tasks = decay_tasks()
    weights = tasks.weights(1.0)
    start = torch.zeros(2, dtype=torch.float64)
    limits = None
    if bounds is not None:
        limits = tuple(torch.full((2,), b, dtype=torch.float64) for b in bounds)
    fit = gauss_newton(tasks.linearise, start, weights, bounds=limits)
    assert fit.converged.all()
    for task in range(len(weights)):
        x, y = (tasks.columns[name][task].numpy() for name in ("x", "y"))
        reference = least_squares(
            lambda z, x=x, y=y: np.exp(z[0]) * np.exp(-np.exp(z[1]) * x) - y,
            [0.0, 0.0],
            bounds=bounds or (-np.inf, np.inf),
            xtol=1e-12,
            ftol=1e-12,
            gtol=1e-12,
        )
        assert float(fit.objective[task]) == pytest.approx(reference.cost, rel=1e-5, abs=1e-9)
        assert fit.position[task].numpy() == pytest.approx(reference.x, abs=1e-4)


def test_jacobian_agrees_with_finite_differences():
    tasks = decay_tasks(tasks=2)
    position = torch.tensor([[0.3, -0.2], [0.1, 0.4]], dtype=torch.float64)
    _, jacobian = tasks.linearise(position)
    step = 1e-6
    for k in range(2):
        shift = torch.zeros(2, dtype=torch.float64)
        shift[k] = step
        ahead, _ = tasks.linearise(position + shift)
        behind, _ = tasks.linearise(position - shift)
        torch.testing.assert_close(
            jacobian[..., k], (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-8
        )


def test_first_start_wins_a_tie():
    data = {"y": torch.zeros(1, 1).double(), "design": torch.tensor([[[1.0, 0.0]]]).double()}
    starts = torch.tensor([[1.0, 5.0], [1.0, -5.0]], dtype=torch.float64)
    tasks = Tasks.of(linear_residual, data)
    fit = best_of(tasks, starts, tasks.weights(1.0), preference=1e-3)
    assert fit.position[0].tolist() == pytest.approx([0.0, 5.0], abs=1e-4)


def test_posterior_draws_have_the_exact_moments():
    _, tasks = linear_tasks(tasks=3)
    prior = GaussianPrior(MEAN, FACTOR @ FACTOR.T, NOISE)
    fit = maximum_a_posteriori(tasks, prior)
    priors = TaskPriors.normal(prior, 3)
    draws = sample_posterior(tasks, priors, draws=4000, proposals=40_000, seed=1).draws
    spread = fit.covariance.diagonal(dim1=1, dim2=2).sqrt()
    assert ((draws.mean(1) - fit.position) / spread).abs().max() < 0.1
    assert (draws.std(1) / spread - 1).abs().max() < 0.1


def test_posterior_draws_respect_a_bound_that_laplace_cannot_see():
    """A saturated measurement has no slope at the prior mean, yet excludes half of the prior."""

    def residual(z, columns):
        return torch.sigmoid(20 * (z[..., 0] - 0.5)) - columns["y"]

    data = {"y": torch.zeros(1, 1, dtype=torch.float64)}
    one = torch.ones(1, 1, dtype=torch.float64)
    priors = TaskPriors.normal(GaussianPrior(torch.zeros(1).double(), one, 0.05), 1)
    tasks = Tasks.of(residual, data)
    draws = sample_posterior(tasks, priors, draws=4000, proposals=20_000).draws
    assert float((draws > 0.55).double().mean()) < 0.01
    # a standard normal cut at about 0.4 has a mean of -pdf(0.4) / cdf(0.4)
    expected = -math.exp(-0.08) / math.sqrt(2 * math.pi) / 0.6554
    assert float(draws.mean()) == pytest.approx(expected, abs=0.08)


def test_few_tasks_widen_the_prior_and_many_do_not():
    prior = GaussianPrior(MEAN, FACTOR @ FACTOR.T, NOISE)
    for tasks, factor in ((3, 4.0), (8, 9 / 4), (10_000, 1.0)):
        widened = for_a_new_task(prior, tasks).covariance
        torch.testing.assert_close(widened, factor * prior.covariance, rtol=1e-3, atol=0)
