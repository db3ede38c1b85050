"""A heavy-tailed prior over tasks whose mean follows what is known of a task beforehand.

Task i with features x_i (a composition) has the parameters

    z_i = centre + g(x_i) + e_i,   e_i ~ Student t (dof, 0, S),

g a Gaussian process with covariance k(x, x') S: all parameters share the kernel, and S says how
they go together. Written as a scale mixture, e_i is normal with covariance S / w_i, w_i ~ Gamma:
tasks far from the rest get a small w_i and pull neither centre nor S to themselves (Lange, Little
and Taylor, J. Am. Stat. Assoc. 84 (1989) 881). The noise of task i is u_i times the common one,
u_i^2 inverse-gamma, so that its likelihood, u_i integrated out, is a Student t too.

S comes from predictions of each task by tasks of *other* groups, and so do amplitude and length of
the kernel and the degrees of freedom (leave-group-out predictive density): features count as far as
they help with a task that was not seen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.tasks import Pointwise

CENTRE_VARIANCE = 4.0
"""Variance of the centre, in S: the centre is learned, so it is as good as free."""

KNOWN = 1e9
"""Degrees of freedom of a noise that is as good as known."""

SCALE_PROBABILITIES = (0.04, 0.16, 0.4, 0.4)
"""Probabilities of the normal components that stand for the Student t, the widest first."""


@dataclass(frozen=True)
class TaskPriors:
    """The prior of each of B tasks: a scale mixture of normals, and the noise.

    Attributes
    ----------
    mean
        [B, P].
    covariance
        Common shape of all components, [P, P].
    factors
        Component c of task b has the covariance `factors[b, c] * covariance`, [B, C].
    probabilities
        Of the components, [C].
    noise
        Typical standard deviation of an observation, on the scale of the residuals.
    noise_dof
        A task's noise variance is noise^2 times dof / chi^2(dof): small where tasks' noises differ.
    point_dof
        Degrees of freedom of each observation's error: infinite for normal errors, small where
        single observations may be grossly wrong (`matml.bayes.likelihood`).
    log_design
        `log_design(z [B, S, N, P], columns) -> [B, S, N]`: log density of where each observation
        was made, given the parameters. None where that says nothing of a task.
    generic
        Mean [P] and covariance [P, P] of the last `generic_components` components, which are about
        tasks unlike those that were learned from; None where there are none.
    generic_share
        Their probability for each task, [B], instead of the one in `probabilities`.
    """

    mean: Tensor
    covariance: Tensor
    factors: Tensor
    probabilities: Tensor
    noise: float
    noise_dof: float
    point_dof: float = math.inf
    log_design: Pointwise | None = None
    generic: GaussianPrior | None = None
    generic_components: int = 0
    generic_share: Tensor | None = None

    @staticmethod
    def normal(prior: GaussianPrior, tasks: int) -> "TaskPriors":
        """Return a common Gaussian prior with a known noise as the prior of so many tasks."""
        one = torch.ones(1, dtype=prior.mean.dtype)
        mean = prior.mean.expand(tasks, -1)
        return TaskPriors(mean, prior.covariance, one.expand(tasks, 1), one, prior.noise, KNOWN)

    def __getitem__(self, rows: Tensor) -> "TaskPriors":
        """Return the priors of some tasks, repeated as `rows` says."""
        share = None if self.generic_share is None else self.generic_share[rows]
        return replace(self, mean=self.mean[rows], factors=self.factors[rows], generic_share=share)

    @property
    def learned(self) -> int:
        """Number of the components about what was learned: they come first, the widest first."""
        return len(self.probabilities) - self.generic_components

    @property
    def log_probabilities(self) -> Tensor:
        """Logarithm of each task's probabilities of the components, [B, C]."""
        chances = self.probabilities.expand(self.factors.shape)
        if self.generic_share is not None:
            learned, generic = chances.tensor_split([self.learned], 1)
            share = self.generic_share[:, None]
            parts = [(1 - share) * learned / learned.sum(1, keepdim=True)]
            parts.append(share * generic / generic.sum(1, keepdim=True))
            chances = torch.cat(parts, 1)
        return chances.log()

    def with_generic(
        self, generic: GaussianPrior, share: Tensor, widths: Sequence[tuple[float, float]]
    ) -> "TaskPriors":
        """Return the mixture with a generic prior that has a share [B] of the probability.

        `widths` are the factors of its covariance, the widest first, with their probabilities.
        """
        mean = float(share.mean())
        wide = self.factors.new_tensor(widths)
        return replace(
            self,
            factors=torch.cat([self.factors, wide[:, 0].expand(len(self.factors), -1)], 1),
            probabilities=torch.cat([(1 - mean) * self.probabilities, mean * wide[:, 1]]),
            generic=generic,
            generic_components=len(widths),
            generic_share=share,
        )

    def without_generic(self) -> "TaskPriors":
        """Return the prior of tasks like those that were learned from."""
        if self.generic is None:
            return self
        learned = self.probabilities[: self.learned]
        return replace(
            self,
            factors=self.factors[:, : self.learned],
            probabilities=learned / learned.sum(),
            generic=None,
            generic_components=0,
            generic_share=None,
        )

    def component(self, number: int) -> tuple[Tensor, Tensor]:
        """Return mean [B, P] and covariance [B, P, P] of one component of all tasks."""
        mean, covariance = self.mean, self.covariance
        if number >= self.learned and self.generic is not None:
            mean, covariance = self.generic.mean.expand_as(mean), self.generic.covariance
        return mean, self.factors[:, number, None, None] * covariance

    def half_width(self, content: float) -> Tensor:
        """Return half the width of each parameter's central interval of that content, [B, P].

        Of what was learned, without the generic components.
        """
        factors = self.factors[:, : self.learned]
        probabilities = self.probabilities[: self.learned]
        probabilities = probabilities / probabilities.sum()
        low = torch.zeros(len(factors), 1, dtype=factors.dtype)
        high = 10 * factors.amax(1, keepdim=True).sqrt()
        for _ in range(60):
            middle = (low + high) / 2
            inside = 2 * torch.special.ndtr(middle / factors.sqrt()) - 1
            below = (inside @ probabilities)[:, None] < content
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high * self.covariance.diagonal().sqrt()

    def log_components(self, points: Tensor) -> Tensor:
        """Return log densities of points [B, S, P] under each component, [B, S, C]."""
        first = self.factors[:, None, : self.learned]
        parts = [_log_scaled_normals(points, self.mean, self.covariance, first)]
        if self.generic is not None:
            last, mean = self.factors[:, None, self.learned :], self.generic.mean[None]
            parts.append(_log_scaled_normals(points, mean, self.generic.covariance, last))
        return torch.cat(parts, -1)


