"""What the base models of one property say of crystals whose family they have not seen.

The base models are the networks and three global Gaussian processes: on the networks' residuals, on
descriptors, and on descriptors with the networks' predictions. Predictions of a *training* family
come from models fitted without it: the networks of the members that left its fold out, and
processes conditioned on the other folds (their kernels, a handful of numbers learned on all
training families' crystals, stay). Predictions of a *new* family come from all of them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.core.standardise import Standardisation
from matml.gp.exact import EXACT_UP_TO, GlobalGP
from matml.gp.kernels import matern32
from matml.gp.rows import Crystals
from matml.gp.sequences import Predictions
from matml.gp.stack import QueryPredictions
from matml.meta.checkpoint import pack, unpack

PROCESSES = ("residual", "descriptors", "augmented")
DESCRIPTOR_REACH, PREDICTION_REACH = 0.6, 0.4
"""Length scales of the episodes' kernels, in units of the root of the number of features."""


def cross_fitted(predictions: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return each crystal's mean prediction by networks that have not seen it, [n, properties].

    Parameters
    ----------
    predictions
        Of all members, [members, n, properties]; member m has left out fold m modulo their number.
    folds
        Fold of each crystal's family, [n]; -1 for a family that no member has seen, whose
        predictions are the mean of all members.
    """
    found = predictions.mean(0)
    count = folds.max() + 1
    for fold in range(count):
        found[folds == fold] = predictions[fold::count].mean(0)[folds == fold]
    return found


@dataclass(frozen=True)
class Inputs:
    """What the base models see of n crystals.

    Attributes
    ----------
    descriptors
        [n, features].
    predictions
        Standardised predictions of all properties by networks, cross-fitted for training
        families, [n, properties].
    """

    descriptors: np.ndarray
    predictions: np.ndarray

    def __len__(self) -> int:
        return len(self.predictions)

    def __getitem__(self, rows: np.ndarray | slice) -> "Inputs":
        """Return the inputs of some of the crystals."""
        return Inputs(self.descriptors[rows], self.predictions[rows])

    @property
    def augmented(self) -> np.ndarray:
        """Descriptors and predictions side by side."""
        return np.hstack([self.descriptors, self.predictions])


@dataclass(frozen=True)
class BaseModels:
    """The base models of one property, fitted to training crystals.

    Attributes
    ----------
    column
        The property's number among the predictions.
    residual, descriptors, augmented
        Gaussian processes.
    standardisation
        Of the augmented inputs, for the kernels that learn from the support alone.
    """

    column: int
    residual: GlobalGP
    descriptors: GlobalGP
    augmented: GlobalGP
    standardisation: Standardisation

    @classmethod
    def fit(
        cls,
        inputs: Inputs,
        targets: np.ndarray,
        column: int,
        *,
        subset: int,
        steps: int,
        seed: int,
        exact_up_to: int = EXACT_UP_TO,
    ) -> "BaseModels":
        """Return models fitted to training crystals and their standardised labels, [n]."""

        def process(features: np.ndarray, values: np.ndarray) -> GlobalGP:
            process = GlobalGP(subset=subset, steps=steps, seed=seed, exact_up_to=exact_up_to)
            return process.fit(features, values)

        both = inputs.augmented
        return cls(
            column,
            process(both, targets - inputs.predictions[:, column]),
            process(inputs.descriptors, targets),
            process(both, targets),
            Standardisation.of(both),
        )

    def refit(self, inputs: Inputs, targets: np.ndarray) -> "BaseModels":
        """Return models with the same kernels, conditioned on other crystals."""
        both = inputs.augmented
        return BaseModels(
            self.column,
            self.residual.refit(both, targets - inputs.predictions[:, self.column]),
            self.descriptors.refit(inputs.descriptors, targets),
            self.augmented.refit(both, targets),
            self.standardisation,
        )

    def predict(self, inputs: Inputs) -> Predictions:
        """Return what the models say of crystals.

        Means: network; network with the residual process; process on descriptors; process on
        both. Covariances: common shift; posterior and prior of the residual process; Matern-3/2 on
        both and on the predictions; posteriors of the other two processes.
        """
        both = inputs.augmented
        return self._gathered(
            inputs,
            self.residual.posterior(both),
            self.descriptors.posterior(inputs.descriptors),
            self.augmented.posterior(both),
        )

    def cross_fitted(
        self,
        inputs: Inputs,
        targets: np.ndarray,
        folds: np.ndarray,
        families: Sequence[np.ndarray],
    ) -> list[Predictions]:
        """Return what models without a family's fold say of it, for each of some families.

        Parameters
        ----------
        inputs, targets, folds
            Of all crystals that the models are fitted to: predictions cross-fitted, labels, fold of
            the family.
        families
            Rows of each family, all of one fold.
        """
        both = inputs.augmented
        residual = targets - inputs.predictions[:, self.column]
        said = [
            process.left_out(features, values, folds, families)
            for process, features, values in (
                (self.residual, both, residual),
                (self.descriptors, inputs.descriptors, targets),
                (self.augmented, both, targets),
            )
        ]
        return [
            self._gathered(inputs[rows], *own) for rows, *own in zip(families, *said, strict=True)
        ]

    def _gathered(
        self,
        inputs: Inputs,
        residual: tuple[Tensor, Tensor],
        descriptors: tuple[Tensor, Tensor],
        augmented: tuple[Tensor, Tensor],
    ) -> Predictions:
        """Return what `predict` does, from mean and covariance by each process."""
        network = torch.from_numpy(inputs.predictions[:, self.column])
        standard, predicted = self._standard(inputs)
        covariances = [
            torch.ones_like(residual[1]),
            residual[1],
            self.residual.prior(inputs.augmented),
            _correlation(standard, standard, DESCRIPTOR_REACH),
            _correlation(predicted, predicted, PREDICTION_REACH),
            descriptors[1],
            augmented[1],
        ]
        means = [network, network + residual[0], descriptors[0], augmented[0]]
        return Predictions(torch.stack(means), torch.stack(covariances))

    def encode(self, support: Inputs) -> "EncodedSupport":
        """Return a support in the form to which `predict_beside` gives covariances."""
        both = support.augmented
        return EncodedSupport(
            self.residual.anchor(both),
            self.descriptors.anchor(support.descriptors),
            self.augmented.anchor(both),
            *self._standard(support),
        )

    def predict_beside(self, inputs: Inputs, support: "EncodedSupport") -> QueryPredictions:
        """Return the parts of `predict` that a support's labels need, crystal by crystal."""
        both = inputs.augmented
        network = torch.from_numpy(inputs.predictions[:, self.column])
        residual, prior = self.residual.at(both, support.residual)
        descriptors, _ = self.descriptors.at(inputs.descriptors, support.descriptors)
        augmented, _ = self.augmented.at(both, support.augmented)
        standard, predicted = self._standard(inputs)
        one = torch.ones_like(residual.variance)
        cross = [
            torch.ones_like(residual.cross),
            residual.cross,
            prior.cross,
            _correlation(standard, support.standard, DESCRIPTOR_REACH),
            _correlation(predicted, support.predicted, PREDICTION_REACH),
            descriptors.cross,
            augmented.cross,
        ]
        variances = [one, residual.variance, prior.variance, one, one]
        variances += [descriptors.variance, augmented.variance]
        means = [network, network + residual.mean, descriptors.mean, augmented.mean]
        return QueryPredictions(torch.stack(means), torch.stack(cross), torch.stack(variances))

    def _standard(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the standardised inputs, all of them and the predictions alone."""
        standard = torch.from_numpy(self.standardisation.apply(inputs.augmented))
        return standard, standard[:, inputs.descriptors.shape[1] :]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that was learned but the training crystals."""
        found = {
            "centre": torch.from_numpy(self.standardisation.mean),
            "scale": torch.from_numpy(self.standardisation.deviation),
        }
        for name in PROCESSES:
            found |= pack(name, getattr(self, name).hyper_parameters())
        return found

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], inputs: Inputs, targets: np.ndarray, column: int
    ) -> "BaseModels":
        """Return what `tensors` gave, conditioned on the training crystals again."""
        residual, descriptors, augmented = (
            GlobalGP.from_hyper_parameters(unpack(name, tensors)) for name in PROCESSES
        )
        own = Standardisation(tensors["centre"].numpy(), tensors["scale"].numpy())
        waiting = cls(column, residual, descriptors, augmented, own)
        return waiting.refit(inputs, targets)


@dataclass(frozen=True)
class EncodedSupport:
    """A support as the base models of a property see it.

    Attributes
    ----------
    residual, descriptors, augmented
        In terms of the Gaussian processes.
    standard, predicted
        Standardised inputs, [k, features], and the predictions among them, [k, properties].
    """

    residual: Crystals
    descriptors: Crystals
    augmented: Crystals
    standard: Tensor
    predicted: Tensor


def _correlation(first: Tensor, second: Tensor, reach: float) -> Tensor:
    """Return the Matern-3/2 correlation of standardised inputs, [n, m]."""
    length = reach * math.sqrt(first.shape[1])
    return matern32(first / length, second / length)
