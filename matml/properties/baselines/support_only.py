"""Baselines that learn from a family's few labels alone: ridge regression and a Gaussian process.

Both take the mean of the support as their mean and choose what they must from the support itself:
the ridge penalty by leave-one-out errors, the kernel by its marginal likelihood. Many supports of
one size are done at once. All inputs are standardised.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from matml.core.standardise import Standardisation
from matml.gp.condition import condition
from matml.gp.kernels import matern32

PENALTIES = np.logspace(-3, 3, 13)
"""Penalties tried, in units of the features' number."""
LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Length scales tried, in units of the root of the features' number."""
NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Noise variances tried, in units of the kernel's variance."""


def support_ridge(
    support: np.ndarray, labels: np.ndarray, query: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return ridge predictions of each query from its support.

    The penalty is that of the lowest leave-one-out error in closed form (Hastie, Tibshirani and
    Friedman 2009, eq. 7.64); fewer than 3 labels leave nothing to choose it by, and it is 1.

    Parameters
    ----------
    support, labels
        [tasks, k, features] and [tasks, k], k > 0.
    query
        One array [m, features] per task.
    """
    features = support.shape[-1]
    centre, mean = support.mean(1, keepdims=True), labels.mean(1, keepdims=True)
    x, y = support - centre, labels - mean
    values, vectors = np.linalg.eigh(x @ x.swapaxes(1, 2) / features)
    values = np.maximum(values, 0.0)
    rotated = np.einsum("tkv,tk->tv", vectors, y)
    k = labels.shape[1]
    weights, errors = [], []
    for penalty in PENALTIES if k > 2 else [1.0]:
        # the smoother's diagonal, with the share of the mean
        share = values / (values + penalty)
        leverage = np.einsum("tkv,tv->tk", np.square(vectors), share) + 1 / k
        residual = y - np.einsum("tkv,tv,tv->tk", vectors, share, rotated)
        errors.append(np.square(residual / np.maximum(1 - leverage, 1e-9)).mean(1))
        weights.append(np.einsum("tkv,tv->tk", vectors, rotated / (values + penalty)))
    best = np.argmin(errors, 0)
    chosen = np.stack(weights, 1)[np.arange(len(best)), best]
    slopes = np.einsum("tkf,tk->tf", x, chosen) / features
    return [
        (own - c) @ slope + m for own, c, slope, m in zip(query, centre, slopes, mean, strict=True)
    ]


def support_gp(
    support: np.ndarray, labels: np.ndarray, query: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Return the posterior means of a Matern-3/2 process at each query, given its support.

    Length scale and noise are those of the highest marginal likelihood on a grid; the variance is
    then known in closed form.

    Parameters
    ----------
    support, labels, query
        As of `support_ridge`.
    """
    x, y = torch.from_numpy(support).double(), torch.from_numpy(labels).double()
    mean = y.mean(1, keepdim=True)
    tasks, k, features = x.shape
    x = x / math.sqrt(features)
    best = torch.full((tasks,), -math.inf, dtype=y.dtype)
    length, noise = torch.ones_like(best), torch.ones_like(best)
    for own_length in LENGTHS:
        scaled = x / own_length
        values, vectors = torch.linalg.eigh(matern32(scaled, scaled))
        rotated = (vectors.mT @ (y - mean)[..., None])[..., 0]
        for own_noise in NOISES:
            shrunk = values.clamp(min=0) + own_noise
            # with the variance at its maximum, (rotated^2 / shrunk).mean()
            variance = (rotated.square() / shrunk).mean(1).clamp(min=1e-12)
            likelihood = -0.5 * (k * variance.log() + shrunk.log().sum(1))
            better = likelihood > best
            best = torch.where(better, likelihood, best)
            length = torch.where(better, own_length, length)
            noise = torch.where(better, own_noise, noise)
    found = []
    for own, each, ell, spread, rest, m in zip(
        query, x, length, noise, y - mean, mean, strict=True
    ):
        given = condition(matern32(each / ell, each / ell), spread, rest)
        asked = torch.from_numpy(own).double() / math.sqrt(features)
        found.append((given.mean(matern32(asked / ell, each / ell)) + m).numpy())
    return found


class PooledRidge:
    """Ridge regression on training crystals, to which a family's labels are added.

    A label of the family counts as many times as one of the training crystals as `weight` says.
    Exact: the posterior of Bayesian linear regression, updated in closed form.

    Parameters
    ----------
    features, targets
        Of the training crystals, [n, d] and [n].
    penalty
        In units of the training crystals' number over that of the features.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, penalty: float) -> None:
        self.standardisation = Standardisation.of(features)
        x = self._inputs(features)
        gram = x.T @ x
        # the constant is not penalised
        own = np.full(x.shape[1], penalty * len(x) / x.shape[1])
        own[-1] = 1e-9 * len(x)
        self.inverse = np.linalg.inv(gram + np.diag(own))
        self.slopes = self.inverse @ (x.T @ targets)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return predictions without any label of the family, [n]."""
        return self._inputs(features) @ self.slopes

    def adapt(
        self, support: np.ndarray, labels: np.ndarray, query: np.ndarray, weight: float
    ) -> np.ndarray:
        """Return predictions at the query with the support's labels added, [m]."""
        x, q = self._inputs(support), self._inputs(query)
        half = self.inverse @ x.T
        gram, residuals = torch.from_numpy(x @ half), torch.from_numpy(labels - x @ self.slopes)
        given = condition(gram, 1 / weight, residuals)
        return q @ self.slopes + given.mean(torch.from_numpy(q @ half)).numpy()

    def _inputs(self, features: np.ndarray) -> np.ndarray:
        standard = self.standardisation.apply(features)
        return np.hstack([standard, np.ones((len(standard), 1))])
