"""Many small nonlinear regressions under one learned Gaussian prior.

Task i has parameters z_i ~ N(mean, covariance) and data with independent Gaussian errors. Its
adaptation is the maximum a posteriori by damped Gauss-Newton; the prior and the noise are learned
by expectation-maximisation with Laplace's approximation in the E step (type-II maximum likelihood;
MacKay, Neural Comput. 4 (1992) 415; Lindstrom and Bates, Biometrics 46 (1990) 673). For residuals
linear in z every step is exact. All tasks are solved at once (`matml.bayes.gauss_newton`).
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from matml.bayes.gauss_newton import (
    Data,
    Fit,
    GaussianPrior,
    Residual,
    best_of,
    gauss_newton,
    inverse_variances,
)


@dataclass
class LearnedPrior:
    """Result of `learn_prior`: the prior, the fitted training tasks, the log evidence per round."""

    prior: GaussianPrior
    fit: Fit
    log_evidence: list[float] = field(default_factory=list)


def maximum_a_posteriori(
    residual: Residual,
    prior: GaussianPrior,
    data: Data,
    mask: Tensor,
    known_variance: Tensor | None = None,
    *,
    start: Tensor | None = None,
    extra_starts: int = 2,
) -> Fit:
    """Return each task's most probable parameters and Laplace's covariance.

    Parameters
    ----------
    prior
        Prior and noise.
    mask
        1 for an observation, 0 for padding, [B, N].
    known_variance
        Variance of each observation on top of the prior's noise, [B, N].
    start
        Warm start [B, P]; by default the prior's mean, and `extra_starts` times two points one and
        a half standard deviations to both sides along the widest axes of the prior.
    """
    extra = torch.zeros_like(mask) if known_variance is None else known_variance
    weights = inverse_variances(mask, extra, prior.noise)
    if start is not None:
        return gauss_newton(residual, start, data, weights, prior=prior)
    spread, axes = torch.linalg.eigh(prior.covariance)
    arms = [
        sign * 1.5 * spread[-k].sqrt() * axes[:, -k]
        for k in range(1, 1 + min(extra_starts, len(spread)))
        for sign in (1, -1)
    ]
    starts = torch.stack([prior.mean, *(prior.mean + arm for arm in arms)])
    return best_of(residual, starts, data, weights, prior=prior)


def log_evidence(fit: Fit, prior: GaussianPrior, weights: Tensor) -> Tensor:
    """Return each task's log marginal likelihood by Laplace's approximation, [B].

    Exact for residuals linear in the parameters.
    """
    present = weights > 0
    noise_terms = torch.where(present, (weights.clamp(min=1e-300) / (2 * math.pi)).log(), 0.0)
    return (
        -fit.objective
        + noise_terms.sum(1) / 2
        - torch.logdet(prior.covariance) / 2
        + torch.logdet(fit.covariance) / 2
    )


def learn_prior(
    residual: Residual,
    initial: GaussianPrior,
    data: Data,
    mask: Tensor,
    known_variance: Tensor | None = None,
    *,
    rounds: int = 200,
    tolerance: float = 1e-4,
    pseudo_tasks: float = 2.0,
    nuisance: int = 0,
) -> LearnedPrior:
    """Learn prior mean, covariance and noise from tasks by EM.

    Parameters
    ----------
    initial
        Where to start; its covariance, scaled, is also what the pseudo-tasks look like.
    data, mask, known_variance
        Training tasks, as in `maximum_a_posteriori`.
    rounds
        Most EM rounds.
    tolerance
        Stop when the log evidence per task rises by less in a round.
    pseudo_tasks
        Strength of an inverse-Wishart prior on the covariance, in tasks: with few tasks it keeps
        directions that they do not span from collapsing. Zero is maximum likelihood. The
        pseudo-tasks' covariance is a tenth of the initial one.
    nuisance
        The last so many parameters are a task's own, with a known distribution that is not learned:
        their part of the initial prior stays, independent of the others.

    Returns
    -------
    LearnedPrior
        `log_evidence` holds the log marginal likelihood of all tasks before each round (with the
        log density of the inverse-Wishart prior, up to a constant) and after the last.

    Raises
    ------
    ValueError
        With fewer than two tasks, which say nothing of a spread.
    """
    tasks = mask.shape[0]
    if tasks < 2:
        raise ValueError(f"{tasks} task(s) cannot tell how tasks differ: at least 2 are needed")
    extra = torch.zeros_like(mask) if known_variance is None else known_variance
    scatter = 0.1 * pseudo_tasks * initial.covariance
    prior = initial
    fit = maximum_a_posteriori(residual, prior, data, mask, extra)
    history: list[float] = []
    for _ in range(rounds):
        fit = maximum_a_posteriori(residual, prior, data, mask, extra, start=fit.position)
        weights = inverse_variances(mask, extra, prior.noise)
        precision = torch.linalg.inv(prior.covariance)
        penalty = pseudo_tasks * torch.logdet(prior.covariance) + (scatter * precision).sum()
        history.append(float(log_evidence(fit, prior, weights).sum() - penalty / 2))
        if len(history) > 1 and history[-1] - history[-2] < tolerance * tasks:
            return LearnedPrior(prior, fit, history)
        prior = _maximise(fit, prior, mask, extra, scatter, pseudo_tasks)
        prior = _with_known(prior, initial, nuisance)
    return LearnedPrior(prior, fit, history)


def for_a_new_task(prior: GaussianPrior, groups: int) -> GaussianPrior:
    """Return the prior widened for what so few tasks cannot tell of mean and covariance.

    The predictive distribution of a new task after n independent ones has the variance
    (n + 1) / (n - P - 1) times the estimated covariance (multivariate normal with unknown mean and
    covariance, vague prior; Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.6). The
    factor is at most 4, its value where n barely exceeds P.

    Parameters
    ----------
    groups
        Number n of independent tasks: near-twins count once.
    """
    size = len(prior.mean)
    factor = (groups + 1) / max(groups - size - 1, 1)
    return replace(prior, covariance=prior.covariance * min(factor, 4.0))


def _maximise(
    fit: Fit,
    prior: GaussianPrior,
    mask: Tensor,
    known_variance: Tensor,
    scatter: Tensor,
    pseudo_tasks: float,
) -> GaussianPrior:
    """Return the prior and noise that maximise the expected log density: the M step."""
    tasks = mask.shape[0]
    mean = fit.position.mean(0)
    offset = fit.position - mean
    moments = offset.mT @ offset + fit.covariance.sum(0)
    covariance = (moments + scatter) / (tasks + pseudo_tasks)
    # expected squared error of an observation, of which the noise is the share noise^2 / variance
    spread = (fit.jacobian @ fit.covariance * fit.jacobian).sum(2)
    expected = fit.residuals.square() + spread
    total = prior.noise**2 + known_variance
    share = prior.noise**2 / total
    noise_variance = share.square() * expected + prior.noise**2 * known_variance / total
    variance = float((mask * noise_variance).sum() / mask.sum())
    return replace(prior, mean=mean, covariance=covariance, noise=math.sqrt(max(variance, 1e-12)))


def _with_known(prior: GaussianPrior, known: GaussianPrior, count: int) -> GaussianPrior:
    """Return the prior with the last parameters as known, independent of the others."""
    if count == 0:
        return prior
    mean, covariance = prior.mean.clone(), prior.covariance.clone()
    mean[-count:] = known.mean[-count:]
    covariance[-count:, :-count] = covariance[:-count, -count:] = 0.0
    covariance[-count:, -count:] = known.covariance[-count:, -count:]
    return replace(prior, mean=mean, covariance=covariance)


def draw_posterior(
    residual: Residual,
    fit: Fit,
    prior: GaussianPrior,
    data: Data,
    mask: Tensor,
    known_variance: Tensor | None = None,
    *,
    draws: int = 200,
    proposals: int = 2048,
    seed: int = 0,
) -> Tensor:
    """Return draws from each task's posterior by importance resampling, [B, draws, P].

    Proposals come half from Laplace's approximation, its covariance doubled, and half from the
    prior: exact in the limit of many proposals also where the posterior is far from normal (a
    measurement that only bounds a parameter), which Laplace's approximation alone is not.

    Parameters
    ----------
    fit
        From `maximum_a_posteriori` on the same data.
    draws, proposals
        Draws returned and proposals per task.
    """
    tasks, size = fit.position.shape
    generator = torch.Generator().manual_seed(seed)
    half = proposals // 2
    wide = torch.linalg.cholesky(2 * _symmetric(fit.covariance))
    broad = torch.linalg.cholesky(prior.covariance)
    normal = torch.randn((2, tasks, half, size), generator=generator, dtype=fit.position.dtype)
    points = torch.cat(
        [fit.position[:, None] + normal[0] @ wide.mT, prior.mean + normal[1] @ broad.T], 1
    )
    extra = torch.zeros_like(mask) if known_variance is None else known_variance
    weights = inverse_variances(mask, extra, prior.noise)
    # a block of proposals at a time bounds the memory
    misfit = []
    for part in points.split(max(1, 2_000_000 // mask.numel()), dim=1):
        shape = (tasks, part.shape[1])
        copies = part[:, :, None].expand(*shape, mask.shape[1], size)
        columns = {
            name: column[:, None].expand(*shape, *column.shape[1:]) for name, column in data.items()
        }
        with torch.no_grad():
            misfit.append((weights[:, None] * residual(copies, columns).square()).sum(2))
    log_prior = _log_normal(points, prior.mean, broad)
    target = log_prior - torch.cat(misfit, 1) / 2
    # both halves of the mixture are equally large: its density up to a constant
    mixture = torch.logaddexp(_log_normal(points, fit.position[:, None], wide), log_prior)
    importance = torch.softmax(torch.nan_to_num(target - mixture, nan=-math.inf), 1)
    ladder = (torch.arange(draws) + 0.5) / draws
    picks = torch.searchsorted(importance.cumsum(1), ladder.expand(tasks, draws).to(importance))
    picks = picks.clamp(max=points.shape[1] - 1)
    return points.gather(1, picks[..., None].expand(tasks, draws, size))


def _symmetric(matrix: Tensor) -> Tensor:
    """Return the symmetric part, which rounding of an inverse may have lost."""
    return (matrix + matrix.mT) / 2


def _log_normal(points: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Return log densities, up to a constant, of points [B, S, P]; Cholesky factor [..., P, P]."""
    white = torch.linalg.solve_triangular(factor, (points - mean).mT, upper=False)
    logdet = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -white.square().sum(1) / 2 - (logdet[:, None] if logdet.dim() else logdet)


def predictive_variance(fit: Fit, jacobian: Tensor, noise_variance: float | Tensor) -> Tensor:
    """Return the variance of new observations [B, M] from the linearised posterior.

    Parameters
    ----------
    jacobian
        Of the predictions with respect to the parameters, [B, M, P].
    """
    return (jacobian @ fit.covariance * jacobian).sum(2) + noise_variance
