"""Many small nonlinear least-squares problems at once, each perhaps under a Gaussian prior.

Damped Gauss-Newton (Levenberg-Marquardt) over all tasks together: the one solver of the library.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from matml.bayes.tasks import Tasks

Linearise: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""`linearise(position [T, P], rows [T]) -> residuals [T, N], Jacobians [T, N, P]` of some tasks.

`Tasks.linearise` is one.
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

    def best_of(self, starts: int, preference: float = 0.0) -> "Fit":
        """Return the best fit of each task, of `starts` blocks of B tasks.

        The first whose objective is within `preference` of the lowest: where data leave a direction
        free many starts fit equally well, and the first is the most sensible one.
        """
        objective = self.objective.reshape(starts, -1)
        tasks = objective.shape[1]
        best = (objective <= objective.amin(0) + preference).to(torch.uint8).argmax(0)
        return self.rows(best * tasks + torch.arange(tasks))

    def rows(self, rows: Tensor) -> "Fit":
        """Return the fits of some tasks, by their numbers."""
        return Fit(*(getattr(self, field.name)[rows] for field in fields(self)))


def gauss_newton(
    linearise: Linearise,
    start: Tensor,
    weights: Tensor,
    *,
    prior: GaussianPrior | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
    steps: int = 60,
    tolerance: float = 1e-6,
    least_gain: float = 1e-9,
    longest_step: float = 4.0,
) -> Fit:
    """Minimise every task's objective by damped Gauss-Newton (Levenberg-Marquardt).

    Parameters
    ----------
    linearise
        Residuals and Jacobians of some tasks at a position.
    start
        [B, P], or [P] for all tasks.
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
    least_gain
        So is one that lowers the objective by less than this, relative to 1 plus the objective.
    longest_step
        Bound on a step's length: on a standardised scale a longer one is an extrapolation.
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

    value, jacobian = linearise(position, torch.arange(tasks))
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
        step = step * (longest_step / step.norm(dim=1, keepdim=True)).clamp(max=1.0)
        trial = z + step
        if bounds is not None:
            trial = trial.clamp(bounds[0], bounds[1])
        trial_value, trial_jacobian = linearise(trial, todo)
        trial_objective = half_squares(trial_value, trial - centre, w, p)
        better = trial_objective <= objective[todo]
        taken = todo[better]
        gain = objective[todo] - trial_objective
        position[taken], value[taken] = trial[better], trial_value[better]
        jacobian[taken], objective[taken] = trial_jacobian[better], trial_objective[better]
        damping[todo] = torch.where(better, damping[todo] / 5, damping[todo] * 4).clamp(1e-10, 1e12)
        small = (trial - z).norm(dim=1) < tolerance
        converged[todo] = small | (better & (gain <= least_gain * (1 + trial_objective)))
    hessian = jacobian.mT @ (weights[..., None] * jacobian) + precision
    covariance, failed = torch.linalg.inv_ex(hessian)
    covariance[failed != 0] = math.inf
    return Fit(position, covariance, objective, value, jacobian, converged)


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Return matrices [B, P, P] times vectors [B, P]."""
    return (matrices @ vectors[..., None]).squeeze(-1)


def best_of(
    tasks: Tasks,
    starts: Tensor,
    weights: Tensor,
    *,
    prior: GaussianPrior | None = None,
    bounds: tuple[Tensor, Tensor] | None = None,
    preference: float = 0.0,
) -> Fit:
    """Return the best fit of every task over several starts [S, P]; see `Fit.best_of`."""
    count = len(starts)
    fit = gauss_newton(
        tasks.repeat(count).linearise,
        starts.repeat_interleave(len(tasks), 0),
        weights.repeat(count, 1),
        prior=prior,
        bounds=bounds,
    )
    return fit.best_of(count, preference)
