"""Hierarchical adaptation against closed forms of the linear-Gaussian case, and scipy."""

import math
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.stats import multivariate_normal

from matml.bayes.empirical_bayes import (
    EStep,
    for_a_new_task,
    learn_prior,
    log_evidence,
    m_step,
    maximise_evidence,
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


GENERIC = GaussianPrior(torch.zeros(3).double(), 4 * torch.eye(3).double(), 1.0)


def e_step(*parts):
    """Return the E step over tasks in several hands."""
    steps = [EStep(tasks) for tasks in parts]
    return lambda prior: reduce(add, [step(prior) for step in steps])


def test_accelerated_em_ends_where_plain_em_does_in_fewer_rounds():
    """Two observations a task of three parameters: EM alone is slow."""
    _, tasks = linear_tasks(tasks=60, observations=2)
    options = {"rounds": 400, "tolerance": 1e-9, "pseudo_tasks": 1.0}
    fast = maximise_evidence(e_step(tasks), GENERIC, **options, accelerate=True)
    plain = maximise_evidence(e_step(tasks), GENERIC, **options)
    assert fast.converged
    assert plain.converged
    assert fast.rounds < plain.rounds / 2
    assert fast.log_evidence[-1] >= plain.log_evidence[-1] - 1e-9
    torch.testing.assert_close(fast.prior.mean, plain.prior.mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(fast.prior.covariance, plain.prior.covariance, atol=1e-3, rtol=0)
    assert fast.prior.noise == pytest.approx(plain.prior.noise, abs=1e-4)


def test_acceleration_follows_a_spread_that_goes_to_zero():
    """Four tasks, no pseudo-tasks: the covariance loses a direction, and plain EM creeps there."""
    _, tasks = linear_tasks(tasks=4, seed=4)
    options = {"rounds": 150, "tolerance": 1e-6, "pseudo_tasks": 0.0}
    fast = maximise_evidence(e_step(tasks), GENERIC, **options, accelerate=True)
    plain = maximise_evidence(e_step(tasks), GENERIC, **options)
    assert fast.converged
    assert not plain.converged
    assert fast.log_evidence[-1] > plain.log_evidence[-1]


def test_em_says_that_it_ended_before_it_converged(caplog):
    _, tasks = linear_tasks(tasks=60, observations=2)
    assert learn_prior(tasks, GENERIC).converged
    assert caplog.text == ""
    learned = learn_prior(tasks, GENERIC, rounds=3)
    assert not learned.converged
    assert learned.rounds == len(learned.log_evidence) == 3
    assert "of 3 rounds of EM the log evidence still rose by" in caplog.text
    assert "allow more rounds" in caplog.text
    # prior and fit belong together even so
    expected = maximum_a_posteriori(tasks, learned.prior).position
    torch.testing.assert_close(learned.fit.position, expected, atol=1e-6, rtol=0)


def test_sums_of_parts_of_the_tasks_are_those_of_all():
    tasks = decay_tasks(tasks=11)
    tasks.mask[2, 5:] = 0
    prior = GaussianPrior(torch.zeros(2).double(), torch.eye(2).double(), 0.05)
    whole = e_step(tasks)(prior)
    parted = e_step(tasks[:3], tasks[3:4], tasks[4:])(prior)
    assert (parted.tasks, parted.observations) == (whole.tasks, whole.observations) == (11, 95)
    for name in ("offset", "outer"):
        torch.testing.assert_close(
            getattr(parted, name), getattr(whole, name), rtol=1e-12, atol=1e-12
        )
    assert parted.squared_noise == pytest.approx(whole.squared_noise, rel=1e-12)
    assert parted.log_evidence == pytest.approx(whole.log_evidence, rel=1e-12)
    apart, together = m_step(parted, prior), m_step(whole, prior)
    torch.testing.assert_close(apart.covariance, together.covariance, rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="under two priors do not add up"):
        whole + e_step(tasks[:3])(replace(prior, noise=0.06))


def test_a_prior_learned_from_parts_is_that_of_all():
    _, tasks = linear_tasks(tasks=40)
    parted = maximise_evidence(e_step(tasks[:9], tasks[9:]), GENERIC)
    whole = maximise_evidence(e_step(tasks), GENERIC)
    assert parted.rounds == whole.rounds
    torch.testing.assert_close(parted.prior.mean, whole.prior.mean, rtol=0, atol=1e-10)
    torch.testing.assert_close(parted.prior.covariance, whole.prior.covariance, rtol=0, atol=1e-10)


@pytest.mark.parametrize("accelerate", [False, True])
def test_parameters_with_a_known_distribution_keep_it(accelerate):
    _, tasks = linear_tasks(tasks=40)
    found = maximise_evidence(e_step(tasks), GENERIC, nuisance=1, accelerate=accelerate).prior
    assert float(found.mean[2]) == 0.0
    torch.testing.assert_close(found.covariance[2], torch.tensor([0.0, 0.0, 4.0]).double())
    assert float(found.covariance[0, 1]) != 0.0


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