def _log_scaled_normals(points: Tensor, mean: Tensor, covariance: Tensor, scales: Tensor) -> Tensor:
    """Return log densities of points [B, S, P] under N(mean, scale * covariance), [B, S, C]."""
    size = points.shape[-1]
    factor = torch.linalg.cholesky(covariance)
    offset = (points - mean[:, None]).mT
    squares = torch.linalg.solve_triangular(factor, offset, upper=False).square().sum(1)
    logdet = 2 * factor.diagonal().log().sum() + size * math.log(2 * math.pi)
    return -(squares[..., None] / scales + size * scales.log() + logdet) / 2


@dataclass(frozen=True)
class ConditionedPrior:
    """What is learned of tasks: predicts the prior of a new one from its features.

    Attributes
    ----------
    centre
        Of the parameters, [P].
    covariance
        S, [P, P], widened for the uncertainty that few tasks leave.
    features, positions, weights
        Of the training tasks: features [n, F], standardised by the caller (NaN: unknown);
        parameters [n, P]; w_i [n].
    amplitude, length
        Kernel amplitude * exp(-|x - x'|^2 / 2 length^2).
    dof
        Degrees of freedom of e.
    noise, noise_dof, log_design
        As in `TaskPriors`.
    scores
        Leave-group-out log density by what was tried, for the record.
    """

    centre: Tensor
    covariance: Tensor
    features: Tensor
    positions: Tensor
    weights: Tensor
    amplitude: float
    length: float
    dof: float
    noise: float
    noise_dof: float = 8.0
    scores: dict[str, float] = field(default_factory=dict)
    log_design: Pointwise | None = None

    def of(self, features: Tensor) -> TaskPriors:
        """Return the priors of tasks with features [B, F]; a row of NaN is a task unknown."""
        known = self._kernel(self.features, self.features) + torch.diag(1 / self.weights)
        cross = self._kernel(features, self.features)
        solved = torch.linalg.solve(known, cross.mT).mT
        mean = self.centre + solved @ (self.positions - self.centre)
        explained = (solved * cross).sum(1)
        uncertain = (self.amplitude + CENTRE_VARIANCE - explained).clamp(min=0.0)
        probabilities, scales = scale_mixture(self.dof)
        return TaskPriors(
            mean,
            self.covariance,
            uncertain[:, None] + scales,
            probabilities,
            self.noise,
            self.noise_dof,
            log_design=self.log_design,
        )

    def _kernel(self, first: Tensor, second: Tensor) -> Tensor:
        return kernel(first, second, self.amplitude, self.length)


