"""The heavy-tailed prior given features, and the sampler, against exact answers."""

import math

import pytest
import torch
from scipy import stats

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.posterior_mode import component_mode, posterior_mode
from matml.bayes.task_prior import (
    CENTRE_VARIANCE,
    TaskPriors,
    kernel,
    learn_conditioned_prior,
    scale_mixture,
)
from matml.bayes.tasks import Tasks

ONE = torch.ones(1, dtype=torch.float64)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def linear(position, columns):
    return position[..., 0] + position[..., 1] * columns["x"] - columns["target"]


def test_one_component_and_known_noise_give_the_closed_form_posterior():
    covariance = torch.tensor([[1.0, 0.4], [0.4, 0.8]], dtype=torch.float64)
    mean = torch.tensor([[0.5, -0.2], [0.0, 1.0]], dtype=torch.float64)
    priors = TaskPriors(mean, covariance, ONE.expand(2, 1), ONE, 0.3, 1e7)
    x, target = normal(2, 3), normal(2, 3, seed=1)
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0]], dtype=torch.float64)
    tasks = Tasks.of(linear, {"x": x, "target": target}, mask)
    found = sample_posterior(tasks, priors, draws=4000, proposals=20_000)
    for task in range(2):
        used = mask[task] > 0
        design = torch.stack([torch.ones(3).double(), x[task]], 1)[used]
        precision = torch.linalg.inv(covariance) + design.T @ design / 0.09
        expected = torch.linalg.solve(
            precision,
            torch.linalg.inv(covariance) @ mean[task] + design.T @ target[task][used] / 0.09,
        )
        posterior = torch.linalg.inv(precision)
        torch.testing.assert_close(found.fit.position[task], expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(found.fit.covariance[task], posterior, atol=1e-8, rtol=0)
        torch.testing.assert_close(found.draws[task].mean(0), expected, atol=0.02, rtol=0)
        torch.testing.assert_close(torch.cov(found.draws[task].T), posterior, atol=0.02, rtol=0.1)
    assert found.noise == pytest.approx(0.3, rel=0.01)
    # the evidence, up to a constant of the data: ratio of two priors' is the exact one
    wider = TaskPriors(mean, covariance, 4 * ONE.expand(2, 1), ONE, 0.3, 1e7)
    other = sample_posterior(tasks, wider, proposals=20_000)

    def exact(task, factor):
        used = mask[task] > 0
        design = torch.stack([torch.ones(3).double(), x[task]], 1)[used]
        spread = factor * design @ covariance @ design.T + 0.09 * torch.eye(int(used.sum()))
        return stats.multivariate_normal(design @ mean[task], spread).logpdf(target[task][used])

    for task in range(2):
        ratio = float(other.log_evidence[task] - found.log_evidence[task])
        assert ratio == pytest.approx(exact(task, 4.0) - exact(task, 1.0), abs=0.03)


RESIDUALS_OF_SEVERAL_NUMBERS = {
    "product": lambda z, c: (c["design"] * z).sum(-1) - c["y"],
    "joined": lambda z, c: torch.cat([z * c["design"], -c["y"][..., None]], -1).sum(-1),
    "indexed": lambda z, c: (z.gather(-1, c["which"]) * c["design"]).sum(-1) - c["y"],
}


@pytest.mark.parametrize("point_dof", [math.inf, 4.0])
@pytest.mark.parametrize("form", RESIDUALS_OF_SEVERAL_NUMBERS)
def test_columns_of_several_numbers_equal_as_many_columns_of_one(form, point_dof):
    """However the residual uses them, with normal and with heavy-tailed errors."""
    design, y = normal(3, 5, 2), normal(3, 5, seed=1)
    which = torch.arange(2).expand(3, 5, 2)
    priors = TaskPriors(
        torch.zeros(3, 2).double(),
        torch.eye(2).double(),
        ONE.expand(3, 1),
        ONE,
        0.3,
        8.0,
        point_dof,
    )

    def single(z, c):
        return z[..., 0] * c["first"] + z[..., 1] * c["second"] - c["y"]

    columns = {"first": design[..., 0], "second": design[..., 1], "y": y}
    plain = sample_posterior(Tasks.of(single, columns), priors, proposals=500)
    several = Tasks.of(
        RESIDUALS_OF_SEVERAL_NUMBERS[form], {"design": design, "y": y, "which": which}
    )
    found = sample_posterior(several, priors, proposals=500)
    torch.testing.assert_close(found.draws, plain.draws)
    torch.testing.assert_close(found.noise, plain.noise)
    torch.testing.assert_close(found.log_evidence, plain.log_evidence)
    one = torch.tensor([1])
    modes = [
        posterior_mode(tasks[one], priors[one], found.draws[one], found.fit.position[one])
        for tasks in (several, Tasks.of(single, columns))
    ]
    torch.testing.assert_close(modes[0].position, modes[1].position, atol=1e-6, rtol=0)


def test_unknown_noise_of_a_task_is_found():
    """A task ten times noisier than usual says so; its draws of the noise follow."""
    priors = TaskPriors(
        torch.zeros(2, 2).double(), torch.eye(2).double(), ONE.expand(2, 1), ONE, 0.1, 3.0
    )
    x = normal(2, 40)
    target = 0.3 + 0.5 * x + torch.tensor([[0.1], [1.0]]) * normal(2, 40, seed=3)
    found = sample_posterior(Tasks.of(linear, {"x": x, "target": target}), priors)
    assert found.noise[0].median() == pytest.approx(0.1, rel=0.35)
    assert found.noise[1].median() == pytest.approx(1.0, rel=0.35)


def test_scale_mixture_is_close_to_the_student_t():
    shares, factors = scale_mixture(3.0)
    assert float(shares.sum()) == pytest.approx(1)
    assert (factors[:-1] > factors[1:]).all()
    priors = TaskPriors(
        torch.zeros(1, 1).double(), torch.eye(1).double(), factors[None], shares, 1.0, 8.0
    )
    for content in (0.5, 0.9):
        exact = stats.t(3).ppf((1 + content) / 2)
        assert float(priors.half_width(content)) == pytest.approx(exact, rel=0.1)
    grid = torch.linspace(-60, 60, 20_001, dtype=torch.float64)
    parts = priors.log_components(grid[None, :, None])[0].exp()
    density = parts @ priors.probabilities
    assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-4)


