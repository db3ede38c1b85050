"""Kernels for a property that nothing was trained on, learned on those that are known.

Such a property has no mean, no scale and no kernel of its own yet. Its mean and its scale follow
from the labels in closed form (a flat prior on both; Rasmussen and Williams 2006, section 2.7).
Kernels are learned on few-shot tasks of the properties that are known, each of which plays the new
one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
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
        return cls.between(sets, sets)

    @classmethod
    def between(cls, first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> "Likeness":
        """Return that of n crystals with m others, [sets, n, m]."""
        inner, square = [], []
        for x, y in zip(first, second, strict=True):
            inner.append(x @ y.T / x.shape[1])
            square.append(_size(x)[:, None] + _size(y) - 2 * inner[-1])
        # rounding can make a square negative
        return cls(
            torch.from_numpy(np.stack(square)).clamp(min=0.0), torch.from_numpy(np.stack(inner))
        )

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

    def more_noise(self, level: float) -> float:
        """Return what the noise variance lacks of `level` times the kernel's own variance."""
        variance, _, linear = self.logarithms[:-1].exp().reshape(-1, 3).T
        return max(float((variance + linear).sum() * level - self.noise), 0.0)

    def posterior(
        self, gram: Tensor, labels: Tensor, further: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and deviation [..., n - k] of crystals behind those labelled, and evidence.

        Parameters
        ----------
        gram
            Of all crystals, [..., n, n].
        labels, further
            Of the first k, as of `given`.
        """
        k = labels.shape[-1]
        given = self.given(gram[..., :k, :k], labels, further)
        own = gram.diagonal(dim1=-2, dim2=-1)[..., k:]
        return *given.at(gram[..., :k, k:], own), given.evidence

    def variances(self, sets: Sequence[np.ndarray]) -> Tensor:
        """Return the variance without noise of crystals by their features, [n]."""
        if not self.sets:
            return torch.zeros(len(sets[0]), dtype=torch.float64)
        variance, _, linear = self.logarithms[:-1].exp().reshape(-1, 3).T[..., None]
        sizes = torch.from_numpy(np.stack([_size(sets[number]) for number in self.sets]))
        return (variance + linear * sizes).sum(0)

    def given(
        self,
        gram: Tensor,
        labels: Tensor,
        further: Tensor | None = None,
        others: Tensor | float = 0.0,
    ) -> "GivenLabels":
        """Return the process of a property given labels.

        Parameters
        ----------
        gram
            Of the labelled crystals, [..., k, k].
        labels
            [..., k]; at least two for a deviation.
        further, others
            Noise variances beside the kernel's: of the labels, [..., k], and of other labels,
            [..., 1].
        """
        noise = self.noise if further is None else self.noise + further
        return GivenLabels.of(factorise(gram, noise), labels, self.noise + others)


@dataclass(frozen=True)
class GivenLabels:
    """A process given k labels; the mean's prior is flat, the scale's is Jeffreys'.

    Attributes
    ----------
    factor
        Lower Cholesky factor of the labels' covariance, [..., k, k].
    one, rest
        Ones and residuals through its inverse, [..., k, 1].
    mean, square
        Of the labels, and what they leave of the squares, [..., 1].
    noise
        Variance of another label's noise, [] or [..., 1].
    """

    factor: Tensor
    one: Tensor
    rest: Tensor
    mean: Tensor
    square: Tensor
    noise: Tensor

    @classmethod
    def of(cls, factor: Tensor, labels: Tensor, noise: Tensor) -> "GivenLabels":
        """Return it from the factor and the labels, [..., k]."""
        sides = torch.stack([torch.ones_like(labels), labels], -1)
        half = torch.linalg.solve_triangular(
            factor, sides.expand(*factor.shape[:-1], 2), upper=False
        )
        one, y = half[..., :1], half[..., 1:]
        mean = (one * y).sum(-2) / one.square().sum(-2)
        rest = y - one * mean[..., None, :]
        return cls(factor, one, rest, mean, rest.square().sum(-2), noise)

    def __len__(self) -> int:
        """Return the number of labels."""
        return self.factor.shape[-1]

    @property
    def evidence(self) -> Tensor:
        """Logarithm of the labels' probability, up to a constant of their number, [...]."""
        determinant = self.factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        weight = self.one.square().sum((-2, -1))
        square = self.square[..., 0] + 1e-12
        return -determinant - 0.5 * weight.log() - 0.5 * (len(self) - 1) * square.log()

    def at(self, cross: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of labels of m crystals, [..., m].

        Deviations are the scale of a Student t with k - 1 degrees.

        Parameters
        ----------
        cross
            Covariances of the labelled crystals with them, [..., k, m].
        variances
            Theirs without noise, [..., m].
        """
        c = torch.linalg.solve_triangular(
            self.factor, cross.expand(*self.factor.shape[:-2], *cross.shape[-2:]), upper=False
        )
        # what the mean leaves uncertain
        short = 1 - (self.one * c).sum(-2)
        left = variances + self.noise - c.square().sum(-2)
        left = left + short.square() / self.one.square().sum(-2)
        scale = (self.square / max(len(self) - 1, 1)).clamp(min=1e-12)
        deviation = (left.clamp(min=1e-12) * scale).sqrt()
        return self.mean + (c * self.rest).sum(-2), deviation


def _size(x: np.ndarray) -> np.ndarray:
    """Return the mean square of the features of each crystal, [n]."""
    return np.einsum("nd,nd->n", x, x) / x.shape[1]


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
