"""A Gaussian process on the residuals of a model, learned from episodes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.core.standardise import Standardisation
from matml.gp.condition import condition
from matml.gp.kernels import JITTER, distances, matern32_at


@dataclass(frozen=True)
class ResidualGP:
    """A Gaussian process on the residuals of a support set: what a family adds to a model.

    The kernel is a constant (the family's common shift) plus a Matern-3/2 on standardised features.
    Its few hyper-parameters are learned over many few-shot episodes of training families whose
    residuals are cross-fitted by family (`learn_residual_gp`), not on the support.

    Attributes
    ----------
    centre, scale
        Mean and standard deviation of the features, [d].
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
        return {
            "centre": torch.from_numpy(self.centre),
            "scale": torch.from_numpy(self.scale),
            "hyper": self._hyper(),
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
        standard = Standardisation(self.centre, self.scale)
        a, b = (
            torch.from_numpy(standard.apply(x)).double() / math.sqrt(x.shape[1])
            for x in (support, query)
        )
        known = torch.from_numpy(np.asarray(residuals, float))
        mean, deviation = _posterior(self._hyper(), distances(a, a), distances(b, a), known)
        return mean.numpy(), deviation.numpy()

    def _hyper(self) -> Tensor:
        values = [self.shift, self.variance, self.noise, self.length]
        return torch.tensor(values, dtype=torch.float64)


def _posterior(
    parameters: Tensor,
    within: Tensor,
    across: Tensor,
    residuals: Tensor,
    missing: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation (noise included) of the residual at the query, [..., m].

    Parameters
    ----------
    parameters
        Shift, variance, noise and length.
    within, across
        Distances among the support's and from query to support, in units of the root of the number
        of features: [..., k, k] and [..., m, k].
    residuals
        [..., k].
    missing
        True for a place of the support that is empty, [..., k], whose residual is 0.
    """
    shift, variance, noise, length = parameters
    gram = shift + variance * matern32_at(within / length)
    cross = shift + variance * matern32_at(across / length)
    if missing is not None:
        gram = gram.masked_fill(missing[..., :, None] | missing[..., None, :], 0.0)
        cross = cross.masked_fill(missing[..., None, :], 0.0)
    given = condition(gram, noise + JITTER, residuals)
    left = shift + variance + noise - given.explained(cross)
    return given.mean(cross), left.clamp(min=1e-9).sqrt()


def learn_residual_gp(
    features: np.ndarray,
    residuals: np.ndarray,
    episodes: Sequence[tuple[np.ndarray, np.ndarray]],
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
    standard = Standardisation.of(features)
    x = torch.from_numpy(standard.apply(features)).double() / math.sqrt(features.shape[1])
    y = torch.from_numpy(np.asarray(residuals, float))
    spread = float(np.mean(np.square(residuals)))
    start = [0.3 * spread, 0.4 * spread, 0.3 * spread, 0.5]
    initial = torch.tensor(start, dtype=torch.float64).log()
    # small supports together and large ones together: little padding, and few products
    order = sorted(episodes, key=lambda episode: len(episode[0]))
    half = len(order) // 2
    groups = [_Padded.of(x, y, part) for part in (order[:half], order[half:]) if part]

    def loss(free: Tensor) -> Tensor:
        value = 0.5 * (free - initial).square().sum()
        for group in groups:
            mean, deviation = _posterior(
                free.exp(), group.within, group.across, group.residuals, group.missing
            )
            # a Laplace likelihood: errors are judged by their absolute value
            each = (mean - group.truth).abs() / deviation + deviation.log()
            value = value + (each * group.weights).sum()
        return value / (1 + len(episodes))

    learned = descend(loss, initial, steps=60)
    return ResidualGP(standard.mean, standard.deviation, *learned.exp().tolist())


def descend(loss: Callable[[Tensor], Tensor], start: Tensor, *, steps: int) -> Tensor:
    """Return where so many steps of Adam (rate 0.1) down a loss lead to."""
    free = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(free).backward()
        optimizer.step()
    return free.detach()


@dataclass(frozen=True)
class _Padded:
    """Episodes together, each with as many places as the largest needs.

    Attributes
    ----------
    within, across, residuals, missing
        As of `_posterior`.
    truth, weights
        Of the query, [episodes, m]; the weights of an episode sum to 1.
    """

    within: Tensor
    across: Tensor
    residuals: Tensor
    missing: Tensor
    truth: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls, x: Tensor, y: Tensor, episodes: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> "_Padded":
        (support, known), (query, asked) = (_padded(rows) for rows in zip(*episodes, strict=True))
        a, b = x[support], x[query]
        return cls(
            distances(a, a),
            distances(b, a),
            y[support] * known,
            ~known,
            y[query],
            asked / asked.sum(1, keepdim=True),
        )


def _padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return row numbers filled up with 0 to equal lengths, and where there was one."""
    sizes = np.array([len(each) for each in rows])
    present = np.arange(sizes.max()) < sizes[:, None]
    found = np.zeros(present.shape, np.int64)
    found[present] = np.concatenate(rows)
    return torch.from_numpy(found), torch.from_numpy(present)
