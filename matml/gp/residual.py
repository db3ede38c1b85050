"""A Gaussian process on the residuals of a model, learned from episodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.gp.exact import _standardisation
from matml.gp.kernels import JITTER, _distances, _matern32_at, matern32


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
