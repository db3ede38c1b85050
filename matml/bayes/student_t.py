"""Heavy-tailed errors of single observations: a Student t each, so that a gross one pulls little.

The likelihood of observation i with residual r is Student's t with `point_dof` degrees of freedom
and the scale s_i, s_i^2 = c^2 (u^2 noise^2 + known variance). c makes its central 68 % as wide as
those of the normal of that variance. The task's own u stays common to all its observations; it is
integrated out over a few levels, since with a t in each observation there is no closed form.
"""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from matml.bayes.gauss_newton import Data, Fit, GaussianPrior, Residual, gauss_newton
from matml.bayes.task_prior import TaskPriors

LEVELS = 12
"""Levels of the noise: middles of as many parts of equal probability."""

ROUNDS = 6
"""Reweightings in the search for the most probable parameters."""


@cache
def _constants(point_dof: float, noise_dof: float) -> tuple[float, tuple[float, ...]]:
    """Return c, and the levels of u."""
    from scipy import stats

    middles = [(i + 0.5) / LEVELS for i in range(LEVELS)]
    levels = tuple(math.sqrt(noise_dof / x) for x in stats.chi2.ppf(middles, noise_dof))
    return float(stats.norm.ppf(0.84) / stats.t.ppf(0.84, point_dof)), levels


def point_weights(squares: Tensor, variance: Tensor, point_dof: float) -> Tensor:
    """Return the weight of observations, about 1 where they fit and small where they do not.

    (dof + 1) / (dof + r^2 / s^2), the expected precision of a normal whose variance is drawn so
    that the error is Student's t (Lange, Little and Taylor, J. Am. Stat. Assoc. 84 (1989) 881).

    Parameters
    ----------
    squares
        Squared residuals.
    variance
        Of a normal error, in the same unit.
    """
    scale = _constants(point_dof, 1.0)[0] ** 2
    return (point_dof + 1) / (point_dof + squares / (scale * variance))


def level_log_likelihoods(
    residual: Residual,
    points: Tensor,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    priors: TaskPriors,
) -> Tensor:
    """Return log likelihoods of parameters [B, S, P] at each level of the noise, [B, S, U]."""
    dof = priors.point_dof
    narrow, levels = _constants(dof, priors.noise_dof)
    tasks, observations = mask.shape
    found = []
    # a block of proposals at a time bounds the memory
    for part in points.split(max(1, 2_000_000 // mask.numel()), dim=1):
        shape = (tasks, part.shape[1], observations)
        copies = part[:, :, None].expand(*shape, part.shape[2])
        columns = {name: column[:, None].expand(shape) for name, column in data.items()}
        squares = residual(copies, columns).square()
        parts = []
        for level in levels:
            variance = narrow**2 * ((level * priors.noise) ** 2 + known_variance[:, None])
            each = (dof + 1) * torch.log1p(squares / (dof * variance)) + variance.log()
            parts.append(-(mask[:, None] * each).sum(2) / 2)
        found.append(torch.stack(parts, -1))
    return torch.cat(found, 1)


def draw_noise(fitness: Tensor, priors: TaskPriors, generator: torch.Generator) -> Tensor:
    """Return a draw of each task's noise [B, S] given log likelihoods at its levels [B, S, U]."""
    levels = fitness.new_tensor(_constants(priors.point_dof, priors.noise_dof)[1])
    shares = torch.softmax(torch.nan_to_num(fitness, nan=-1e300), -1).cumsum(-1)
    uniform = torch.rand(shares.shape[:2], generator=generator, dtype=shares.dtype)
    picks = torch.searchsorted(shares, uniform[..., None]).clamp(max=len(levels) - 1)
    return priors.noise * levels[picks[..., 0]]


def most_probable(
    residual: Residual,
    priors: TaskPriors,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    component: int,
    starts: Tensor,
) -> Fit:
    """Return each task's most probable parameters under one component, by reweighted least squares.

    The best over the starts [S, B, P], at the typical noise; with the covariance of the reweighted
    fit. As `sampling.most_probable`, for heavy-tailed errors.
    """
    mean, covariance = priors.component(component)
    count, tasks, size = starts.shape
    every = GaussianPrior(mean.repeat(count, 1), covariance.repeat(count, 1, 1), priors.noise)
    columns = {name: column.repeat(count, 1) for name, column in data.items()}
    variance = (priors.noise**2 + known_variance).repeat(count, 1)
    masks = mask.repeat(count, 1)
    position = starts.reshape(count * tasks, size)
    scale = _constants(priors.point_dof, 1.0)[0] ** 2
    for _ in range(ROUNDS):
        copies = position[:, None].expand(-1, mask.shape[1], -1)
        squares = torch.nan_to_num(residual(copies, columns).square(), nan=1e300)
        weights = masks * point_weights(squares, variance, priors.point_dof) / (scale * variance)
        fit = gauss_newton(residual, position, columns, weights, prior=every, steps=15)
        position = torch.where(torch.isfinite(fit.position), fit.position, position)
    squares = torch.nan_to_num(fit.residuals.square(), nan=1e300)
    errors = torch.log1p(squares / (priors.point_dof * scale * variance))
    offset = fit.position - every.mean
    pull = (offset * torch.linalg.solve(every.covariance, offset[..., None]).squeeze(-1)).sum(1)
    objective = ((masks * (priors.point_dof + 1) * errors).sum(1) + pull) / 2
    fit = replace(fit, objective=torch.nan_to_num(objective, nan=1e300))
    return fit.best_of(count)
