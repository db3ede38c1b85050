"""Gaussian processes for a property that nothing was trained on: a few labels, learned kernels.

Such a property has no mean, no scale and no kernel of its own yet. Its mean and its scale follow
from the labels in closed form (a flat prior on both; Rasmussen and Williams 2006, section 2.7).
Kernels are learned on few-shot tasks of the properties that are known, each of which plays the new
one; the labels weigh them by their evidence, and where that pays so do the cases in which one or
two of the labels are outliers.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from matml.gp.condition import factorise
from matml.gp.kernels import JITTER, matern32_at
from matml.gp.residual import descend

FEATURE_SETS = ("predictions", "embedding", "descriptors")
SUBSETS = ((0, 1, 2), (0, 2), (2,))
"""Which feature sets a kernel may use. What networks learned of a known property flatters what
they say of it; a kernel without them is there for a property that they know nothing of."""


@dataclass(frozen=True)
class Likeness:
    """How alike crystals are by each set of features.

    Attributes
    ----------
    square
        Mean squared difference over the features, [..., sets, n, n].
    inner
        Mean product of the features, [..., sets, n, n].
    """

    square: Tensor
    inner: Tensor

    @classmethod
    def of(cls, sets: Sequence[np.ndarray]) -> "Likeness":
        """Return that of n crystals from their standardised features, [n, features] per set."""
        inner = torch.stack([torch.from_numpy(x @ x.T / x.shape[1]) for x in sets])
        own = inner.diagonal(dim1=-2, dim2=-1)
        square = own[..., :, None] + own[..., None, :] - 2 * inner
        return cls(square.clamp(min=0.0), inner)

    def among(self, rows: np.ndarray) -> "Likeness":
        """Return that of some of the crystals, or of several choices of them, [tasks, m]."""
        own = torch.as_tensor(np.asarray(rows))
        square, inner = (
            each[:, own[..., :, None], own[..., None, :]].movedim(0, -3)
            for each in (self.square, self.inner)
        )
        return Likeness(square, inner)


@dataclass(frozen=True)
class Episodes:
    """Tasks of one size: the crystals' likeness and their labels, the first `shots` known.

    Attributes
    ----------
    likeness
        Of [tasks, ..., shots + queries].
    labels
        [tasks, shots + queries].
    network
        What networks predict, where they know the property, as `labels`.
    """

    likeness: Likeness
    labels: Tensor
    shots: int
    network: Tensor | None = None


class LabelKernel:
    """A Matern-3/2 plus a linear kernel per set of features, in units of what a property varies by.

    Parameters
    ----------
    sets
        Numbers of the sets it uses; none makes labels differ by noise alone.
    logarithms
        Of the variance, the length and the linear part per set, and of the noise variance.
    """

    def __init__(self, sets: Sequence[int], logarithms: Tensor | None = None) -> None:
        self.sets = list(sets)
        if logarithms is None:
            share = -math.log(max(len(sets), 1))
            start = [share, 0.0, share - 1] * len(sets) + [-3.0]
            logarithms = torch.tensor(start, dtype=torch.float64)
        self.logarithms = logarithms

    def gram(self, likeness: Likeness) -> Tensor:
        """Return the covariance without noise, [..., n, n]."""
        if not self.sets:
            return torch.zeros_like(likeness.inner[..., 0, :, :])
        variance, length, linear = self.logarithms[:-1].exp().reshape(-1, 3).T[..., None, None]
        square = likeness.square[..., self.sets, :, :] + 1e-12
        shape = variance * matern32_at(square.sqrt() / length)
        return (shape + linear * likeness.inner[..., self.sets, :, :]).sum(-3)

    @property
    def noise(self) -> Tensor:
        """Noise variance."""
        return self.logarithms[-1].exp() + JITTER

    def posterior(
        self, gram: Tensor, labels: Tensor, further: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation behind the first labels, and the log evidence of the labels.

        Parameters
        ----------
        gram
            [..., n, n].
        labels
            Of the first crystals, [..., k]; at least two for a deviation.
        further
            Noise variances that labels have beside `noise`, [..., k].

        Returns
        -------
        tuple
            [..., n - k] twice, and [...] up to a constant of k; the mean's prior is flat, the
            scale's is Jeffreys'. Deviations are the scale of a Student t with k - 1 degrees.
        """
        k = labels.shape[-1]
        noise = self.noise if further is None else self.noise + further
        factor = factorise(gram[..., :k, :k], noise)
        ones = torch.ones_like(labels)[..., None]
        cross = gram[..., :k, k:]
        sides = torch.cat([labels[..., None], ones, cross], -1)
        sides = sides.expand(*factor.shape[:-1], -1)
        half = torch.linalg.solve_triangular(factor, sides, upper=False)
        y, one, c = half[..., :1], half[..., 1:2], half[..., 2:]
        weight = one.square().sum(-2)
        mean = (one * y).sum(-2) / weight
        rest = y - one * mean[..., None, :]
        square = rest.square().sum((-2, -1))
        # what the mean leaves uncertain at the query
        short = 1 - (one * c).sum(-2)
        own = gram.diagonal(dim1=-2, dim2=-1)[..., k:] + self.noise
        left = (own - c.square().sum(-2) + short.square() / weight).clamp(min=1e-12)
        degrees = max(k - 1, 1)
        deviation = (left * (square[..., None] / degrees).clamp(min=1e-12)).sqrt()
        determinant = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        evidence = -determinant - 0.5 * weight[..., 0].log()
        evidence = evidence - 0.5 * (k - 1) * (square + 1e-12).log()
        return mean + (c * rest).sum(-2), deviation, evidence


