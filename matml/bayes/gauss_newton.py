"""Many small nonlinear least-squares problems at once, each perhaps under a Gaussian prior.

Damped Gauss-Newton (Levenberg-Marquardt) over all tasks together, padded to one length, with weight
zero on padding. A task is whatever the residual function takes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

Data: TypeAlias = Mapping[str, Tensor]
"""Columns of all tasks, each [B, N]: B tasks, N observations (padded)."""

Residual: TypeAlias = Callable[[Tensor, Data], Tensor]
"""`residual(z [B, N, P], columns [B, N]) -> prediction minus measurement [B, N]`.

Pointwise: each observation comes with its own copy of its task's parameters and depends on nothing
else. One backward pass then gives all Jacobians of all tasks.
"""


@dataclass(frozen=True)
class GaussianPrior:
    """What is known of a task before its data.

    Attributes
    ----------
    mean, covariance
        Of the parameters over tasks, [P] and [P, P]; or a prior per task, [B, P] and [B, P, P].
    noise
        Standard deviation of one observation, on the scale of the residuals.
    """

    mean: Tensor
    covariance: Tensor
    noise: float


@dataclass(frozen=True)
class Fit:
    """Fitted tasks.

    Attributes
    ----------
    position
        Parameters [B, P].
    covariance
        Inverse of the Gauss-Newton Hessian (with the prior: Laplace's covariance), [B, P, P];
        not finite where data and prior leave a direction undetermined.
    objective
        Half the weighted sum of squares, plus half the prior's quadratic form, [B].
    residuals, jacobian
        At the position, [B, N] and [B, N, P].
    converged
        Whether the last accepted or refused step was negligible, [B].
    """

    position: Tensor
    covariance: Tensor
    objective: Tensor
    residuals: Tensor
    jacobian: Tensor
    converged: Tensor

    def best_of(self, starts: int) -> "Fit":
        """Return the fit with the lowest objective of each task, of `starts` blocks of B tasks."""
        objective = self.objective.reshape(starts, -1)
        tasks = objective.shape[1]
        rows = objective.argmin(0) * tasks + torch.arange(tasks)
        return self.rows(rows)

    def rows(self, rows: Tensor) -> "Fit":
        """Return the fits of some tasks, by their numbers."""
        return Fit(*(getattr(self, name)[rows] for name in Fit.__dataclass_fields__))


def linearise(residual: Residual, position: Tensor, data: Data) -> tuple[Tensor, Tensor]:
    """Return residuals [B, N] and Jacobians [B, N, P] of all tasks at positions [B, P]."""
    observations = next(iter(data.values())).shape[1]
    copies = position.detach()[:, None, :].repeat(1, observations, 1).requires_grad_()
    with torch.enable_grad():
        value = residual(copies, data)
        (jacobian,) = torch.autograd.grad(value.sum(), copies)
    return value.detach(), jacobian


def gauss_newton(
    residual: Residual,
    start: Tensor,
    data: Data,
    weights: Tensor,
    *,
    prior: GaussianPrior | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
    steps: int = 60,
    tolerance: float = 1e-6,
) -> Fit:
    """Minimise every task's objective by damped Gauss-Newton (Levenberg-Marquardt).

    Parameters
    ----------
    residual
        Residual function, pointwise.
    start
        [B, P], or [P] for all tasks.
    data
        Columns [B, N].
    weights
        Inverse variances [B, N]; zero for padding.
    prior
        Gaussian prior of the parameters; without one this is least squares.
    bounds
        Lower and upper bounds [P] (a projected step: parameters at a bound that the gradient
        presses against are held).
    steps
        Most iterations; a task stops earlier when it has converged.
    tolerance
        A step shorter than this (in parameters) is negligible.
    """
    tasks, size = weights.shape[0], start.shape[-1]
    position = start.expand(tasks, size).clone()
    if bounds is not None:
        position = position.clamp(bounds[0], bounds[1])
    if prior is None:
        mean, precision = position.new_zeros(size), position.new_zeros(size, size)
    else:
        mean, precision = prior.mean, torch.linalg.inv(prior.covariance)
    mean, precision = mean.expand(tasks, size), precision.expand(tasks, size, size)

    def half_squares(r: Tensor, offset: Tensor, w: Tensor, p: Tensor) -> Tensor:
        value = ((w * r.square()).sum(1) + (_times(p, offset) * offset).sum(1)) / 2
        return torch.nan_to_num(value, nan=math.inf)

    value, jacobian = linearise(residual, position, data)
    objective = half_squares(value, position - mean, weights, precision)
    damping = torch.full((tasks,), 1e-2, dtype=position.dtype)
    converged = torch.zeros(tasks, dtype=torch.bool)
    metrics = torch.ones_like(mean) if prior is None else precision.diagonal(dim1=1, dim2=2)
    for _ in range(steps):
        todo = torch.nonzero(~converged).squeeze(1)
        if len(todo) == 0:
            break
        z, r, j, w = position[todo], value[todo], jacobian[todo], weights[todo]
        centre, p, metric = mean[todo], precision[todo], metrics[todo]
        gradient = ((w * r)[:, None] @ j).squeeze(1) + _times(p, z - centre)
        hessian = j.mT @ (w[..., None] * j) + p
        free = torch.ones_like(z)
        if bounds is not None:
            pressed = ((z <= bounds[0]) & (gradient > 0)) | ((z >= bounds[1]) & (gradient < 0))
            free = (~pressed).to(z)
        hessian = hessian * free[:, :, None] * free[:, None, :]
        # Levenberg's damping, by the prior's precision (or one): parameters that the data do not
        # move stay near their start, which Marquardt's scaling by the Hessian would not do
        size_of_hessian = hessian.diagonal(dim1=1, dim2=2).amax(1)
        floor = 1e-9 * size_of_hessian + 1e-12
        amount = (damping[todo] * size_of_hessian / metric.amax(1) + floor)[:, None]
        damped = hessian + torch.diag_embed(amount * metric + (1 - free))
        step = -torch.linalg.solve(damped, gradient * free)
        # the standardised scale makes steps beyond a few units extrapolations
        step = step * (4.0 / step.norm(dim=1, keepdim=True).clamp(min=4.0))
        trial = z + step
        if bounds is not None:
            trial = trial.clamp(bounds[0], bounds[1])
        columns = {name: column[todo] for name, column in data.items()}
        trial_value, trial_jacobian = linearise(residual, trial, columns)
        trial_objective = half_squares(trial_value, trial - centre, w, p)
        better = trial_objective <= objective[todo]
        taken = todo[better]
        gain = objective[todo] - trial_objective
        position[taken], value[taken] = trial[better], trial_value[better]
        jacobian[taken], objective[taken] = trial_jacobian[better], trial_objective[better]
        damping[todo] = torch.where(better, damping[todo] / 5, damping[todo] * 4).clamp(1e-10, 1e12)
        small = (trial - z).norm(dim=1) < tolerance
        converged[todo] = small | (better & (gain <= 1e-9 * (1 + trial_objective)))
    hessian = jacobian.mT @ (weights[..., None] * jacobian) + precision
    covariance, failed = torch.linalg.inv_ex(hessian)
    covariance[failed != 0] = math.inf
    return Fit(position, covariance, objective, value, jacobian, converged)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return matrices [B, P, P] times vectors [B, P]."""
    return (matrices @ vectors[..., None]).squeeze(-1)


def best_of(
    residual: Residual,
    starts: Tensor,
    data: Data,
    weights: Tensor,
    *,
    preference: float = 0.0,
    **options: object,
) -> Fit:
    """Return the best fit of every task over several starts [S, P]; options of `gauss_newton`.

    Parameters
    ----------
    preference
        The first start whose objective is within this of the lowest one is taken: where data leave
        a direction free, many starts fit equally well and the first is the most sensible one.
    """
    count, tasks = starts.shape[0], weights.shape[0]
    repeated = {
        name: column.repeat(count, *[1] * (column.dim() - 1)) for name, column in data.items()
    }
    fit = gauss_newton(
        residual,
        starts.repeat_interleave(tasks, 0),
        repeated,
        weights.repeat(count, 1),
        **options,
    )
    objective = fit.objective.reshape(count, tasks)
    best = (objective <= objective.amin(0) + preference).to(torch.uint8).argmax(0)
    rows = best * tasks + torch.arange(tasks)
    return fit.rows(rows)


def inverse_variances(mask: Tensor, known_variance: Tensor, noise: float) -> Tensor:
    """Return weights [B, N] of observations whose variance is the noise's plus a known one."""
    return mask / (noise**2 + known_variance)
