"""What is said of families before any label, and their crystals in random orders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Predictions:
    """What the base models say of n crystals before any of their labels is known.

    Attributes
    ----------
    means
        [models, n].
    covariances
        [kernels, n, n]; together positive definite with any noise.
    """

    means: Tensor
    covariances: Tensor

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> "Predictions":
        """Return those of some of the crystals."""
        own = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        return Predictions(self.means[:, own], self.covariances[:, own[:, None], own])


@dataclass(frozen=True)
class Sequences:
    """Families' crystals in random orders, padded to equal numbers.

    Attributes
    ----------
    means, covariances
        As of `Predictions`, with a leading dimension of families; 0 where a crystal is missing.
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
        predictions: Sequence[Predictions],
        labels: Sequence[np.ndarray],
        *,
        longest: int = 25,
        orders: int = 4,
        seed: int = 0,
    ) -> "Sequences":
        """Return `orders` random orders of each family, of at most `longest` crystals.

        Parameters
        ----------
        predictions, labels
            Of each family's labelled crystals.
        """
        generator = np.random.default_rng(seed)
        size = min(longest, max(len(values) for values in labels))
        parts = []
        for predicted, values in zip(predictions, labels, strict=True):
            for _ in range(orders):
                rows = generator.permutation(len(values))[:size]
                own, pad = predicted[rows], size - len(rows)
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