def learn_kernel(
    sets: Sequence[int], episodes: Sequence[Episodes], *, steps: int = 40
) -> LabelKernel:
    """Return the kernel with the lowest error of queries over the episodes.

    Errors are in units of the deviation of the task's labels, so that properties and families
    count alike.
    """
    initial = LabelKernel(sets).logarithms

    def loss(free: Tensor) -> Tensor:
        kernel = LabelKernel(sets, free)
        # a weak prior: a factor of e^3 either way
        value = 0.5 * (free - initial).square().sum() / 9 / 100
        for own in episodes:
            mean, _, _ = kernel.posterior(kernel.gram(own.likeness), own.labels[..., : own.shots])
            scale = own.labels.std(-1, keepdim=True).clamp(min=1e-6)
            value = value + ((mean - own.labels[..., own.shots :]).abs() / scale).mean()
        return value

    return LabelKernel(sets, descend(loss, initial, steps=steps))


@dataclass(frozen=True)
class Outliers:
    """Labels far from what any kernel says, one or two of them at most.

    Attributes
    ----------
    share
        How often a label is one.
    variance
        Of its further noise, in units of what a property varies by.
    """

    share: float = 0.0
    variance: float = 10.0

    def cases(self, shots: int) -> tuple[Tensor | None, Tensor]:
        """Return further noise variances, [cases, shots], and the cases' log probabilities.

        At least two labels are sound in each case. None stands for none.
        """
        most = min(2, shots - 2) if self.share else 0
        if most < 1:
            return None, torch.zeros(1, dtype=torch.float64)
        chosen = itertools.chain(
            *(itertools.combinations(range(shots), count) for count in range(most + 1))
        )
        rows = [[float(i in own) for i in range(shots)] for own in chosen]
        is_outlier = torch.tensor(rows, dtype=torch.float64)
        number = is_outlier.sum(1)
        log_prior = number * math.log(self.share) + (shots - number) * math.log1p(-self.share)
        return self.variance * is_outlier, log_prior


SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)
"""Of outliers, one of which the evidence of the tasks chooses."""


@dataclass(frozen=True)
class Expert:
    """A kernel, about a flat mean or about what the networks predict up to a constant."""

    kernel: LabelKernel
    follows: bool

    def prior_mean(self, own: Episodes) -> Tensor:
        """Return what the expert expects of all labels but for a constant, as `own.labels`.

        Raises
        ------
        ValueError
            Where it follows networks, whose predictions are not given.
        """
        if not self.follows:
            return torch.zeros_like(own.labels)
        if own.network is None:
            raise ValueError("an expert that follows the networks needs their predictions")
        return own.network


