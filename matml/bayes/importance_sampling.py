"""Posterior draws of many small regressions at once, by importance resampling.

Exact in the limit of many proposals also where the posterior is far from normal or has two modes,
which Laplace's approximation alone is not.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from matml.bayes import student_t as robust
from matml.bayes.gauss_newton import (
    Data,
    Fit,
    GaussianPrior,
    Residual,
    gauss_newton,
    inverse_variances,
)
from matml.bayes.task_prior import TaskPriors

STARTS = 4
"""Proposals from which each task's most probable parameters are sought."""


BLOCK = 500_000
"""Residuals that are evaluated at once."""


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
    """

    draws: Tensor
    noise: Tensor
    effective: Tensor
    log_evidence: Tensor
    fit: Fit


def most_probable(
    residual: Residual,
    priors: TaskPriors,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    component: int,
    starts: Tensor,
) -> Fit:
    """Return each task's maximum a posteriori and Laplace's covariance under one component.

    The best over the starts [S, B, P].
    """
    mean, covariance = priors.component(component)
    count, tasks, size = starts.shape
    weights = inverse_variances(mask, known_variance, priors.noise)
    every = GaussianPrior(mean.repeat(count, 1), covariance.repeat(count, 1, 1), priors.noise)
    fit = gauss_newton(
        residual,
        starts.reshape(count * tasks, size),
        {name: column.repeat(count, 1) for name, column in data.items()},
        weights.repeat(count, 1),
        prior=every,
        steps=30,
        tolerance=1e-3,
    )
    return fit.best_of(count)


@torch.no_grad()
def sample_posterior(
    residual: Residual,
    priors: TaskPriors,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    *,
    draws: int = 200,
    proposals: int = 2048,
    seed: int = 0,
) -> Posterior:
    """Return draws from each task's posterior.

    Proposals come half from Laplace's approximations under the narrowest and the widest component
    of the prior, their covariances widened, and half from the prior's components.

    Parameters
    ----------
    priors
        Of the tasks.
    data, mask, known_variance
        Observations, padded, as in `hierarchical.maximum_a_posteriori`.
    draws, proposals
        Draws returned and proposals per task.
    """
    tasks, (count, size) = len(mask), (len(priors.shares), priors.mean.shape[1])
    generator = torch.Generator().manual_seed(seed)

    def judged(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return proposals' log components of the prior, quality of fit, and log posterior."""
        parts = priors.log_components(points)
        fitness = fit_quality(residual, points, data, mask, known_variance, priors)
        return parts, fitness, log_posterior(points, parts, fitness, data, mask, priors)

    def propose(sources: list[tuple[Tensor, Tensor]], numbers: list[int]) -> Tensor:
        parts = []
        for (mean, covariance), number in zip(sources, numbers, strict=True):
            normal = torch.randn((tasks, number, size), generator=generator, dtype=mean.dtype)
            parts.append(mean[:, None] + normal @ torch.linalg.cholesky(covariance).mT)
        return torch.cat(parts, 1)

    sources = [priors.component(c) for c in range(count)]
    numbers = [round(proposals * float(share + 1 / count) / 4) for share in priors.shares]
    points = propose(sources, numbers)
    found = judged(points)
    # where observations saturate (fractions of 0 and 1) there is no slope at the prior's mean: the
    # search for the most probable parameters begins at the best proposals
    best = torch.nan_to_num(found[2], nan=-math.inf).topk(STARTS, 1).indices
    starts = points.gather(1, best[..., None].expand(-1, -1, size)).transpose(0, 1)
    ends = [count - 1] if count == 1 else [count - 1, 0]
    search = most_probable if math.isinf(priors.point_dof) else robust.most_probable
    fits = [search(residual, priors, data, mask, known_variance, c, starts) for c in ends]
    peaks = [_usable(fit, priors.component(c)) for fit, c in zip(fits, ends, strict=True)]
    several = [proposals // (2 * len(ends))] * len(ends)
    near = propose(peaks, several)
    pairs = zip(found, judged(near), strict=True)
    parts, fitness, target = (torch.cat(pair, 1) for pair in pairs)
    points = torch.cat([points, near], 1)
    peak_parts = [_log_normal(points, *peak)[..., None] for peak in peaks]
    counts = torch.tensor(numbers + several, dtype=points.dtype)
    mixture = torch.cat([parts, *peak_parts], -1) + (counts / counts.sum()).log()
    log_weights = torch.nan_to_num(target - torch.logsumexp(mixture, -1), nan=-math.inf)
    importance = torch.softmax(log_weights, 1)
    ladder = ((torch.arange(draws) + 0.5) / draws).to(importance).expand(tasks, draws).contiguous()
    picks = torch.searchsorted(importance.cumsum(1), ladder).clamp(max=points.shape[1] - 1)
    best = torch.stack([fit.objective for fit in fits]).argmin(0)
    chosen = {
        name: torch.stack([getattr(fit, name) for fit in fits])[best, torch.arange(tasks)]
        for name in Fit.__dataclass_fields__
    }
    return Posterior(
        points.gather(1, picks[..., None].expand(tasks, draws, size)),
        draw_task_noise(
            fitness.gather(1, picks[..., None].expand(-1, -1, fitness.shape[-1])),
            mask,
            priors,
            generator,
        ),
        1 / importance.square().sum(1),
        torch.logsumexp(log_weights, 1) - math.log(points.shape[1]),
        Fit(**chosen),
    )


def fit_quality(
    residual: Residual,
    points: Tensor,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    priors: TaskPriors,
) -> Tensor:
    """Return what likelihood and noise follow from: weighted squares [B, S, 1].

    With heavy-tailed errors the log likelihoods at each level of the noise instead, [B, S, U].
    """
    if math.isinf(priors.point_dof):
        squares = weighted_squares(residual, points, data, mask, known_variance, priors.noise)
        return squares[..., None]
    return robust.level_log_likelihoods(residual, points, data, mask, known_variance, priors)


def task_log_likelihood(fitness: Tensor, mask: Tensor, priors: TaskPriors) -> Tensor:
    """Return log likelihoods [B, S], the task's noise integrated out."""
    if math.isinf(priors.point_dof):
        return log_likelihood(fitness[..., 0], mask, priors.noise_dof)
    return torch.logsumexp(fitness, -1) - math.log(fitness.shape[-1])


def log_posterior(
    points: Tensor, parts: Tensor, fitness: Tensor, data: Data, mask: Tensor, priors: TaskPriors
) -> Tensor:
    """Return log posterior densities of parameters [B, S, P] up to a constant, [B, S].

    Parameters
    ----------
    parts
        Log densities under the prior's components, [B, S, C].
    fitness
        From `fit_quality`.
    """
    prior = torch.logsumexp(parts + priors.shares.log(), -1)
    value = prior + task_log_likelihood(fitness, mask, priors)
    if priors.log_design is None:
        return value
    return value + _over_observations(priors.log_design, points, data, mask)


def draw_task_noise(
    fitness: Tensor, mask: Tensor, priors: TaskPriors, generator: torch.Generator
) -> Tensor:
    """Return a draw of the noise [B, S] given the quality of the fit [B, S, U]."""
    if math.isinf(priors.point_dof):
        return draw_noise(fitness[..., 0], mask, priors, generator)
    return robust.draw_noise(fitness, priors, generator)


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


def weighted_squares(
    residual: Residual,
    points: Tensor,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    noise: float,
) -> Tensor:
    """Return the weighted sum of squared residuals of parameters [B, S, P], [B, S]."""
    weights = inverse_variances(mask, known_variance, noise)

    def squares(copies: Tensor, columns: Data) -> Tensor:
        return residual(copies, columns).square()

    return _over_observations(squares, points, data, weights)


def _over_observations(function: Residual, points: Tensor, data: Data, weights: Tensor) -> Tensor:
    """Return the weighted sum over observations of a pointwise function at [B, S, P], [B, S]."""
    # one vector for all observations of a proposal, to broadcast: what depends on the parameters
    # alone is computed once
    columns = {name: column[:, None] for name, column in data.items()}
    # a block of proposals at a time stays in the processor's cache
    blocks = points[:, :, None].split(max(1, BLOCK // weights.numel()), dim=1)
    return torch.cat([(weights[:, None] * function(part, columns)).sum(2) for part in blocks], 1)


def log_likelihood(squares: Tensor, mask: Tensor, dof: float) -> Tensor:
    """Return the log likelihood of weighted squares [B, S], the task's noise u integrated out.

    With u^2 inverse-gamma of shape and scale dof / 2 this is a Student t, up to a constant.
    """
    return -(dof + mask.sum(1, keepdim=True)) / 2 * torch.log1p(squares / dof)


def draw_noise(
    squares: Tensor, mask: Tensor, priors: TaskPriors, generator: torch.Generator
) -> Tensor:
    """Return a draw of each task's noise given weighted squares [B, S]: inverse-gamma again."""
    dof = priors.noise_dof
    shape = ((dof + mask.sum(1, keepdim=True)) / 2).expand(squares.shape).contiguous()
    gamma = torch._standard_gamma(shape, generator=generator)
    return priors.noise * ((dof + squares) / 2 / gamma).sqrt()


def _log_normal(points: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return log densities of points [B, S, P] under N(mean [B, P], covariance [B, P, P])."""
    factor = torch.linalg.cholesky(covariance)
    offset = (points - mean[:, None]).mT
    squares = torch.linalg.solve_triangular(factor, offset, upper=False).square().sum(1)
    logdet = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -(squares + logdet[:, None] + points.shape[-1] * math.log(2 * math.pi)) / 2
