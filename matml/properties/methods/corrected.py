"""Methods that predict without labels, and correct that by the residuals of the support."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from matml.gp.residual import ResidualGP
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Method


@dataclass(frozen=True)
class Plain:
    """What several models say of n crystals without labels.

    Attributes
    ----------
    prediction
        [models, n].
    features
        What each model's process sees, [models, n, d].
    """

    prediction: np.ndarray
    features: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> "Plain":
        """Return the same of some of the crystals."""
        return Plain(self.prediction[:, rows], self.features[:, rows])


@dataclass(frozen=True)
class Residuals:
    """Of a support: what the processes see, and what labels differ by from each model."""

    features: np.ndarray
    values: np.ndarray


class Corrected(Method[Plain, Residuals]):
    """Models that predict without labels, each with a Gaussian process on its residuals, or none.

    Predictions are means over the models.
    """

    processes: list[ResidualGP | None]

    @abstractmethod
    def view(self, crystals: EncodedCrystals) -> Plain:
        """As of `Method`."""

    def fit(self, support: Plain, labels: np.ndarray) -> Residuals:
        """As of `Method`."""
        return Residuals(support.features, labels - support.prediction)

    def predict(self, state: Residuals, query: Plain) -> tuple[np.ndarray, np.ndarray | None]:
        """As of `Method`."""
        mean, deviation = query.prediction.mean(0), None
        for process, known, residuals, asked in zip(
            self.processes, state.features, state.values, query.features, strict=True
        ):
            if process is not None:
                correction, deviation = process.correct(known, residuals, asked)
                mean = mean + correction / len(self.processes)
        # that of the mean of several models is not known
        return mean, deviation if len(self.processes) == 1 else None
