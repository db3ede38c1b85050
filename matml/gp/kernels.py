"""Kernels and the distances they are made of."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

JITTER = 1e-6
"""Variance added to a covariance's diagonal, so that rounding leaves it positive."""
CACHED = 1 << 18
"""Covariances made at once, which stay in the processor's cache."""


def matern32(a: Tensor, b: Tensor) -> Tensor:
    """Return the Matern-3/2 correlation of scaled inputs (Rasmussen and Williams 2006, eq. 4.17).

    Parameters
    ----------
    a, b
        [..., n, features] and [..., m, features], divided by their length scales.

    Returns
    -------
    Tensor
        [..., n, m].
    """
    return matern32_at(distances(a, b))


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances, [..., n, m], with a gradient at 0."""
    square = (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]) - 2 * a @ b.mT
    return (square.clamp(min=0) + 1e-12).sqrt()


def matern32_at(distance: Tensor) -> Tensor:
    """Return the correlation at distances in units of the length scale."""
    scaled = distance * math.sqrt(3)
    return (1 + scaled) * torch.exp(-scaled)


def matern32_(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return correlation and exponential at distances times the root of 3, written over them."""
    decay = torch.exp(-scaled)
    return scaled.add_(1).mul_(decay), decay


@dataclass(frozen=True)
class DescriptorKernel:
    """ARD Matern-3/2 plus linear kernel plus constant, without gradient.

    Attributes
    ----------
    weights
        Inverse length scales, [d].
    variance
        Of the Matern-3/2, linear and constant part, [3].
    """

    weights: Tensor
    variance: Tensor

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the covariance of standardised rows [n, d] and [m, d], [n, m]."""
        return KernelRows(self, b).covariance(a)

    def diagonal(self, x: Tensor) -> Tensor:
        """Return the variance of each row, [n]."""
        matern, linear, constant = self.variance
        return matern + linear * x.square().mean(1) + constant


class KernelRows:
    """What covariances with n rows need, whatever the other rows.

    Squared distances and the linear kernel with its constant are one product of matrices each:
    what belongs to one side alone stands in further columns of both.
    """

    def __init__(self, kernel: DescriptorKernel, x: Tensor) -> None:
        matern, linear, constant = kernel.variance
        one = torch.ones_like(x[:, :1])
        # the Matern-3/2 takes distances times the root of 3
        self.weights, self.matern = kernel.weights * math.sqrt(3), float(matern)
        scaled = x * self.weights
        self.scaled = torch.cat([scaled, one, scaled.square().sum(1, keepdim=True)], 1).mT
        self.linear = torch.cat([x * (linear / x.shape[1]), one * constant], 1).mT

    def covariance(self, x: Tensor) -> Tensor:
        """Return the covariance of other rows [m, d] with these, [m, n]."""
        one = torch.ones_like(x[:, :1])
        scaled = x * self.weights
        squares = torch.cat([-2 * scaled, scaled.square().sum(1, keepdim=True), one], 1)
        plain = torch.cat([x, one], 1)
        found = x.new_empty(len(x), self.linear.shape[1])
        step = max(16, CACHED // max(1, found.shape[1]))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            correlation, _ = matern32_((squares[part] @ self.scaled).clamp_(min=0).sqrt_())
            torch.addmm(correlation, plain[part], self.linear, beta=self.matern, out=found[part])
        return found
