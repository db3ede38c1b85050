"""The most probable parameters of tasks: quickly under a component of the prior, or under all.

Under a single component, at the typical noise, by Gauss-Newton: good enough to propose from. Under
the whole posterior nothing is left out: all components, the task's own noise integrated out,
heavy-tailed errors, and what the design of the observations tells.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit, GaussianPrior, gauss_newton
from matml.bayes.likelihood import evaluate, point_weights, squared_scale
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks

ROUNDS = 6
"""Reweightings in the search under heavy-tailed errors."""

STEPS = 100
"""Most iterations of the search under the whole posterior."""


def component_mode(tasks: Tasks, priors: TaskPriors, component: int, starts: Tensor) -> Fit:
    """Return each task's maximum a posteriori and Laplace's covariance under one component.

    The best over the starts [S, B, P], at the typical noise.
    """
    mean, covariance = priors.component(component)
    count = len(starts)
    prior = GaussianPrior(mean.repeat(count, 1), covariance.repeat(count, 1, 1), priors.noise)
    start, repeated = starts.reshape(-1, starts.shape[2]), tasks.repeat(count)
    if math.isfinite(priors.point_dof):
        fit = _reweighted(repeated, prior, priors.point_dof, start)
    else:
        weights = repeated.weights(priors.noise)
        fit = gauss_newton(
            repeated.linearise, start, weights, prior=prior, steps=30, tolerance=1e-3
        )
    return fit.best_of(count)


def _reweighted(tasks: Tasks, prior: GaussianPrior, dof: float, position: Tensor) -> Fit:
    """Return the mode under heavy-tailed errors, with the covariance of the reweighted fit."""
    precision = tasks.weights(prior.noise)
    variance = prior.noise**2 + tasks.known_variance
    narrow = squared_scale(dof)
    for _ in range(ROUNDS):
        copies = position[:, None].expand(-1, tasks.mask.shape[1], -1)
        squares = torch.nan_to_num(tasks.residual(copies, tasks.columns).square(), nan=1e300)
        weights = precision * point_weights(squares, variance, dof) / narrow
        fit = gauss_newton(tasks.linearise, position, weights, prior=prior, steps=15)
        position = torch.where(torch.isfinite(fit.position), fit.position, position)
    squares = torch.nan_to_num(fit.residuals.square(), nan=1e300)
    errors = torch.log1p(squares / (dof * narrow * variance))
    offset = fit.position - prior.mean
    pull = (offset * torch.linalg.solve(prior.covariance, offset[..., None]).squeeze(-1)).sum(1)
    objective = ((tasks.mask * (dof + 1) * errors).sum(1) + pull) / 2
    return replace(fit, objective=torch.nan_to_num(objective, nan=1e300))


def posterior_mode(tasks: Tasks, priors: TaskPriors, draws: Tensor, start: Tensor) -> Fit:
    """Return the mode of one task's whole posterior and its covariance there (batch of one).

    By BFGS from the most probable of the posterior's draws [1, S, P] and a start [1, P];
    `objective` is minus the log posterior density.
    """
    from scipy.optimize import minimize

    candidates = torch.cat([start[:, None], draws], 1)
    with torch.no_grad():
        values = torch.nan_to_num(
            evaluate(tasks, priors, candidates).log_posterior[0], nan=-math.inf
        )
    start, highest = candidates[0, values.argmax()], float(values.max())
    # in units of the posterior's own spread, which may be a narrow valley
    centred = draws[0] - draws[0].mean(0)
    spread, axes = torch.linalg.eigh(centred.mT @ centred / len(centred))
    axes = axes * spread.clamp(min=1e-10).sqrt()

    def lost(steps: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(steps).requires_grad_()
        with torch.enable_grad():
            point = (start + axes @ free)[None, None]
            value = highest - evaluate(tasks, priors, point).log_posterior.sum()
            (slope,) = torch.autograd.grad(value, free)
        if not torch.isfinite(value) or not torch.isfinite(slope).all():
            return 1e10, np.zeros_like(steps)
        return float(value.detach()), slope.numpy()

    end = minimize(
        lost,
        np.zeros(len(start)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-4, "maxiter": STEPS},
    )
    better = bool(end.fun < 0)
    position = (start + axes @ torch.from_numpy(end.x) if better else start)[None].detach()
    settled = float(np.abs(end.jac).max()) < 0.1
    value, jacobian = tasks.linearise(position)
    weights = _expected_weights(tasks, priors, value.square())
    hessian = jacobian.mT @ (weights[..., None] * jacobian) + _expected_precision(priors, position)
    covariance, failed = torch.linalg.inv_ex(hessian)
    covariance[failed != 0] = math.inf
    objective = torch.tensor([(end.fun if better else 0.0) - highest], dtype=value.dtype)
    return Fit(position, covariance, objective, value, jacobian, torch.tensor([settled]))


def _expected_weights(tasks: Tasks, priors: TaskPriors, squares: Tensor) -> Tensor:
    """Return expected inverse variances of observations given their squared residuals, [B, N]."""
    weights = tasks.weights(priors.noise)
    if math.isfinite(priors.point_dof):
        variance = priors.noise**2 + tasks.known_variance
        return weights * point_weights(squares, variance, priors.point_dof)
    dof, total = priors.noise_dof, (weights * squares).sum(1, keepdim=True)
    return weights * (dof + tasks.mask.sum(1, keepdim=True)) / (dof + total)


def _expected_precision(priors: TaskPriors, position: Tensor) -> Tensor:
    """Return the prior's expected inverse covariance at parameters [B, P], [B, P, P]."""
    parts = priors.log_components(position[:, None])[:, 0] + priors.log_probabilities
    total = torch.zeros(1, dtype=position.dtype)
    for number, chance in enumerate(torch.softmax(parts, 1).unbind(1)):
        total = total + chance[:, None, None] * torch.linalg.inv(priors.component(number)[1])
    return total
