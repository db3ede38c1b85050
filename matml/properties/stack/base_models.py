"""What the models of one property say of crystals whose family they have not seen.

The models are the networks and three global Gaussian processes: on the networks' residuals, on
descriptors, and on descriptors with the networks' predictions. Views of a *training* family come
from models fitted without it: the networks of the members that left its fold out, and processes
conditioned on the other folds (their kernels, a handful of numbers learned on all training
families' crystals, stay). Views of a *new* family come from all of them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.gp.exact import Anchor, GlobalGP
from matml.gp.kernels import matern32
from matml.gp.stack import QueryViews, Views
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
    """What the models see of n crystals.

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

    def __getitem__(self, rows: np.ndarray | slice) -> "Inputs":
        """Return the inputs of some of the crystals."""
        return Inputs(self.descriptors[rows], self.predictions[rows])

    @property
    def augmented(self) -> np.ndarray:
        """Descriptors and predictions side by side."""
        return np.hstack([self.descriptors, self.predictions])


@dataclass(frozen=True)
class FamilyModels:
    """The models of one property, fitted to training crystals.

    Attributes
    ----------
    column
        The property's number among the predictions.
    residual, descriptors, augmented
        Gaussian processes.
    centre, scale
        Standardisation of the augmented inputs, for the kernels that learn from the support alone.
    """

    column: int
    residual: GlobalGP
    descriptors: GlobalGP
    augmented: GlobalGP
    centre: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(
        cls, inputs: Inputs, targets: np.ndarray, column: int, *, subset: int, steps: int, seed: int
    ) -> "FamilyModels":
        """Return models fitted to training crystals and their standardised labels, [n]."""

        def process(features: np.ndarray, values: np.ndarray) -> GlobalGP:
            return GlobalGP(subset=subset, steps=steps, seed=seed).fit(features, values)

        both = inputs.augmented
        spread = both.std(0)
        return cls(
            column,
            process(both, targets - inputs.predictions[:, column]),
            process(inputs.descriptors, targets),
            process(both, targets),
            both.mean(0),
            np.where(spread < 1e-6, 1.0, spread),
        )

    def refit(self, inputs: Inputs, targets: np.ndarray) -> "FamilyModels":
        """Return models with the same kernels, conditioned on other crystals."""
        both = inputs.augmented
        return FamilyModels(
            self.column,
            self.residual.refit(both, targets - inputs.predictions[:, self.column]),
            self.descriptors.refit(inputs.descriptors, targets),
            self.augmented.refit(both, targets),
            self.centre,
            self.scale,
        )

    def views(self, inputs: Inputs) -> Views:
        """Return what the models say of crystals.

        Means: network; network with the residual process; process on descriptors; process on
        both. Covariances: common shift; posterior and prior of the residual process; Matern-3/2 on
        both and on the predictions; posteriors of the other two processes.
        """
        both = inputs.augmented
        network = torch.from_numpy(inputs.predictions[:, self.column])
        residual, of_residual = self.residual.posterior(both)
        descriptors, of_descriptors = self.descriptors.posterior(inputs.descriptors)
        augmented, of_augmented = self.augmented.posterior(both)
        standard, predicted = self._standard(inputs)
        covariances = [
            torch.ones_like(of_residual),
            of_residual,
            self.residual.prior(both),
            _correlation(standard, standard, DESCRIPTOR_REACH),
            _correlation(predicted, predicted, PREDICTION_REACH),
            of_descriptors,
            of_augmented,
        ]
        means = [network, network + residual, descriptors, augmented]
        return Views(torch.stack(means), torch.stack(covariances))

    def anchors(self, support: Inputs) -> "Anchors":
        """Return a support in the form to which `query_views` gives covariances."""
        both = support.augmented
        return Anchors(
            self.residual.anchor(both),
            self.descriptors.anchor(support.descriptors),
            self.augmented.anchor(both),
            *self._standard(support),
        )

    def query_views(self, inputs: Inputs, support: "Anchors") -> QueryViews:
        """Return the parts of `views` that predictions from a support need, block by block."""
        both = inputs.augmented
        network = torch.from_numpy(inputs.predictions[:, self.column])
        residual, prior = self.residual.at(both, support.residual)
        descriptors, _ = self.descriptors.at(inputs.descriptors, support.descriptors)
        augmented, _ = self.augmented.at(both, support.augmented)
        standard, predicted = self._standard(inputs)
        one = torch.ones_like(residual.variance)
        return QueryViews(
            torch.stack([network, network + residual.mean, descriptors.mean, augmented.mean]),
            torch.stack(
                [
                    torch.ones_like(residual.cross),
                    residual.cross,
                    prior.cross,
                    _correlation(standard, support.standard, DESCRIPTOR_REACH),
                    _correlation(predicted, support.predicted, PREDICTION_REACH),
                    descriptors.cross,
                    augmented.cross,
                ]
            ),
            torch.stack(
                [
                    *(one, residual.variance, prior.variance, one, one),
                    *(descriptors.variance, augmented.variance),
                ]
            ),
        )

    def _standard(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """Return the standardised inputs, all of them and the predictions alone."""
        standard = torch.from_numpy((inputs.augmented - self.centre) / self.scale)
        return standard, standard[:, inputs.descriptors.shape[1] :]

    def tensors(self) -> dict[str, Tensor]:
        """Return all that was learned but the training crystals."""
        found = {"centre": torch.from_numpy(self.centre), "scale": torch.from_numpy(self.scale)}
        for name in PROCESSES:
            found |= pack(name, getattr(self, name).hyper_parameters())
        return found

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], inputs: Inputs, targets: np.ndarray, column: int
    ) -> "FamilyModels":
        """Return what `tensors` gave, conditioned on the training crystals again."""
        processes = [GlobalGP.from_hyper_parameters(unpack(name, tensors)) for name in PROCESSES]
        waiting = cls(column, *processes, tensors["centre"].numpy(), tensors["scale"].numpy())
        return waiting.refit(inputs, targets)


@dataclass(frozen=True)
class Anchors:
    """A support as the models of a property see it.

    Attributes
    ----------
    residual, descriptors, augmented
        In terms of the Gaussian processes.
    standard, predicted
        Standardised inputs, [k, features], and the predictions among them, [k, properties].
    """

    residual: Anchor
    descriptors: Anchor
    augmented: Anchor
    standard: Tensor
    predicted: Tensor


def training_views(
    models: FamilyModels,
    inputs: Inputs,
    targets: np.ndarray,
    folds: np.ndarray,
    members: Sequence[np.ndarray],
) -> Iterator[Views]:
    """Yield the cross-fitted views of training families.

    Parameters
    ----------
    inputs, targets, folds
        Of all training crystals of the property: predictions cross-fitted, fold of the family.
    members
        Rows of each family, all of one fold.
    """
    without: dict[int, FamilyModels] = {}
    for rows in members:
        (fold,) = np.unique(folds[rows])
        if fold not in without:
            others = folds != fold
            without[fold] = models.refit(inputs[others], targets[others])
        yield without[fold].views(inputs[rows])


def _correlation(first: Tensor, second: Tensor, reach: float) -> Tensor:
    """Return the Matern-3/2 correlation of standardised inputs, [n, m]."""
    length = reach * math.sqrt(first.shape[1])
    return matern32(first / length, second / length)
