"""Methods that are one Gaussian process: over a pool, conditioned exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from matml.gp.condition import JointProcess
from matml.gp.stack import GPStack
from matml.properties.methods.method import Episode, Gaussian, Pool


@dataclass(frozen=True)
class JointPool(Pool):
    """A Gaussian process over a pool of n crystals.

    Attributes
    ----------
    process
        The process before any label.
    noise
        Variance of a label.
    stack
        Tells from the labels' misfit how far the family's errors are larger or smaller than the
        covariance says; without it they are as it says.
    """

    process: JointProcess
    noise: float
    stack: GPStack | None = None

    def __len__(self) -> int:
        return len(self.process.mean)

    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """As of `Pool`."""
        return [self._given(each) for each in episodes]

    def joint(self, rows: Sequence[int] | np.ndarray, labels: np.ndarray) -> Gaussian:
        """Return mean [n] and covariance [n, n] without noise, given labels of `rows`."""
        process, given = self.process, self.process.given(rows, labels)
        cross = process.covariance[:, torch.as_tensor(np.asarray(rows, np.int64))]
        mean = process.mean + given.mean(cross)
        return mean.numpy(), given.covariance(cross, process.covariance).numpy()

    def turned(self) -> "JointPool":
        """Return the pool of labels times -1."""
        return replace(self, process=replace(self.process, mean=-self.process.mean))

    def _given(self, episode: Episode) -> Gaussian:
        """Return mean and deviation (noise included) at the query of an episode."""
        given = episode.support, episode.labels, episode.query
        if self.stack is not None:
            return self.stack.predict(self.process, *given)
        mean, variance, _ = self.process.predict(*given)
        return mean.numpy(), (variance + self.noise).clamp(min=1e-9).sqrt().numpy()
