"""Gaussian processes: one global model on descriptors, and a small one on support residuals."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.gp.cross_covariance import CACHED, TrainingRows
from matml.gp.kernels import JITTER, matern32


@dataclass(frozen=True)
class Anchor:
    """Crystals to which covariances are asked, in a process's own terms.

    Attributes
    ----------
    x
        Standardised features, [k, d].
    solved
        Their covariance with the training rows, through the inverse of those rows' own, [n, k].
    """

    x: Tensor
    solved: Tensor


@dataclass(frozen=True)
class Block:
    """What a process says of crystals one by one.

    Attributes
    ----------
    mean, variance
        [m].
    cross
        Covariance with other crystals, [m, k].
    """

    mean: Tensor
    cross: Tensor
    variance: Tensor


def _standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each column; 1 where a column is constant, which tells nothing.

    A candidate that differs in a constant column must not end up infinitely far away.
    """
    deviation = features.std(0)
    return features.mean(0), np.where(deviation < 1e-6, 1.0, deviation)


class GlobalGP:
    """One Gaussian process over all crystals: ARD Matern-3/2 plus linear kernel.

    Hyper-parameters maximise the marginal likelihood of a random subset; the posterior is exact on
    all training rows. Conditioning on a support set updates that posterior exactly, without
    factorising the training rows again.

    Parameters
    ----------
    subset
        Rows on which the hyper-parameters are learned.
    steps, learning_rate
        Adam steps on the marginal likelihood.
    seed
        Seed of the choice of the subset.
    """

    def __init__(
        self, *, subset: int = 800, steps: int = 60, learning_rate: float = 0.1, seed: int = 0
    ) -> None:
        self.subset, self.steps, self.learning_rate, self.seed = subset, steps, learning_rate, seed

    def fit(self, features: np.ndarray, targets: np.ndarray) -> "GlobalGP":
        """Fit to `features` [n, d] and `targets` [n]; returns itself."""
        self.centre, self.scale = _standardisation(features)
        x = self._standardise(features)
        self.mean, self.deviation = float(targets.mean()), float(targets.std()) or 1.0
        y = torch.from_numpy((targets - self.mean) / self.deviation)
        chosen = np.random.default_rng(self.seed).permutation(len(x))[: self.subset]
        self._learn(x[chosen], y[chosen])
        self._condition(x, y)
        return self

    def refit(self, features: np.ndarray, targets: np.ndarray) -> "GlobalGP":
        """Return a copy with the same hyper-parameters, conditioned on other rows."""
        other = GlobalGP(subset=self.subset, steps=self.steps, seed=self.seed)
        for name in ("centre", "scale", "mean", "deviation", "weights", "variance", "noise"):
            setattr(other, name, getattr(self, name))
        targets = torch.from_numpy((targets - self.mean) / self.deviation)
        other._condition(other._standardise(features), targets)
        return other

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Return the posterior mean, [n]."""
        x = self._standardise(features)
        return (self._kernel(x, self.x) @ self.alpha).numpy() * self.deviation + self.mean

    def adapt(self, support: np.ndarray, values: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return the posterior mean at `query`, given the training rows and the support.

        Parameters
        ----------
        support, values, query
            [k, d], [k] and [m, d].
        """
        mean, covariance = self.posterior(np.vstack([support, query]))
        k = len(support)
        noise = self.noise * self.deviation**2
        gram = covariance[:k, :k] + noise * torch.eye(k, dtype=torch.float64)
        residual = torch.from_numpy(values) - mean[:k]
        update = covariance[k:, :k] @ torch.linalg.solve(gram, residual)
        return (mean[k:] + update).numpy()

    def posterior(self, features: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean [n] and covariance [n, n] (without noise), given the training rows."""
        x = self._standardise(features)
        cross = self._gram(self.x, x)
        half = torch.linalg.solve_triangular(self.factor, cross, upper=False)
        covariance = self._kernel(x, x) - half.mT @ half
        mean = cross.mT @ self.alpha
        return mean * self.deviation + self.mean, covariance * self.deviation**2

    def anchor(self, features: np.ndarray) -> "Anchor":
        """Return crystals, [k, d], in the form to which `at` gives covariances."""
        x = self._standardise(features)
        return Anchor(x, torch.cholesky_solve(self._gram(self.x, x), self.factor))

    def at(self, features: np.ndarray, anchor: "Anchor") -> tuple["Block", "Block"]:
        """Return what `posterior` and `prior` say of crystals one by one, and beside `anchor`'s.

        The cost of covariances among the crystals, which would grow with the square of their
        number, is left out.
        """
        x = self._standardise(features)
        if self._rows is None:
            self._rows = TrainingRows(self.x, self.weights, self.variance, self.factor)
        known = self._rows.covariance(x)
        matern, linear, constant = self.variance
        alone = matern + linear * x.square().mean(1) + constant
        beside = self._kernel(x, anchor.x)
        mean, scale = known @ self.alpha, self.deviation**2
        posterior = Block(
            mean * self.deviation + self.mean,
            (beside - known @ anchor.solved) * scale,
            (alone - self._rows.explained(known)) * scale,
        )
        return posterior, Block(torch.zeros_like(mean), beside * scale, alone * scale)

    def prior(self, features: np.ndarray) -> Tensor:
        """Return the covariance before any training row, [n, n]."""
        x = self._standardise(features)
        return self._kernel(x, x) * self.deviation**2

    def hyper_parameters(self) -> dict[str, Tensor]:
        """Return all that was learned but the training rows."""
        return {
            "centre": torch.from_numpy(self.centre),
            "scale": torch.from_numpy(self.scale),
            "mean_deviation": torch.tensor([self.mean, self.deviation], dtype=torch.float64),
            "weights": self.weights,
            "variance": self.variance,
            "noise": self.noise,
        }

    @classmethod
    def from_hyper_parameters(cls, tensors: dict[str, Tensor]) -> "GlobalGP":
        """Return a process that waits for training rows: call `refit`."""
        process = cls()
        process.centre, process.scale = tensors["centre"].numpy(), tensors["scale"].numpy()
        process.mean, process.deviation = tensors["mean_deviation"].tolist()
        for name in ("weights", "variance", "noise"):
            setattr(process, name, tensors[name])
        return process

    def _standardise(self, features: np.ndarray) -> Tensor:
        return torch.from_numpy((features - self.centre) / self.scale)

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        matern, linear, constant = self.variance
        scaled = a * self.weights, b * self.weights
        return matern * matern32(*scaled) + linear * (a @ b.mT) / a.shape[1] + constant

    def _gram(self, a: Tensor, b: Tensor) -> Tensor:
        """Return `_kernel` of many rows, in parts that stay in the processor's cache."""
        found = a.new_empty(len(a), len(b))
        rows = max(16, CACHED // max(1, len(b)))
        for start in range(0, len(a), rows):
            found[start : start + rows] = self._kernel(a[start : start + rows], b)
        return found

    def _learn(self, x: Tensor, y: Tensor) -> None:
        """Learn inverse length scales, variances and noise on a subset."""
        dimensions = x.shape[1]
        log_weights = torch.full((dimensions,), -0.5 * math.log(dimensions), dtype=torch.float64)
        log_variance = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        log_noise = torch.tensor(-3.0, dtype=torch.float64)
        free = [log_weights, log_variance, log_noise]
        for tensor in free:
            tensor.requires_grad_()
        optimizer = torch.optim.Adam(free, lr=self.learning_rate)
        identity = torch.eye(len(x), dtype=torch.float64)
        for _ in range(self.steps):
            self.weights, self.variance = log_weights.exp(), log_variance.exp()
            gram = self._kernel(x, x) + (log_noise.exp() + JITTER) * identity
            factor = torch.linalg.cholesky(gram)
            half = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
            # a weak prior keeps length scales from running away
            prior = 0.5 * (log_weights + 0.5 * math.log(dimensions)).square().sum() / 4
            value = 0.5 * half.square().sum() + factor.diagonal().log().sum() + prior
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        self.weights, self.variance = log_weights.detach().exp(), log_variance.detach().exp()
        self.noise = log_noise.detach().exp() + JITTER

    def _condition(self, x: Tensor, y: Tensor) -> None:
        self.x, self._rows = x, None
        gram = self._gram(x, x)
        gram.diagonal().add_(self.noise)
        self.factor = torch.linalg.cholesky(gram)
        self.alpha = torch.cholesky_solve(y[:, None], self.factor)[:, 0]
