"""Posterior draws of many small regressions at once, by importance resampling.

Exact in the limit of many proposals also where the posterior is far from normal or has two modes,
which Laplace's approximation alone is not.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit
from matml.bayes.likelihood import draw_noise, evaluate
from matml.bayes.posterior_mode import component_mode
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks

STARTS = 4
"""Proposals from which each task's most probable parameters are sought."""


@dataclass(frozen=True)
class Posterior:
    """Draws from the posterior of B tasks.

    Attributes
    ----------
    draws
        Parameters [B, S, P].
    noise
        Standard deviation of an observation in each draw, [B, S].
    effective
        Effective number of proposals, Kish's (sum w)^2 / sum w^2, [B].
    log_evidence
        Log marginal likelihood of the data (up to a constant of the data alone), [B].
    fit
        Most probable parameters under the prior's best component, with Laplace's covariance.
    generic
        Probability of the prior's generic components given the observations, [B].
    """

    draws: Tensor
    noise: Tensor
    effective: Tensor
    log_evidence: Tensor
    fit: Fit
    generic: Tensor


@torch.no_grad()
def sample_posterior(
    tasks: Tasks, priors: TaskPriors, *, draws: int = 200, proposals: int = 2048, seed: int = 0
) -> Posterior:
    """Return draws from each task's posterior.

    Proposals come half from Laplace's approximations under the narrowest and the widest component
    of what was learned, and under the widest generic one, their covariances widened, and half from
    the prior's components.

    Parameters
    ----------
    priors
        Of the tasks.
    draws, proposals
        Draws returned and proposals per task.
    """
    batch, (count, size) = len(tasks), (len(priors.probabilities), priors.mean.shape[1])
    generator = torch.Generator().manual_seed(seed)

    def propose(sources: list[tuple[Tensor, Tensor]], numbers: list[int]) -> Tensor:
        parts = []
        for (mean, covariance), number in zip(sources, numbers, strict=True):
            normal = torch.randn((batch, number, size), generator=generator, dtype=mean.dtype)
            parts.append(mean[:, None] + normal @ torch.linalg.cholesky(covariance).mT)
        return torch.cat(parts, 1)

    sources = [priors.component(c) for c in range(count)]
    numbers = [round(proposals * float(p + 1 / count) / 4) for p in priors.probabilities]
    points = propose(sources, numbers)
    broad = evaluate(tasks, priors, points)
    # where observations saturate (fractions of 0 and 1) there is no slope at the prior's mean: the
    # search for the most probable parameters begins at the best proposals
    top = torch.nan_to_num(broad.log_posterior, nan=-math.inf).topk(STARTS, 1).indices
    starts = points.gather(1, top[..., None].expand(-1, -1, size)).transpose(0, 1)
    ends = list(dict.fromkeys([priors.learned - 1, 0]))
    if priors.learned < count:
        ends.append(priors.learned)
    fits = [component_mode(tasks, priors, c, starts) for c in ends]
    peaks = [_usable(fit, priors.component(c)) for fit, c in zip(fits, ends, strict=True)]
    several = [proposals // (2 * len(ends))] * len(ends)
    near = propose(peaks, several)
    narrow = evaluate(tasks, priors, near)
    components = torch.cat([broad.components, narrow.components], 1)
    misfits = torch.cat([broad.misfits, narrow.misfits], 1)
    target = torch.cat([broad.log_posterior, narrow.log_posterior], 1)
    points = torch.cat([points, near], 1)
    peak_parts = [_log_normal(points, *peak)[..., None] for peak in peaks]
    counts = torch.tensor(numbers + several, dtype=points.dtype)
    mixture = torch.cat([components, *peak_parts], -1) + (counts / counts.sum()).log()
    log_weights = torch.nan_to_num(target - torch.logsumexp(mixture, -1), nan=-math.inf)
    importance = torch.softmax(log_weights, 1)
    parts = torch.softmax(components + priors.log_probabilities[:, None], -1)
    picks = resampled(importance, draws)

    def picked(values: Tensor) -> Tensor:
        return values.gather(1, picks[..., None].expand(batch, draws, values.shape[-1]))

    return Posterior(
        picked(points),
        draw_noise(picked(misfits), tasks, priors, generator),
        1 / importance.square().sum(1),
        torch.logsumexp(log_weights, 1) - math.log(points.shape[1]),
        _joined(fits).best_of(len(fits)),
        (importance * parts[..., priors.learned :].sum(-1)).sum(1),
    )


def resampled(importance: Tensor, draws: int) -> Tensor:
    """Return which points [B, draws] stand for weights [B, S], by systematic resampling."""
    batch, points = importance.shape
    ladder = ((torch.arange(draws) + 0.5) / draws).to(importance).expand(batch, draws).contiguous()
    return torch.searchsorted(importance.cumsum(1), ladder).clamp(max=points - 1)


def _joined(fits: list[Fit]) -> Fit:
    """Return fits of the same tasks as one, in blocks."""
    return Fit(*(torch.cat([getattr(fit, field.name) for fit in fits]) for field in fields(Fit)))


def _usable(fit: Fit, prior: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return Laplace's mean and widened covariance; the prior's where it has none.

    Far from any data an equation can overflow, and its linearisation says nothing.
    """
    covariance = 1.6 * (fit.covariance + fit.covariance.mT) / 2
    finite = torch.isfinite(covariance).all((1, 2)) & torch.isfinite(fit.position).all(1)
    covariance = torch.where(finite[:, None, None], covariance, prior[1])
    failed = torch.linalg.cholesky_ex(covariance)[1] != 0
    bad = failed | ~finite
    return (
        torch.where(bad[:, None], prior[0], fit.position),
        torch.where(bad[:, None, None], prior[1], covariance),
    )


def _log_normal(points: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return log densities of points [B, S, P] under N(mean [B, P], covariance [B, P, P])."""
    factor = torch.linalg.cholesky(covariance)
    offset = (points - mean[:, None]).mT
    squares = torch.linalg.solve_triangular(factor, offset, upper=False).square().sum(1)
    logdet = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -(squares + logdet[:, None] + points.shape[-1] * math.log(2 * math.pi)) / 2
