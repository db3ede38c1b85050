"""Methods that are one Gaussian process: over a pool, conditioned exactly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from matml.gp.joint import Process, Rows
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

    process: Process
    noise: float
    stack: GPStack | None = None

    def __len__(self) -> int:
        return len(self.process.mean)

    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """As of `Pool`."""
        if episodes:
            # all at once, where they are made for this
            self.process.prepare(np.unique(np.concatenate([each.support for each in episodes])))
        return [self._given(each) for each in episodes]

    def joint(self, rows: Rows, labels: np.ndarray, others: Rows | None = None) -> Gaussian:
        """Return mean [n] and covariance [n, m] without noise, given labels of `rows`.

        Parameters
        ----------
        others
            Crystals with which covariances are wanted, [m]; by default all.
        """
        process, given = self.process, self.process.given(rows, labels)
        asked = np.arange(len(self)) if others is None else np.asarray(others, int)
        cross = process.beside(rows)
        mean = process.mean + given.mean(cross)
        left = given.covariance(cross, process.beside(asked), cross[torch.from_numpy(asked)])
        return mean.numpy(), left.numpy()

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
