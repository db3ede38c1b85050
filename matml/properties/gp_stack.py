"""A Gaussian process for new families, stacked from what several models say of them.

Before any label of a family is known, each model (the networks, global Gaussian processes) gives a
mean for its crystals, and kernels say which of its crystals err together. The stack is the Gaussian
process whose mean is a weighted mean of theirs and whose covariance is a weighted sum of the
kernels; labels of the family condition it exactly. Its dozen weights are learned over few-shot
episodes of training families, with means and covariances from models that have not seen the family
(cross-fitting by family), since only there is what a new family leaves to learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

JITTER = 1e-6


@dataclass(frozen=True)
class Views:
    """What the models say of n crystals before any of their labels is known.

    Attributes
    ----------
    means
        [models, n].
    covariances
        [kernels, n, n]; together positive definite with any noise.
    """

    means: Tensor
    covariances: Tensor

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> "Views":
        """Return the views of some of the crystals."""
        rows = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return Views(self.means[:, rows], self.covariances[:, rows][:, :, rows])


@dataclass(frozen=True)
class GPStack:
    """The learned weights.

    Attributes
    ----------
    mean_weights
        [models], positive, sum 1.
    variances
        [kernels].
    noise
        Variance of a label.
    """

    mean_weights: Tensor
    variances: Tensor
    noise: Tensor

    def condition(
        self, views: Views, labels: np.ndarray, shots: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return posterior mean and deviation (noise included) of the crystals after the support.

        Parameters
        ----------
        views
            Of the support's crystals, first, and of those to predict.
        labels
            [shots].
        """
        labels = torch.as_tensor(np.asarray(labels, dtype=float))
        mean, deviation = _condition(
            self.mean_weights,
            self.variances,
            self.noise,
            views.means[None],
            views.covariances[None],
            labels[None],
            shots,
        )
        return mean[0].numpy(), deviation[0].numpy()

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, for a file."""
        return {
            "mean_weights": self.mean_weights,
            "variances": self.variances,
            "noise": self.noise,
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "GPStack":
        """Return what `tensors` gave."""
        return cls(tensors["mean_weights"], tensors["variances"], tensors["noise"])


def _condition(
    mean_weights: Tensor,
    variances: Tensor,
    noise: Tensor,
    means: Tensor,
    covariances: Tensor,
    labels: Tensor,
    shots: int,
) -> tuple[Tensor, Tensor]:
    """Return posterior means and deviations at the queries of several episodes, [episodes, m].

    Parameters
    ----------
    means, covariances
        [episodes, models, shots + m] and [episodes, kernels, shots + m, shots + m].
    labels
        [episodes, shots].
    """
    mean = torch.einsum("m,emn->en", mean_weights, means)
    covariance = torch.einsum("k,ekab->eab", variances, covariances)
    spread = covariance.diagonal(dim1=1, dim2=2)[:, shots:] + noise
    if shots == 0:
        return mean, spread.sqrt()
    gram = covariance[:, :shots, :shots] + (noise + JITTER) * torch.eye(shots).to(covariance)
    cross = covariance[:, shots:, :shots]
    factor = torch.linalg.cholesky(gram)
    half = torch.linalg.solve_triangular(factor, cross.mT, upper=False)
    residual = torch.linalg.solve_triangular(
        factor, (labels - mean[:, :shots])[..., None], upper=False
    )
    explained = half.square().sum(1)
    return (
        mean[:, shots:] + (half.mT @ residual)[..., 0],
        (spread - explained).clamp(min=1e-9).sqrt(),
    )


@dataclass(frozen=True)
class Episodes:
    """Few-shot episodes with equally many labels and queries, of several families.

    Attributes
    ----------
    shots
        Labels.
    means, covariances
        As of `Views`, with a leading dimension of episodes.
    labels
        [episodes, shots + queries].
    weights
        [episodes], for equal weight of each family.
    """

    shots: int
    means: Tensor
    covariances: Tensor
    labels: Tensor
    weights: Tensor


def draw_episodes(
    views: Sequence[Views],
    labels: Sequence[np.ndarray],
    shots: Sequence[int],
    *,
    draws: int = 4,
    queries: int = 12,
    seed: int = 0,
) -> list[Episodes]:
    """Return episodes of families, for each number of labels those families that are large enough.

    Parameters
    ----------
    views, labels
        Of each family's labelled crystals.
    draws, queries
        Supports per family and number of labels, and crystals predicted (fewer in small families:
        they are drawn with replacement).
    """
    generator = np.random.default_rng(seed)
    found = []
    for k in shots:
        parts = []
        for view, values in zip(views, labels, strict=True):
            if len(values) < max(2 * k, k + 4):
                continue
            for _ in range(draws):
                order = generator.permutation(len(values))
                rest = order[k:]
                if len(rest) < queries:
                    rest = generator.choice(rest, queries)
                rows = np.concatenate([order[:k], rest[:queries]])
                own = view[rows]
                parts.append((own.means, own.covariances, torch.from_numpy(values[rows])))
        if parts:
            stacked = [torch.stack(each) for each in zip(*parts, strict=True)]
            found.append(Episodes(k, *stacked, torch.full((len(parts),), 1 / len(parts))))
    return found


def learn_stack(
    episodes: Sequence[Episodes],
    scale: float,
    *,
    strength: float = 0.005,
    steps: int = 80,
    learning_rate: float = 0.1,
    start: GPStack | None = None,
) -> GPStack:
    """Return the stack that best predicts queries from supports, over all numbers of labels.

    Parameters
    ----------
    episodes
        Of training families, with cross-fitted views.
    scale
        Variance of a family's errors before any label, which the kernels share at the start.
    strength
        Of the prior.
    start
        A stack to begin with, such as that of nearly the same episodes; else the prior's centre.

    Notes
    -----
    The loss is a Laplace likelihood, since errors are judged by their absolute value; a Gaussian
    prior on the logarithms about equal shares holds where episodes tell little.
    """
    models, kernels = episodes[0].means.shape[1], episodes[0].covariances.shape[1]
    size = torch.stack([e.covariances.diagonal(dim1=2, dim2=3).mean((0, 2)) for e in episodes])
    share = torch.tensor([scale / kernels], dtype=torch.float64)
    centre = torch.cat(
        [
            torch.zeros(models, dtype=torch.float64),
            (share / size.mean(0).clamp(min=1e-9)).log(),
            (0.1 * kernels * share).log(),
        ]
    )
    free = centre.clone()
    if start is not None:
        logarithms = start.mean_weights.log()
        free = torch.cat(
            [logarithms - logarithms.mean(), start.variances.log(), start.noise.reshape(1).log()]
        )
    free.requires_grad_()
    optimizer = torch.optim.Adam([free], lr=learning_rate)

    def parts() -> tuple[Tensor, Tensor, Tensor]:
        return free[:models].softmax(0), free[models:-1].exp(), free[-1].exp()

    for _ in range(steps):
        value = strength * (free - centre).square().sum()
        for group in episodes:
            k = group.shots
            mean, deviation = _condition(
                *parts(), group.means, group.covariances, group.labels[:, :k], k
            )
            off = (mean - group.labels[:, k:]).abs()
            each = (off / deviation + deviation.log()).mean(1)
            value = value + (each * group.weights).sum() / len(episodes)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return GPStack(*(part.detach().clone() for part in parts()))
