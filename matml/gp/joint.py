"""A Gaussian process over crystals, any of which may be labelled."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matml.gp.condition import Conditioned, condition

WRITTEN_OUT = 2000
"""Crystals up to which their covariance is written out; of more only what is asked for is made."""
CHUNK = 2048
"""Of many crystals, how many are predicted at once, so that what is made of them stays small."""
Rows = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Process(ABC):
    """A Gaussian process over n crystals.

    Attributes
    ----------
    mean
        Before any label, [n].
    noise
        Variance that a label's noise adds to the covariance.
    """

    mean: Tensor
    noise: float

    @abstractmethod
    def variance(self) -> Tensor:
        """Return the variance of each crystal, without noise, [n]."""

    @abstractmethod
    def beside(self, rows: Rows) -> Tensor:
        """Return the covariance of all crystals with some of them, [n, k]."""

    @abstractmethod
    def prepare(self, rows: Rows) -> None:
        """Make at once what `beside` will be asked, where that saves time."""

    def given(self, rows: Rows, labels: np.ndarray) -> Conditioned:
        """Return the process given labels of some crystals."""
        own = torch.as_tensor(np.asarray(rows, np.int64))
        known = torch.as_tensor(np.asarray(labels, float))
        return condition(self.beside(rows)[own], self.noise, known - self.mean[own])

    def predict(
        self, rows: Rows, labels: np.ndarray, query: Rows
    ) -> tuple[Tensor, Tensor, Conditioned]:
        """Return mean and variance (without noise) of the query, [m], and the process given labels.

        Parameters
        ----------
        rows, labels
            Labelled crystals and their labels, [k].
        """
        asked = torch.as_tensor(np.asarray(query, np.int64))
        given = self.given(rows, labels)
        cross = self.beside(rows)[asked]
        left = self.variance()[asked] - given.explained(cross)
        return self.mean[asked] + given.mean(cross), left, given


@dataclass(frozen=True)
class JointProcess(Process):
    """A process written out.

    Attributes
    ----------
    covariance
        Before any label and without noise, [n, n].
    """

    covariance: Tensor

    def variance(self) -> Tensor:
        """As of `Process`."""
        return self.covariance.diagonal()

    def prepare(self, rows: Rows) -> None:
        """As of `Process`: all is there."""

    def beside(self, rows: Rows) -> Tensor:
        """As of `Process`."""
        return self.covariance[:, torch.as_tensor(np.asarray(rows, np.int64))]


Said = tuple[Tensor, Tensor, Tensor]
"""Mean [m] of crystals, their covariance with k others, [m, k], and their variance, [m]."""


@dataclass(frozen=True)
class WideProcess(Process):
    """A process over many crystals, of which no more is made than is asked for.

    Attributes
    ----------
    alone
        Variances, [n].
    say
        Returns the covariance of all crystals with some, [n, k].
    known
        What it has said of each.
    """

    alone: Tensor
    say: Callable[[np.ndarray], Tensor]
    known: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def over(
        cls,
        number: int,
        noise: float,
        encode: Callable[[np.ndarray], Any],
        at: Callable[[slice, Any], Said],
    ) -> "WideProcess":
        """Return the process over a number of crystals.

        Parameters
        ----------
        encode, at
            Take crystals by their rows, and say of a chunk of them what there is beside those.
        """

        def said(rows: np.ndarray) -> Said:
            support = encode(rows)
            parts = [at(slice(i, i + CHUNK), support) for i in range(0, number, CHUNK)]
            mean, cross, variance = (torch.cat(part) for part in zip(*parts, strict=True))
            return mean, cross, variance

        mean, _, variance = said(np.zeros(0, int))
        return cls(mean, noise, variance, lambda rows: said(rows)[1])

    def variance(self) -> Tensor:
        """As of `Process`."""
        return self.alone

    def prepare(self, rows: Rows) -> None:
        """As of `Process`."""
        if new := [row for row in np.asarray(rows, int).tolist() if row not in self.known]:
            self.known.update(zip(new, self.say(np.array(new)).mT.contiguous(), strict=True))

    def beside(self, rows: Rows) -> Tensor:
        """As of `Process`; each crystal's covariances are made once."""
        self.prepare(rows)
        columns = [self.known[row] for row in np.asarray(rows, int).tolist()]
        return torch.stack(columns, 1) if columns else self.mean.new_zeros(len(self.mean), 0)
