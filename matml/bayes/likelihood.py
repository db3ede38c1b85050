"""The likelihood of a task's observations, its own noise integrated out.

Errors are normal, with u_i times the common noise in task i, u_i^2 inverse-gamma: then the
likelihood of the whole task is a Student t in closed form. Where single observations may be grossly
wrong each error is a Student t of its own (`TaskPriors.point_dof`), with the scale s,
s^2 = c^2 (u^2 noise^2 + known variance); c makes its central 68 % as wide as those of the normal of
that variance. The task's u is then integrated out over a few levels.
"""

import math
from dataclasses import dataclass
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
    # scipy.stats would take most of a second to import
    from scipy.special import gammaincinv, ndtri, stdtrit

    middles = [(i + 0.5) / LEVELS for i in range(LEVELS)]
    levels = tuple(math.sqrt(noise_dof / x) for x in 2 * gammaincinv(noise_dof / 2, middles))
    heavy = ndtri(0.84) if math.isinf(point_dof) else stdtrit(point_dof, 0.84)
    return float(ndtri(0.84) / heavy), levels


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


@dataclass(frozen=True)
class Evaluated:
    """Parameters [B, S, P] of tasks, evaluated.

    Attributes
    ----------
    components
        Log densities under the components of the prior, [B, S, C].
    misfits
        What likelihood and noise follow from: weighted squares [B, S, 1]; with heavy-tailed errors
        the log likelihood at each level of the noise instead, [B, S, U].
    log_posterior
        Log density of the posterior up to a constant of the data alone, [B, S].
    """

    components: Tensor
    misfits: Tensor
    log_posterior: Tensor


def evaluate(tasks: Tasks, priors: TaskPriors, points: Tensor) -> Evaluated:
    """Return how probable parameters [B, S, P] are given a task's observations."""
    components = priors.log_components(points)
    residuals = tasks.blocks(tasks.residual, points)
    if math.isfinite(priors.point_dof):
        misfits = torch.cat([_log_likelihoods(r, tasks, priors) for r in residuals], 1)
        likelihood = torch.logsumexp(misfits, -1) - math.log(LEVELS)
    else:
        weights, dof = tasks.weights(priors.noise)[:, None], priors.noise_dof
        squares = torch.cat([(weights * r.square()).sum(2) for r in residuals], 1)
        misfits = squares[..., None]
        likelihood = -(dof + tasks.mask.sum(1, keepdim=True)) / 2 * torch.log1p(squares / dof)
    value = torch.logsumexp(components + priors.log_probabilities[:, None], -1) + likelihood
    if priors.log_design is not None:
        mask, designs = tasks.mask[:, None], tasks.blocks(priors.log_design, points)
        value = value + torch.cat([(mask * density).sum(2) for density in designs], 1)
    return Evaluated(components, misfits, value)


def _log_likelihoods(residuals: Tensor, tasks: Tasks, priors: TaskPriors) -> Tensor:
    """Return log likelihoods of residuals [B, S, N] at each level of the noise, [B, S, U]."""
    dof, mask, known = priors.point_dof, tasks.mask[:, None], tasks.known_variance[:, None]
    narrow, levels = _constants(dof, priors.noise_dof)
    squares, found = residuals.square(), []
    for level in levels:
        variance = narrow**2 * ((level * priors.noise) ** 2 + known)
        each = (dof + 1) * torch.log1p(squares / (dof * variance)) + variance.log()
        found.append(-(mask * each).sum(2) / 2)
    return torch.stack(found, -1)


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
