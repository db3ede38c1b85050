"""A Gaussian process for new families, stacked from what several models say of them.

Before any label of a family is known, each model (the networks, global Gaussian processes) gives a
mean for its crystals, and kernels say which of its crystals err together. The stack is the Gaussian
process whose mean is a weighted mean of theirs and whose covariance is a weighted sum of the
kernels; labels of the family condition it exactly. Its dozen weights are learned on training
families, each predicted crystal by crystal, with means and covariances from models that have not
seen the family (cross-fitting by family), since only there is what a new family leaves to learn.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
class QueryViews:
    """What the models say of m crystals one by one, and of how they go with a support.

    Attributes
    ----------
    means
        [models, m].
    cross
        Covariances with the k crystals of the support, [kernels, m, k].
    variances
        [kernels, m].
    """

    means: Tensor
    cross: Tensor
    variances: Tensor


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
        support = Views(views.means[:, :shots], views.covariances[:, :shots, :shots])
        query = QueryViews(
            views.means[:, shots:],
            views.covariances[:, shots:, :shots],
            views.covariances.diagonal(dim1=1, dim2=2)[:, shots:],
        )
        return self.given(support, labels).at(query)

    def given(self, views: Views, labels: np.ndarray) -> "ConditionedStack":
        """Return the process given the support's views and labels, [shots]."""
        mean = self.mean_weights @ views.means
        gram = torch.einsum("k,kab->ab", self.variances, views.covariances)
        gram = gram + (self.noise + JITTER) * torch.eye(len(gram)).to(gram)
        factor = torch.linalg.cholesky(gram)
        residual = torch.as_tensor(np.asarray(labels, dtype=float)) - mean
        solved = torch.cholesky_solve(residual[:, None], factor)[:, 0]
        return ConditionedStack(self, factor, solved)

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


@dataclass(frozen=True)
class ConditionedStack:
    """The stack given a support.

    Attributes
    ----------
    stack
        The weights.
    factor, solved
        Cholesky factor of the support's covariance, [k, k], and its residuals through the inverse
        of that covariance, [k].
    """

    stack: GPStack
    factor: Tensor
    solved: Tensor

    def at(self, query: QueryViews) -> tuple[np.ndarray, np.ndarray]:
        """Return posterior mean and deviation (noise included), [m]."""
        stack = self.stack
        cross = torch.einsum("k,kab->ab", stack.variances, query.cross)
        half = torch.linalg.solve_triangular(self.factor, cross.mT, upper=False)
        mean = stack.mean_weights @ query.means + cross @ self.solved
        variance = stack.variances @ query.variances + stack.noise - half.square().sum(0)
        return mean.numpy(), variance.clamp(min=1e-9).sqrt().numpy()


def sequential_loss(
    mean_weights: Tensor,
    variances: Tensor,
    noise: Tensor,
    sequences: "Sequences",
) -> Tensor:
    """Return the cost of each family, [families]: each crystal from the labels of those before it.

    One triangular factor gives the predictions for every number of labels at once: the whitened
    residuals of a family in some order are its errors one step ahead, and the factor's diagonal
    their deviations (the prequential view of the likelihood, Dawid 1984, 10.2307/2981683). The
    cost is that of a Laplace distribution, since errors are judged by their absolute value.
    """
    mean = torch.einsum("m,fmn->fn", mean_weights, sequences.means)
    covariance = torch.einsum("k,fkab->fab", variances, sequences.covariances)
    present = sequences.present
    # a missing crystal has variance 1, no error and no part in the cost
    diagonal = (noise + JITTER) * present + (1 - present)
    factor = torch.linalg.cholesky(covariance + torch.diag_embed(diagonal))
    residual = ((sequences.labels - mean) * present)[..., None]
    ahead = torch.linalg.solve_triangular(factor, residual, upper=False)[..., 0].abs()
    deviation = factor.diagonal(dim1=1, dim2=2).log()
    each = (math.sqrt(2) * ahead + deviation) * present
    return each.sum(1) / present.sum(1)


@dataclass(frozen=True)
class Sequences:
    """Families' crystals in random orders, padded to equal numbers.

    Attributes
    ----------
    means, covariances
        As of `Views`, with a leading dimension of families; 0 where a crystal is missing.
    labels, present
        [families, n]; `present` is 1 for a crystal and 0 for padding.
    """

    means: Tensor
    covariances: Tensor
    labels: Tensor
    present: Tensor

    @classmethod
    def draw(
        cls,
        views: Sequence[Views],
        labels: Sequence[np.ndarray],
        *,
        longest: int = 25,
        orders: int = 4,
        seed: int = 0,
    ) -> "Sequences":
        """Return `orders` random orders of each family, of at most `longest` crystals.

        Parameters
        ----------
        views, labels
            Of each family's labelled crystals.
        """
        generator = np.random.default_rng(seed)
        size = min(longest, max(len(values) for values in labels))
        parts = []
        for view, values in zip(views, labels, strict=True):
            for _ in range(orders):
                rows = generator.permutation(len(values))[:size]
                own, pad = view[rows], size - len(rows)
                parts.append(
                    (
                        functional.pad(own.means, (0, pad)),
                        functional.pad(own.covariances, (0, pad, 0, pad)),
                        functional.pad(torch.from_numpy(values[rows]), (0, pad)),
                        functional.pad(torch.ones(len(rows), dtype=torch.float64), (0, pad)),
                    )
                )
        return cls(*(torch.stack(each) for each in zip(*parts, strict=True)))

    def __len__(self) -> int:
        """Return the number of families times orders."""
        return len(self.labels)

    def __getitem__(self, rows: Tensor) -> "Sequences":
        """Return some of the sequences."""
        return Sequences(
            self.means[rows], self.covariances[rows], self.labels[rows], self.present[rows]
        )


def learn_stack(
    sequences: Sequences,
    scale: float,
    *,
    strength: float = 0.1,
    steps: int = 80,
    batch: int = 48,
    learning_rate: float = 0.1,
    start: GPStack | None = None,
    seed: int = 0,
) -> GPStack:
    """Return the stack that best predicts each crystal of a family from those before it.

    Parameters
    ----------
    sequences
        Of training families, with cross-fitted views.
    scale
        Variance of a family's errors before any label, which the kernels share at the start.
    strength
        Of the Gaussian prior on the logarithms about equal shares, in sequences; it holds what the
        families do not tell.
    steps, batch, learning_rate
        Adam steps, each on a random part of the sequences; the rate falls to 0 in the second half.
    start
        A stack to begin with, such as that of nearly the same families; else the prior's centre.
    """
    models, kernels = sequences.means.shape[1], sequences.covariances.shape[1]
    crystals = sequences.present.sum()
    size = sequences.covariances.diagonal(dim1=2, dim2=3).sum((0, 2)) / crystals
    share = torch.tensor([scale / kernels], dtype=torch.float64)
    centre = torch.cat(
        [
            torch.zeros(models, dtype=torch.float64),
            (share / size.clamp(min=1e-9)).log(),
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
    generator = torch.Generator().manual_seed(seed)

    def parts() -> tuple[Tensor, Tensor, Tensor]:
        return free[:models].softmax(0), free[models:-1].exp(), free[-1].exp()

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1.0, 2 * (1 - step / steps))
        chosen = torch.randperm(len(sequences), generator=generator)[:batch]
        value = sequential_loss(*parts(), sequences[chosen]).mean()
        value = value + strength / len(sequences) * (free - centre).square().sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        return GPStack(*(part.detach().clone() for part in parts()))
