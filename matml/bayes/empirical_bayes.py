"""Many small nonlinear regressions under one learned Gaussian prior.

Task i has parameters z_i ~ N(mean, covariance) and data with independent Gaussian errors. Its
adaptation is the maximum a posteriori by damped Gauss-Newton; the prior and the noise are learned
by expectation-maximisation with Laplace's approximation in the E step (type-II maximum likelihood;
MacKay, Neural Comput. 4 (1992) 415; Lindstrom and Bates, Biometrics 46 (1990) 673). For residuals
linear in z every step is exact. All tasks are solved at once (`matml.bayes.gauss_newton`).

Of the tasks EM sees `Sums` alone: those who hold parts of the tasks learn one prior together, and
hand over nothing else.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit, GaussianPrior, best_of, gauss_newton
from matml.bayes.tasks import Tasks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sums:
    """What tasks tell of their prior, a sum over tasks: the result of the E step.

    `+` joins the sums of parts of the tasks; those of all parts say all that EM asks of all tasks.

    Attributes
    ----------
    prior
        Under which the tasks were fitted.
    tasks, observations
        Their numbers.
    offset, outer
        Expected distances of the tasks' parameters from the prior's mean, [P], and their outer
        products, [P, P].
    squared_noise
        Expected squares of the observations' noise.
    log_evidence
        Log marginal likelihood.
    """

    prior: GaussianPrior
    tasks: int
    observations: int
    offset: Tensor
    outer: Tensor
    squared_noise: float
    log_evidence: float

    def __add__(self, other: "Sums") -> "Sums":
        """Return the sums over the tasks of both.

        Raises
        ------
        ValueError
            Where the two are not under the same prior.
        """
        mine, theirs = self.prior, other.prior
        if mine.noise != theirs.noise or not (
            torch.equal(mine.mean, theirs.mean) and torch.equal(mine.covariance, theirs.covariance)
        ):
            raise ValueError("sums under two priors do not add up: compute both under the same one")
        added = (getattr(self, f.name) + getattr(other, f.name) for f in fields(Sums)[1:])
        return Sums(self.prior, *added)


@dataclass(frozen=True)
class Maximised:
    """The prior at the end of EM.

    Attributes
    ----------
    prior
        The last one under which an E step was made.
    log_evidence
        Log marginal likelihood of all tasks under each prior on the way, with the log density of
        the inverse-Wishart prior (up to a constant).
    rounds
        E steps made.
    converged
        Whether the log evidence rose by no more than the tolerance at the end.
    """

    prior: GaussianPrior
    log_evidence: list[float]
    rounds: int
    converged: bool


@dataclass(frozen=True)
class LearnedPrior(Maximised):
    """Result of `learn_prior`: with the training tasks fitted under the prior."""

    fit: Fit


def maximum_a_posteriori(
    tasks: Tasks,
    prior: GaussianPrior,
    *,
    start: Tensor | None = None,
    extra_starts: int = 2,
    preference: float = 0.0,
) -> Fit:
    """Return each task's most probable parameters and Laplace's covariance.

    Parameters
    ----------
    start
        Warm start [B, P]; by default the prior's mean, and `extra_starts` times two points one and
        a half standard deviations to both sides along the widest axes of the prior.
    preference
        For the first of starts that end alike, as of `Fit.best_of`.
    """
    weights = tasks.weights(prior.noise)
    if start is not None:
        return gauss_newton(tasks.linearise, start, weights, prior=prior)
    variances, axes = torch.linalg.eigh(prior.covariance)
    arms = [
        sign * 1.5 * variances[-k].sqrt() * axes[:, -k]
        for k in range(1, 1 + min(extra_starts, len(variances)))
        for sign in (1, -1)
    ]
    starts = torch.stack([prior.mean, *(prior.mean + arm for arm in arms)])
    return best_of(tasks, starts, weights, prior=prior, preference=preference)


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


class EStep:
    """The E step over some tasks: what they tell under a prior, each fit from the one before.

    `preference` is that of `maximum_a_posteriori`, for the first fit.
    """

    def __init__(self, tasks: Tasks, preference: float = 0.0) -> None:
        self.tasks, self.preference = tasks, preference
        self._start: Tensor | None = None

    def at(self, prior: GaussianPrior) -> Fit:
        """Return the tasks fitted under a prior."""
        fit = maximum_a_posteriori(self.tasks, prior, start=self._start, preference=self.preference)
        self._start = fit.position
        return fit

    def __call__(self, prior: GaussianPrior) -> Sums:
        """Return the sums over the tasks under a prior."""
        fit, tasks = self.at(prior), self.tasks
        offset = fit.position - prior.mean
        # expected squared error of an observation, of which noise is the part noise^2 / variance
        expected = fit.residuals.square() + predictive_variance(fit, fit.jacobian)
        known = tasks.known_variance
        total = prior.noise**2 + known
        squared = (prior.noise**2 / total).square() * expected + prior.noise**2 * known / total
        return Sums(
            prior,
            len(tasks),
            int(tasks.mask.sum()),
            offset.sum(0),
            offset.mT @ offset + fit.covariance.sum(0),
            float((tasks.mask * squared).sum()),
            float(log_evidence(fit, prior, tasks.weights(prior.noise)).sum()),
        )


def learn_prior(
    tasks: Tasks,
    initial: GaussianPrior,
    *,
    rounds: int = 200,
    tolerance: float = 1e-4,
    pseudo_tasks: float = 2.0,
    nuisance: int = 0,
) -> LearnedPrior:
    """Learn prior mean, covariance and noise from tasks by EM; see `maximise_evidence`."""
    step = EStep(tasks)
    found = maximise_evidence(
        step,
        initial,
        rounds=rounds,
        tolerance=tolerance,
        pseudo_tasks=pseudo_tasks,
        nuisance=nuisance,
    )
    return LearnedPrior(**vars(found), fit=step.at(found.prior))


def maximise_evidence(
    e_step: Callable[[GaussianPrior], Sums],
    initial: GaussianPrior,
    *,
    rounds: int = 200,
    tolerance: float = 1e-4,
    pseudo_tasks: float = 2.0,
    nuisance: int = 0,
    accelerate: bool = False,
) -> Maximised:
    """Return the prior of highest evidence by EM, wherever its tasks are.

    Parameters
    ----------
    e_step
        The sums over all tasks under a prior: an `EStep`, or the sum of several.
    initial
        Where to start; its covariance, scaled, is also what the pseudo-tasks look like.
    rounds
        Most E steps; a warning says so where they did not suffice.
    tolerance
        Stop when the log evidence per task rises by less in a round.
    pseudo_tasks, nuisance
        As in `m_step`.
    accelerate
        Two rounds of EM show where it goes and how fast it slows down; a leap along that path
        follows (squared extrapolation, scheme S3 of Varadhan and Roland, Scand. J. Stat. 35 (2008)
        335), which counts only where the evidence rises. It pays where EM creeps. Plain EM stops a
        little before its end at the usual tolerance, and new alloys are predicted no worse for it
        (simulated steels: errors .3 to .9 % lower).

    Raises
    ------
    ValueError
        With fewer than two tasks, which say nothing of a spread.
    """

    def under(prior: GaussianPrior) -> tuple[Sums, float]:
        sums = e_step(prior)
        return sums, penalised_evidence(sums, initial, pseudo_tasks)

    sums, evidence = under(initial)
    if sums.tasks < 2:
        raise ValueError(f"{sums.tasks} task(s) cannot show how tasks differ: give at least 2")
    history, used, rise = [evidence], 1, math.inf
    path, longest = [_coordinates(initial)], 4.0
    while used < rounds and rise >= tolerance:
        following = [m_step(sums, initial, pseudo_tasks, nuisance)]
        path.append(_coordinates(following[0]))
        if accelerate and len(path) == 3 and used + 2 <= rounds:
            leap = _extrapolated(path, longest)
            following = following if leap is None else [_prior_at(leap, initial), *following]
        before = used
        for prior in following:
            sums, evidence = under(prior)
            used += 1
            if evidence >= history[-1]:
                break
        if len(following) > 1:
            longest = longest * 2 if used == before + 1 else max(longest / 4, 1.5)
        rise = (evidence - history[-1]) / sums.tasks
        history.append(evidence)
        path = path if len(path) < 3 else [_coordinates(sums.prior)]
    converged = rise < tolerance
    if not converged:
        log.warning(
            "the prior of %d tasks is not learned to the end: in the last of %d rounds of EM the "
            "log evidence still rose by %.2g a task (tolerance %.2g); allow more rounds",
            *(sums.tasks, used, rise, tolerance),
        )
    return Maximised(sums.prior, history, used, converged)


def penalised_evidence(sums: Sums, initial: GaussianPrior, pseudo_tasks: float) -> float:
    """Return what EM raises: the log evidence with the log density of the inverse-Wishart prior."""
    covariance = sums.prior.covariance
    scatter = _scatter(initial, pseudo_tasks)
    penalty = pseudo_tasks * torch.logdet(covariance)
    penalty = penalty + (scatter * torch.linalg.inv(covariance)).sum()
    return sums.log_evidence - float(penalty) / 2


def m_step(
    sums: Sums, initial: GaussianPrior, pseudo_tasks: float = 2.0, nuisance: int = 0
) -> GaussianPrior:
    """Return the prior and noise that maximise the expected log density.

    Parameters
    ----------
    pseudo_tasks
        Strength of an inverse-Wishart prior on the covariance, in tasks: with few tasks it keeps
        directions that they do not span from collapsing. Zero is maximum likelihood. The
        pseudo-tasks' covariance is a tenth of the initial one.
    nuisance
        The last so many parameters are a task's own, with a known distribution that is not learned:
        their part of the initial prior stays, independent of the others.
    """
    shift = sums.offset / sums.tasks
    moments = sums.outer - sums.tasks * torch.outer(shift, shift)
    mean = sums.prior.mean + shift
    covariance = (moments + _scatter(initial, pseudo_tasks)) / (sums.tasks + pseudo_tasks)
    if nuisance:
        mean[-nuisance:] = initial.mean[-nuisance:]
        covariance[-nuisance:, :-nuisance] = covariance[:-nuisance, -nuisance:] = 0.0
        covariance[-nuisance:, -nuisance:] = initial.covariance[-nuisance:, -nuisance:]
    noise = math.sqrt(max(sums.squared_noise / sums.observations, 1e-12))
    return GaussianPrior(mean, covariance, noise)


def _scatter(initial: GaussianPrior, pseudo_tasks: float) -> Tensor:
    """Return the sum of outer products of the pseudo-tasks."""
    return 0.1 * pseudo_tasks * initial.covariance


def _coordinates(prior: GaussianPrior) -> Tensor:
    """Return a prior as a vector of free numbers: mean, log-Cholesky factor, log noise."""
    factor = torch.linalg.cholesky(prior.covariance)
    diagonal = factor.diagonal().log()
    below = factor.tril(-1) + torch.diag_embed(diagonal)
    noise = prior.mean.new_tensor([math.log(prior.noise)])
    return torch.cat([prior.mean, below.flatten(), noise])


def _prior_at(coordinates: Tensor, like: GaussianPrior) -> GaussianPrior:
    """Return the prior with such coordinates."""
    size = len(like.mean)
    mean, below, noise = coordinates.split([size, size * size, 1])
    below = below.reshape(size, size)
    factor = below.tril(-1) + torch.diag_embed(below.diagonal().exp())
    return GaussianPrior(mean, factor @ factor.mT, math.exp(float(noise)))


def _extrapolated(path: list[Tensor], longest: float) -> Tensor | None:
    """Return where three points in a row lead; None where that is not beyond the third.

    The leap is bounded, in steps by `longest`, and in itself: on standardised parameters, and in
    logarithms of spreads, a longer one is an extrapolation.
    """
    first, second, third = path
    step = second - first
    bend = third - second - step
    length = min(float(step.norm() / bend.norm()), float(1 / step.norm()), longest)
    if not length > 1:
        return None
    return first + 2 * length * step + length**2 * bend


def for_a_new_task(prior: GaussianPrior, groups: int) -> GaussianPrior:
    """Return the prior widened for the uncertainty of a mean and covariance from few tasks.

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


def predictive_variance(fit: Fit, jacobian: Tensor) -> Tensor:
    """Return the variance of predictions [B, M] from the linearised posterior, without noise.

    Parameters
    ----------
    jacobian
        Of the predictions with respect to the parameters, [B, M, P].
    """
    return (jacobian @ fit.covariance * jacobian).sum(2)
