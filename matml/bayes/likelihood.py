"""The likelihood of a task's observations, its own noise integrated out.

Errors are normal, with u_i times the common noise in task i, u_i^2 inverse-gamma: then the
likelihood of the whole task is a Student t in closed form. Where single observations may be grossly
wrong each error is a Student t of its own (`TaskPriors.point_dof`), with the scale s,
s^2 = c^2 (u^2 noise^2 + known variance); c makes its central 68 % as wide as those of the normal of
that variance. The task's u is then integrated out over a few levels.
"""

import math
from functools import cache

import torch
from torch import Tensor

from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks

LEVELS = 12
"""Levels of the noise: middles of as many parts of equal probability."""


@cache
def _constants(point_dof: float, noise_dof: float) -> tuple[float, tuple[float, ...]]:
    """Return c, and the levels of u."""
    from scipy import stats

    middles = [(i + 0.5) / LEVELS for i in range(LEVELS)]
    levels = tuple(math.sqrt(noise_dof / x) for x in stats.chi2.ppf(middles, noise_dof))
    return float(stats.norm.ppf(0.84) / stats.t.ppf(0.84, point_dof)), levels


def squared_scale(point_dof: float) -> float:
    """Return c^2, the squared scale of a heavy-tailed error over the variance of a normal one."""
    return _constants(point_dof, 1.0)[0] ** 2


def point_weights(squares: Tensor, variance: Tensor, point_dof: float) -> Tensor:
    """Return the weight of observations, about 1 where they fit and small where they do not.

    (dof + 1) / (dof + r^2 / s^2), the expected precision of a normal whose variance is drawn so
    that the error is Student's t (Lange, Little and Taylor, J. Am. Stat. Assoc. 84 (1989) 881); one
    for normal errors.

    Parameters
    ----------
    squares
        Squared residuals.
    variance
        Of a normal error, in the same unit.
    """
    if math.isinf(point_dof):
        return torch.ones_like(variance)
    return (point_dof + 1) / (point_dof + squares / (squared_scale(point_dof) * variance))


def misfit(tasks: Tasks, priors: TaskPriors, points: Tensor) -> Tensor:
    """Return what likelihood and noise of parameters [B, S, P] follow from: weighted squares.

    Of the shape [B, S, 1]; with heavy-tailed errors the log likelihood at each level of the noise
    instead, [B, S, U].
    """
    residuals = tasks.blocks(tasks.residual, points)
    if math.isinf(priors.point_dof):
        weights = tasks.weights(priors.noise)[:, None]
        return torch.cat([(weights * r.square()).sum(2) for r in residuals], 1)[..., None]
    dof = priors.point_dof
    narrow, levels = _constants(dof, priors.noise_dof)
    mask, known = tasks.mask[:, None], tasks.known_variance[:, None]
    found = []
    for r in residuals:
        squares, parts = r.square(), []
        for level in levels:
            variance = narrow**2 * ((level * priors.noise) ** 2 + known)
            each = (dof + 1) * torch.log1p(squares / (dof * variance)) + variance.log()
            parts.append(-(mask * each).sum(2) / 2)
        found.append(torch.stack(parts, -1))
    return torch.cat(found, 1)


def log_likelihood(misfits: Tensor, tasks: Tasks, priors: TaskPriors) -> Tensor:
    """Return log likelihoods [B, S] of misfits [B, S, U], up to a constant of the data alone."""
    if math.isfinite(priors.point_dof):
        return torch.logsumexp(misfits, -1) - math.log(misfits.shape[-1])
    dof = priors.noise_dof
    return -(dof + tasks.mask.sum(1, keepdim=True)) / 2 * torch.log1p(misfits[..., 0] / dof)


def log_posterior(
    tasks: Tasks, priors: TaskPriors, points: Tensor, components: Tensor, misfits: Tensor
) -> Tensor:
    """Return log posterior densities of parameters [B, S, P] up to a constant, [B, S].

    Parameters
    ----------
    components
        Log densities under the prior's components, [B, S, C].
    misfits
        From `misfit`, [B, S, U].
    """
    value = torch.logsumexp(components + priors.shares.log(), -1)
    value = value + log_likelihood(misfits, tasks, priors)
    if priors.log_design is None:
        return value
    mask = tasks.mask[:, None]
    designs = tasks.blocks(priors.log_design, points)
    return value + torch.cat([(mask * density).sum(2) for density in designs], 1)


def draw_noise(
    misfits: Tensor, tasks: Tasks, priors: TaskPriors, generator: torch.Generator
) -> Tensor:
    """Return a draw of each task's noise [B, S] given the misfits [B, S, U] of its parameters."""
    dof = priors.noise_dof
    if math.isfinite(priors.point_dof):
        levels = misfits.new_tensor(_constants(priors.point_dof, dof)[1])
        chances = torch.softmax(torch.nan_to_num(misfits, nan=-1e300), -1).cumsum(-1)
        uniform = torch.rand(chances.shape[:2], generator=generator, dtype=chances.dtype)
        picks = torch.searchsorted(chances, uniform[..., None]).clamp(max=len(levels) - 1)
        return priors.noise * levels[picks[..., 0]]
    squares = misfits[..., 0]
    shape = ((dof + tasks.mask.sum(1, keepdim=True)) / 2).expand(squares.shape).contiguous()
    # inverse-gamma again
    gamma = torch._standard_gamma(shape, generator=generator)
    return priors.noise * ((dof + squares) / 2 / gamma).sqrt()
