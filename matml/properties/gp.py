"""Gaussian processes: one global model on descriptors, and a small one on support residuals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.properties.gp_rows import CACHED, TrainingRows

JITTER = 1e-6


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
    return _matern32_at(_distances(a, b))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances, [..., n, m], with a gradient at 0."""
    square = (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]) - 2 * a @ b.mT
    return (square.clamp(min=0) + 1e-12).sqrt()


def _matern32_at(distance: Tensor) -> Tensor:
    """Return the correlation at distances in units of the length scale."""
    scaled = distance * math.sqrt(3)
    return (1 + scaled) * torch.exp(-scaled)


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


@dataclass(frozen=True)
class ResidualGP:
    """A Gaussian process on the residuals of a support set: what a family adds to a model.

    The kernel is a constant (the family's common shift) plus a Matern-3/2 on standardised features.
    Its few hyper-parameters are learned over many few-shot episodes of training families whose
    residuals are cross-fitted by family (`learn_residual_gp`), not on the support.

    Attributes
    ----------
    centre, scale
        Standardisation of the features, [d].
    shift, variance, noise
        Variances of the common shift, of the feature-dependent part, and of the noise.
    length
        Length scale, in units of the root of the number of features.
    """

    centre: np.ndarray
    scale: np.ndarray
    shift: float
    variance: float
    noise: float
    length: float

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as tensors, for a file."""
        values = [self.shift, self.variance, self.noise, self.length]
        return {
            "centre": torch.from_numpy(self.centre),
            "scale": torch.from_numpy(self.scale),
            "hyper": torch.tensor(values, dtype=torch.float64),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "ResidualGP":
        """Return what `tensors` gave."""
        arrays = tensors["centre"].numpy(), tensors["scale"].numpy()
        return cls(*arrays, *tensors["hyper"].tolist())

    def correct(
        self, support: np.ndarray, residuals: np.ndarray, query: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation of the residual at `query`.

        Parameters
        ----------
        support, residuals, query
            [k, d], [k] and [m, d]; k may be 0.
        """
        parameters = torch.tensor(
            [self.shift, self.variance, self.noise, self.length], dtype=torch.float64
        )
        inputs = [
            torch.from_numpy((x - self.centre) / self.scale).double() for x in (support, query)
        ]
        mean, deviation = _condition_residual(
            parameters, inputs[0], torch.from_numpy(np.asarray(residuals, float)), inputs[1]
        )
        return mean.numpy(), deviation.numpy()


def _condition_residual(
    parameters: Tensor, support: Tensor, residuals: Tensor, query: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the posterior mean and deviation (noise included) of the residual at the query."""
    shift, variance, noise, length = parameters
    reach = length * math.sqrt(support.shape[1])
    gram = shift + variance * matern32(support / reach, support / reach)
    gram = gram + (noise + JITTER) * torch.eye(len(support), dtype=gram.dtype)
    cross = shift + variance * matern32(query / reach, support / reach)
    solved = torch.linalg.solve(gram, torch.cat([residuals[:, None], cross.mT], 1))
    mean = cross @ solved[:, 0]
    explained = (cross * solved[:, 1:].mT).sum(1)
    return mean, (shift + variance + noise - explained).clamp(min=1e-9).sqrt()


def learn_residual_gp(
    features: np.ndarray,
    residuals: np.ndarray,
    episodes: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    steps: int = 60,
    learning_rate: float = 0.1,
) -> ResidualGP:
    """Return the residual model that best predicts queries from supports over the episodes.

    Parameters
    ----------
    features, residuals
        [n, d] and [n]; residuals of models that had not seen the crystal's family.
    episodes
        Pairs of (support, query) row numbers, each within one family.

    Notes
    -----
    A weak prior (a factor e on each hyper-parameter) about a third of the residuals' variance for
    each part holds where episodes are few.
    """
    centre, scale = _standardisation(features)
    x = torch.from_numpy((features - centre) / scale).double()
    y = torch.from_numpy(np.asarray(residuals, float))
    spread = float(np.mean(np.square(residuals)))
    start = [0.3 * spread, 0.4 * spread, 0.3 * spread, 0.5]
    initial = torch.tensor(start, dtype=torch.float64).log()
    free = initial.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=learning_rate)
    groups = _grouped(x, y, episodes)
    for _ in range(steps):
        value = 0.5 * (free - initial).square().sum()
        for group in groups:
            mean, deviation = group.condition(free.exp())
            # a Laplace likelihood: errors are judged by their absolute value
            value = value + ((mean - group.truth).abs() / deviation + deviation.log()).mean(1).sum()
        optimizer.zero_grad()
        (value / (1 + len(episodes))).backward()
        optimizer.step()
    shift, variance, noise, length = free.detach().exp().tolist()
    return ResidualGP(centre, scale, shift, variance, noise, length)


@dataclass(frozen=True)
class _Alike:
    """Episodes with equally many support and query crystals.

    Attributes
    ----------
    within, across
        Distances among the support's and from query to support, in units of the root of the number
        of features: [episodes, k, k] and [episodes, m, k].
    residuals, truth
        [episodes, k] and [episodes, m].
    """

    within: Tensor
    across: Tensor
    residuals: Tensor
    truth: Tensor

    def condition(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `_condition_residual` does, for all episodes at once, [episodes, m]."""
        shift, variance, noise, length = parameters
        gram = shift + variance * _matern32_at(self.within / length)
        gram = gram + (noise + JITTER) * torch.eye(gram.shape[-1], dtype=gram.dtype)
        cross = shift + variance * _matern32_at(self.across / length)
        solved = torch.linalg.solve(gram, torch.cat([self.residuals[..., None], cross.mT], -1))
        mean = (cross @ solved[..., :1])[..., 0]
        explained = (cross * solved[..., 1:].mT).sum(-1)
        return mean, (shift + variance + noise - explained).clamp(min=1e-9).sqrt()


def _grouped(
    x: Tensor, y: Tensor, episodes: Sequence[tuple[np.ndarray, np.ndarray]]
) -> list[_Alike]:
    """Return the episodes grouped by their sizes."""
    sizes: dict[tuple[int, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    for support, query in episodes:
        sizes.setdefault((len(support), len(query)), []).append((support, query))
    groups = []
    for alike in sizes.values():
        support, query = (torch.from_numpy(np.stack(rows)) for rows in zip(*alike, strict=True))
        a, b = x[support] / math.sqrt(x.shape[1]), x[query] / math.sqrt(x.shape[1])
        groups.append(_Alike(_distances(a, a), _distances(b, a), y[support], y[query]))
    return groups