def simulated_tasks(amplitude, seed=0, count=60):
    features = normal(count, 3, seed=seed)
    shape = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    factor = torch.linalg.cholesky(shape)
    gram = kernel(features, features, amplitude, 3.0) - CENTRE_VARIANCE + 1e-9 * torch.eye(count)
    common = torch.linalg.cholesky(gram + 1e-6 * torch.eye(count)) @ normal(count, 2, seed=seed + 1)
    return features, (common + normal(count, 2, seed=seed + 2)) @ factor.T


def test_features_count_where_they_help_and_only_there():
    none = torch.zeros(60, 2, 2, dtype=torch.float64)
    features, positions = simulated_tasks(amplitude=8.0)
    prior, training = learn_conditioned_prior(positions, none, features, list(range(60)), 0.1)
    assert prior.amplitude >= 1
    # tasks predicted without themselves: nearer than the centre is
    error = (training.mean - positions).square().mean()
    assert error < 0.6 * (positions - positions.mean(0)).square().mean()
    shuffled = normal(60, 3, seed=77)
    prior, _ = learn_conditioned_prior(positions, none, shuffled, list(range(60)), 0.1)
    assert prior.amplitude <= 0.3


def test_prediction_without_the_group_is_what_refitting_without_it_gives():
    features, positions = simulated_tasks(amplitude=4.0, count=12)
    groups = [i // 2 for i in range(12)]
    none = torch.zeros(12, 2, 2, dtype=torch.float64)
    options = {"amplitudes": (3.0,), "lengths": (3.0,), "dofs": (30.0,)}
    prior, training = learn_conditioned_prior(positions, none, features, groups, 0.1, **options)
    rest = [i for i in range(12) if groups[i] != 2]
    left = type(prior)(
        prior.centre,
        prior.covariance,
        features[rest],
        positions[rest],
        prior.weights[rest],
        3.0,
        3.0,
        30.0,
        0.1,
    )
    # weights move a little in the last iteration: the identity is exact for given weights
    expected = left.of(features[4:6])
    torch.testing.assert_close(training.mean[4:6], expected.mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(training.factors[4:6], expected.factors, atol=2e-3, rtol=0)


def test_an_outlying_task_pulls_neither_centre_nor_covariance():
    features = torch.zeros(40, 0, dtype=torch.float64)
    positions = normal(40, 2)
    none = torch.zeros(40, 2, 2, dtype=torch.float64)
    clean, _ = learn_conditioned_prior(positions, none, features, list(range(40)), 0.1)
    spoilt = positions.clone()
    spoilt[:4] += 30
    prior, _ = learn_conditioned_prior(spoilt, none, features, list(range(40)), 0.1)
    assert prior.dof < clean.dof
    assert prior.weights[:4].max() < 0.1 * prior.weights[4:].min()
    assert (prior.covariance.diagonal() < 3 * clean.covariance.diagonal()).all()


def test_a_task_without_features_gets_the_centre_and_a_wide_prior():
    features, positions = simulated_tasks(amplitude=8.0)
    none = torch.zeros(60, 2, 2, dtype=torch.float64)
    prior, _ = learn_conditioned_prior(positions, none, features, list(range(60)), 0.1)
    unknown = prior.of(torch.full((1, 3), math.nan, dtype=torch.float64))
    near = prior.of(features[:1])
    assert torch.isfinite(unknown.mean).all()
    centre = prior.of(torch.full((1, 3), 50.0, dtype=torch.float64)).mean
    torch.testing.assert_close(unknown.mean, centre)
    assert (unknown.factors > near.factors).all()


def test_laplace_of_a_component_uses_that_components_width():
    priors = TaskPriors(
        torch.zeros(1, 2).double(),
        torch.eye(2).double(),
        torch.tensor([[9.0, 1.0]], dtype=torch.float64),
        torch.tensor([0.5, 0.5], dtype=torch.float64),
        1.0,
        1e7,
    )
    one = torch.ones(1, 1, dtype=torch.float64)
    task = Tasks.of(linear, {"x": 0 * one, "target": 10 * one})
    start = torch.zeros(1, 1, 2, dtype=torch.float64)
    wide, narrow = (component_mode(task, priors, c, start) for c in (0, 1))
    assert float(wide.position[0, 0]) == pytest.approx(9.0, abs=1e-4)
    assert float(narrow.position[0, 0]) == pytest.approx(5.0, abs=1e-4)


def test_a_task_whose_linearisation_overflows_still_has_draws():
    def explosive(position, columns):
        return torch.exp(torch.exp(position[..., 0] * columns["x"])) - columns["target"]

    wide = torch.full((2, 1), 9.0, dtype=torch.float64)
    unit = torch.ones(1, 1, dtype=torch.float64)
    priors = TaskPriors(torch.zeros(2, 1).double(), unit, wide, ONE, 0.1, 8.0)
    x = torch.tensor([[1.0], [400.0]], dtype=torch.float64)
    tasks = Tasks.of(explosive, {"x": x, "target": torch.full_like(x, 3.0)})
    found = sample_posterior(tasks, priors)
    assert torch.isfinite(found.draws).all()
    # exp(exp(z)) = 3 in the first
    assert float(found.draws[0].median()) == pytest.approx(math.log(math.log(3)), abs=0.1)