@dataclass(frozen=True)
class LabelProcess:
    """Experts that a new property's labels choose from.

    Attributes
    ----------
    experts, log_prior
        With the logarithm of how often each is right.
    outliers
        Among the labels.
    """

    experts: list[Expert]
    log_prior: Tensor
    outliers: Outliers = Outliers()

    @classmethod
    def learn(cls, tasks: Sequence[Sequence[Episodes]], *, iterations: int = 20) -> "LabelProcess":
        """Return experts learned on each known property's episodes, and on subsets of the features.

        How often each is right, and how often a label is an outlier, is learned where the networks
        will know the property too. Where they will not, all start alike: in the tasks at hand the
        networks were trained on the property that plays the new one, and what they embed looks more
        useful than it will be. Outliers lower the evidence there.
        """
        tasks = [episodes for episodes in tasks if episodes]
        kernels = [learn_kernel(subset, episodes) for episodes in tasks for subset in SUBSETS]
        # what no features tell: the mean of the labels, or the networks shifted by it
        kernels.append(LabelKernel([]))
        known = all(own.network is not None for episodes in tasks for own in episodes)
        experts = [
            Expert(kernel, f) for f in ([False, True] if known else [False]) for kernel in kernels
        ]
        alike = torch.full((len(experts),), -math.log(len(experts)), dtype=torch.float64)
        if not known:
            return cls(experts, alike)
        own = [each for episodes in tasks for each in episodes]
        found = {
            outliers: _learn_prior(experts, own, alike, len(tasks), outliers, iterations)
            for outliers in map(Outliers, SHARES)
        }
        best = max(found, key=lambda outliers: found[outliers][1])
        return cls(experts, found[best][0], best)

    def predict(
        self, likeness: Likeness, labels: np.ndarray, network: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and half width of the 90 % interval at the crystals behind the labelled ones.

        One label gives no scale: its interval is infinite.

        Parameters
        ----------
        likeness
            Of the labelled crystals and those behind them.
        network
            What the networks predict of all of these; needed where experts follow it.
        """
        known = torch.from_numpy(np.asarray(labels, float))
        said = None if network is None else torch.from_numpy(np.asarray(network, float))
        filled = torch.cat([known, known.new_zeros(likeness.inner.shape[-1] - len(known))])
        own = Episodes(likeness, filled, len(known), said)
        found = [_posterior(expert, own, self.outliers) for expert in self.experts]
        means, deviations, evidence = (torch.stack(each) for each in zip(*found, strict=True))
        # of all experts and cases
        weights = torch.softmax((evidence + self.log_prior[:, None]).flatten(), 0)[:, None]
        means, deviations = means.flatten(0, 1), deviations.flatten(0, 1)
        mean = (weights * means).sum(0)
        variance = (weights * (deviations.square() + (means - mean).square())).sum(0)
        degrees = len(labels) - 1
        # a crystal asked for may be an outlier itself
        inside = 0.9 / (1 - self.outliers.share)
        reach = student.ppf((1 + inside) / 2, degrees) if degrees else math.inf
        return mean.numpy(), reach * variance.sqrt().numpy()


def _learn_prior(
    experts: Sequence[Expert],
    tasks: Sequence[Episodes],
    log_prior: Tensor,
    properties: int,
    outliers: Outliers,
    iterations: int,
) -> tuple[Tensor, float]:
    """Return how often each expert is right, and the log evidence of a task.

    Each property counts the same, by expectation maximisation of a mixture's weights, with one
    task's worth for each expert.
    """
    evidences, shares = [], []
    for own in tasks:
        found = [_posterior(expert, own, outliers)[2].logsumexp(0) for expert in experts]
        evidences.append(torch.stack(found))
        shares.append(torch.full_like(found[0], 1 / len(found[0])))
    evidence, share = torch.cat(evidences, 1), torch.cat(shares)
    for _ in range(iterations):
        responsible = torch.softmax(evidence + log_prior[:, None], 0)
        weights = (responsible * share).sum(1) + 1 / len(experts) / properties
        log_prior = (weights / weights.sum()).log()
    total = ((evidence + log_prior[:, None]).logsumexp(0) * share).sum() / share.sum()
    return log_prior, float(total)


def _posterior(expert: Expert, own: Episodes, outliers: Outliers) -> tuple[Tensor, Tensor, Tensor]:
    """Return an expert's mean and deviation behind the known labels, and their log evidence.

    Of each case of outliers, [cases, ...]; its probability is part of the evidence.
    """
    kernel, k = expert.kernel, own.shots
    prior = expert.prior_mean(own)
    rest = (own.labels - prior)[..., :k]
    further, log_prior = outliers.cases(k)
    if further is not None:
        further = further.reshape(-1, *[1] * (rest.dim() - 1), k)
    mean, deviation, evidence = (
        each if further is not None else each[None]
        for each in kernel.posterior(kernel.gram(own.likeness), rest, further)
    )
    return (
        mean + prior[..., k:],
        deviation,
        evidence + log_prior.reshape(-1, *[1] * (evidence.dim() - 1)),
    )
