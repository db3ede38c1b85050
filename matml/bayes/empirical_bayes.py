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

from matml.bayes.gauss_newton import Fit, GaussianPrior, best_of, gauss_newton
from matml.bayes.tasks import Tasks


@dataclass
class LearnedPrior:
    """Result of `learn_prior`: the prior, the fitted training tasks, the log evidence per round."""

    prior: GaussianPrior
    fit: Fit
    log_evidence: list[float] = field(default_factory=list)


def maximum_a_posteriori(
    tasks: Tasks, prior: GaussianPrior, *, start: Tensor | None = None, extra_starts: int = 2
) -> Fit:
    """Return each task's most probable parameters and Laplace's covariance.

    Parameters
    ----------
    start
        Warm start [B, P]; by default the prior's mean, and `extra_starts` times two points one and
        a half standard deviations to both sides along the widest axes of the prior.
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
    return best_of(tasks, starts, weights, prior=prior)


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
    tasks: Tasks,
    initial: GaussianPrior,
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
    if len(tasks) < 2:
        raise ValueError(f"{len(tasks)} task(s) cannot show how tasks differ: give at least 2")
    scatter = 0.1 * pseudo_tasks * initial.covariance
    prior = initial
    fit = maximum_a_posteriori(tasks, prior)
    history: list[float] = []
    for _ in range(rounds):
        fit = maximum_a_posteriori(tasks, prior, start=fit.position)
        precision = torch.linalg.inv(prior.covariance)
        penalty = pseudo_tasks * torch.logdet(prior.covariance) + (scatter * precision).sum()
        evidence = log_evidence(fit, prior, tasks.weights(prior.noise)).sum()
        history.append(float(evidence - penalty / 2))
        if len(history) > 1 and history[-1] - history[-2] < tolerance * len(tasks):
            break
        prior = _maximise(fit, prior, tasks, scatter, pseudo_tasks)
        prior = _with_known(prior, initial, nuisance)
    return LearnedPrior(prior, fit, history)


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


def _maximise(
    fit: Fit, prior: GaussianPrior, tasks: Tasks, scatter: Tensor, pseudo_tasks: float
) -> GaussianPrior:
    """Return the prior and noise that maximise the expected log density: the M step."""
    mean = fit.position.mean(0)
    offset = fit.position - mean
    moments = offset.mT @ offset + fit.covariance.sum(0)
    covariance = (moments + scatter) / (len(tasks) + pseudo_tasks)
    # expected squared error of an observation, of which the noise is the part noise^2 / variance
    expected = fit.residuals.square() + predictive_variance(fit, fit.jacobian)
    known = tasks.known_variance
    total = prior.noise**2 + known
    part = prior.noise**2 / total
    noise_variance = part.square() * expected + prior.noise**2 * known / total
    variance = float((tasks.mask * noise_variance).sum() / tasks.mask.sum())
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


def predictive_variance(fit: Fit, jacobian: Tensor) -> Tensor:
    """Return the variance of predictions [B, M] from the linearised posterior, without noise.

    Parameters
    ----------
    jacobian
        Of the predictions with respect to the parameters, [B, M, P].
    """
    return (jacobian @ fit.covariance * jacobian).sum(2)