def kernel(first: Tensor, second: Tensor, amplitude: float, length: float) -> Tensor:
    """Return the covariance [A, B] of tasks with features [A, F] and [B, F], in units of S.

    A task with an unknown feature shares the centre with others and nothing else.
    """
    if first.shape[1] == 0:
        return first.new_full((len(first), len(second)), CENTRE_VARIANCE)
    squares = (first[:, None] - second[None]).square().sum(-1)
    return CENTRE_VARIANCE + amplitude * torch.nan_to_num(torch.exp(-squares / (2 * length**2)))


def scale_mixture(dof: float) -> tuple[Tensor, Tensor]:
    """Return probabilities [C] and covariance factors [C] of normals that make up a Student t.

    The factors are 1 / w at the quantiles of w ~ Gamma(dof / 2, rate dof / 2) in the middle of the
    probabilities.
    """
    # scipy.stats would take most of a second to import
    from scipy.special import gammaincinv

    probabilities = torch.tensor(SCALE_PROBABILITIES, dtype=torch.float64)
    middle = (probabilities.cumsum(0) - probabilities / 2).numpy()
    return probabilities, 1 / torch.from_numpy(gammaincinv(dof / 2, middle) * 2 / dof)


def learn_conditioned_prior(
    positions: Tensor,
    uncertainties: Tensor,
    features: Tensor,
    groups: Sequence[object],
    noise: float,
    *,
    amplitudes: Sequence[float] = (0.0, 0.3, 1.0, 3.0),
    lengths: Sequence[float] = (1.5, 3.0, 6.0),
    dofs: Sequence[float] = (3.0, 8.0, 30.0),
    pseudo_tasks: float = 2.0,
) -> tuple[ConditionedPrior, TaskPriors]:
    """Learn the prior from fitted tasks.

    Parameters
    ----------
    positions, uncertainties
        Fitted parameters [n, P] and their covariances [n, P, P].
    features
        [n, F], standardised; F may be 0.
    groups
        Tasks of a group never predict each other.
    noise
        Of an observation.
    amplitudes, lengths, dofs
        What is tried.
    pseudo_tasks
        Weight of a covariance of 0.1 in every parameter, in tasks.

    Returns
    -------
    prior
        With the highest leave-group-out predictive density.
    training
        The priors of the training tasks, each predicted without its group.
    """
    has_features = features.shape[1] > 0 and bool(torch.isfinite(features).any())
    tried = [
        (dof, amplitude, length)
        for dof in dofs
        for amplitude in (amplitudes if has_features else (0.0,))
        for length in (lengths if amplitude else lengths[:1])
    ]
    found, scores = [], {}
    for dof, amplitude, length in tried:
        gram = kernel(features, features, amplitude, length)
        fitted = _leave_group_out(positions, uncertainties, gram, groups, dof, pseudo_tasks)
        found.append(fitted)
        scores[f"dof {dof:g}, amplitude {amplitude:g}, length {length:g}"] = fitted.score
    best = max(range(len(found)), key=lambda i: found[i].score)
    fitted, (dof, amplitude, length) = found[best], tried[best]
    size, independent = positions.shape[1], len(set(groups))
    # as in `empirical_bayes.for_a_new_task`; the centre's uncertainty is in the kernel already
    widened = min(independent / max(independent - size - 1, 1), 4.0) * fitted.covariance
    prior = ConditionedPrior(
        fitted.centre,
        widened,
        features,
        positions,
        fitted.weights,
        amplitude,
        length,
        dof,
        noise,
        scores=scores,
    )
    probabilities, scales = scale_mixture(dof)
    training = TaskPriors(
        fitted.predicted,
        widened,
        fitted.uncertain[:, None] + scales,
        probabilities,
        noise,
        prior.noise_dof,
    )
    return prior, training


