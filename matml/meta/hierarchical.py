"""Many small nonlinear regressions under one learned Gaussian prior.

Task i has parameters z_i ~ N(mean, covariance) and data with independent Gaussian errors. Its
adaptation is the maximum a posteriori by damped Gauss-Newton; the prior and the noise are learned
by expectation-maximisation with Laplace's approximation in the E step (type-II maximum likelihood;
MacKay, Neural Comput. 4 (1992) 415; Lindstrom and Bates, Biometrics 46 (1990) 673). For residuals
linear in z every step is exact. A task is whatever the residual function takes; all tasks are
solved at once, padded to one length, with weight zero on padding.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
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
        return Fit(*(getattr(self, name)[rows] for name in Fit.__dataclass_fields__))


@dataclass
class LearnedPrior:
    """Result of `learn_prior`: the prior, the fitted training tasks, the log evidence per round."""

    prior: GaussianPrior
    fit: Fit
    log_evidence: list[float] = field(default_factory=list)


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
    return Fit(*(getattr(fit, name)[rows] for name in Fit.__dataclass_fields__))


def inverse_variances(mask: Tensor, known_variance: Tensor, noise: float) -> Tensor:
    """Return weights [B, N] of observations whose variance is the noise's plus a known one."""
    return mask / (noise**2 + known_variance)


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
