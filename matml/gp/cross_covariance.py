"""Training rows of a Gaussian process, prepared for questions about many other crystals."""

import math

import torch
from torch import Tensor

CACHED = 1 << 18
"""Covariances made at once, which stay in the processor's cache."""
SINGLE_FROM = 2000
"""Rows from which variances are solved for in single precision; with fewer it would save little."""


class TrainingRows:
    """What covariances with n training rows need, whatever the other crystals.

    Squared distances and the linear kernel with its constant are one product of matrices each:
    what belongs to one side alone stands in further columns of both.

    Parameters
    ----------
    x
        Standardised features of the training rows, [n, d].
    weights, variance
        Inverse length scales, [d], and variances of the Matern-3/2, linear and constant kernel.
    factor
        Cholesky factor of the rows' covariance, noise included, [n, n].
    """

    def __init__(self, x: Tensor, weights: Tensor, variance: Tensor, factor: Tensor) -> None:
        matern, linear, constant = variance
        one = torch.ones_like(x[:, :1])
        # the Matern-3/2 takes distances times the root of 3
        self.weights, self.matern = weights * math.sqrt(3), float(matern)
        scaled = x * self.weights
        self.scaled = torch.cat([scaled, one, scaled.square().sum(1, keepdim=True)], 1).mT
        self.linear = torch.cat([x * (linear / x.shape[1]), one * constant], 1).mT
        many = len(x) >= SINGLE_FROM
        self.factor = factor.mT.float() if many else factor.mT

    def covariance(self, x: Tensor) -> Tensor:
        """Return the covariance of other crystals [m, d] with the rows, [m, n]."""
        one = torch.ones_like(x[:, :1])
        scaled = x * self.weights
        squares = torch.cat([-2 * scaled, scaled.square().sum(1, keepdim=True), one], 1)
        plain = torch.cat([x, one], 1)
        found = x.new_empty(len(x), self.linear.shape[1])
        step = max(16, CACHED // max(1, found.shape[1]))
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            # Rasmussen and Williams 2006, eq. 4.17
            distance = (squares[part] @ self.scaled).clamp_(min=0).sqrt_()
            correlation = torch.exp(-distance).mul_(distance.add_(1))
            torch.addmm(correlation, plain[part], self.linear, beta=self.matern, out=found[part])
        return found

    def explained(self, covariance: Tensor) -> Tensor:
        """Return the variance that the rows explain of crystals with a covariance [m, n], [m].

        Single precision is twice as fast, and good to some 1e-6 of the prior variance.
        """
        known = covariance.to(self.factor.dtype)
        half = torch.linalg.solve_triangular(self.factor, known, upper=True, left=False)
        return half.square_().sum(1).to(covariance)