@dataclass(frozen=True)
class _LeaveGroupOut:
    """Fitted S and weights, with each task's prediction [n, P] and its variance in S [n]."""

    centre: Tensor
    covariance: Tensor
    weights: Tensor
    predicted: Tensor
    uncertain: Tensor
    score: float


def _leave_group_out(
    positions: Tensor,
    uncertainties: Tensor,
    gram: Tensor,
    groups: Sequence[object],
    dof: float,
    pseudo_tasks: float,
) -> _LeaveGroupOut:
    """Return S and w by expectation-maximisation on leave-group-out residuals."""
    count, size = positions.shape
    numbers = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    member = torch.tensor([numbers[name] for name in groups])
    blocks = [torch.nonzero(member == i).squeeze(1) for i in range(len(numbers))]
    centre = positions.median(0).values
    offset = positions - centre
    covariance = torch.cov(positions.mT).reshape(size, size) + 1e-3 * torch.eye(size).double()
    weights = positions.new_ones(count)
    base = 0.1 * pseudo_tasks * torch.eye(size, dtype=positions.dtype)
    for _ in range(40):
        inverse = torch.linalg.inv(gram + torch.diag(1 / weights))
        residual, variance = _left_out(inverse, offset, blocks)
        uncertain = (variance - 1 / weights).clamp(min=0.0)
        precision = torch.linalg.inv(covariance)
        traces = (uncertainties * precision).sum((1, 2))
        squares = ((residual @ precision) * residual).sum(1) / (1 + uncertain) + traces
        weights = (dof + size) / (dof + squares)
        counted = 1 / (1 / weights + uncertain)
        moments = (counted[:, None] * residual).mT @ residual
        moments = moments + (counted[:, None, None] * uncertainties).sum(0)
        before, covariance = covariance, (moments + base) / (count + pseudo_tasks)
        if (covariance - before).abs().max() < 1e-4 * before.abs().max():
            break
    precision = torch.linalg.inv(covariance)
    squares = ((residual @ precision) * residual).sum(1) / (1 + uncertain)
    squares = squares + (uncertainties * precision).sum((1, 2)) / (1 + uncertain)
    logdet = torch.logdet(covariance) + size * (1 + uncertain).log()
    constant = (
        math.lgamma((dof + size) / 2) - math.lgamma(dof / 2) - size / 2 * math.log(dof * math.pi)
    )
    score = constant - logdet / 2 - (dof + size) / 2 * torch.log1p(squares / dof)
    return _LeaveGroupOut(
        centre, covariance, weights, positions - residual, uncertain, float(score.sum())
    )


def _left_out(inverse: Tensor, offset: Tensor, blocks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return residuals [n, P] and variances [n] of tasks predicted without their group.

    By the block form of the leave-one-out identity (Rasmussen and Williams, Gaussian Processes for
    Machine Learning, 2006, equations 5.10 to 5.12).
    """
    solved = inverse @ offset
    variance = 1 / inverse.diagonal()
    residual = variance[:, None] * solved
    for block in (block for block in blocks if len(block) > 1):
        own = torch.linalg.inv(inverse[block][:, block])
        residual[block] = own @ solved[block]
        variance[block] = own.diagonal()
    return residual, variance
