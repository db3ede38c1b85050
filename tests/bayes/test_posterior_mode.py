"""The mode of a task's whole posterior: in closed form, and against a grid."""

import math

import pytest
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.likelihood import evaluate
from matml.bayes.posterior_mode import posterior_mode
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks


def priors(factors, shares, noise_dof, point_dof=math.inf):
    return TaskPriors(
        torch.zeros(1, 2).double(),
        torch.tensor([[1.0, 0.3], [0.3, 0.5]]).double(),
        torch.tensor([factors]).double(),
        torch.tensor(shares).double(),
        0.3,
        noise_dof,
        point_dof,
    )


def line(position, columns):
    return position[..., 0] + position[..., 1] * columns["x"] - columns["y"]


COLUMNS = {
    "x": torch.tensor([[-1.0, 0.0, 1.0, 2.0]]).double(),
    "y": torch.tensor([[0.2, 1.0, 1.4, 9.0]]).double(),
}
TASK = Tasks.of(line, COLUMNS)


def found(prior):
    posterior = sample_posterior(TASK, prior, draws=400)
    return posterior_mode(TASK, prior, posterior.draws, posterior.fit.position)


def test_a_normal_prior_and_noise_give_ridge_regression():
    fit = found(priors([1.0], [1.0], 1e9))
    design = torch.stack([torch.ones(4).double(), COLUMNS["x"][0]], 1)
    precision = torch.linalg.inv(priors([1.0], [1.0], 1.0).covariance)
    hessian = design.mT @ design / 0.09 + precision
    exact = torch.linalg.solve(hessian, design.mT @ COLUMNS["y"][0] / 0.09)
    torch.testing.assert_close(fit.position[0], exact, atol=1e-4, rtol=0)
    torch.testing.assert_close(fit.covariance[0], torch.linalg.inv(hessian), atol=1e-6, rtol=1e-5)
    assert bool(fit.converged[0])


@pytest.mark.parametrize("point_dof", [math.inf, 2.0])
def test_nothing_on_a_grid_is_more_probable(point_dof):
    """Heavy tails of the prior, a noise of its own, a gross error in the last observation."""
    prior = priors([9.0, 1.0], [0.2, 0.8], 3.0, point_dof)
    fit = found(prior)
    axis = torch.linspace(-2, 5, 281).double()
    points = torch.cartesian_prod(axis, axis)[None]
    values = evaluate(TASK, prior, points).log_posterior
    assert -float(fit.objective[0]) >= float(values.max()) - 1e-9
    assert float((fit.position[0] - points[0, values[0].argmax()]).abs().max()) < 0.02
