"""What each method says of all crystals of one family, given labels of some of them.

For retrospective tests and for choosing what to label next, where one family is conditioned many
times: what does not depend on the labels (graphs, networks, base models) is computed once.
All values are on the standardised learned scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from matml.gp.condition import Conditioned, JointProcess
from matml.gp.kernels import JITTER
from matml.gp.stack import GPStack, Predictions
from matml.properties.baselines.tabular import Baseline
from matml.properties.data.descriptors import describe
from matml.properties.data.methods import STACK
from matml.properties.data.targets import find_property
from matml.properties.predictor.few_shot import FewShotPredictor
from matml.properties.stack.fit import StackedPredictor
from matml.screening.objectives import normal
from matml.structures.crystals import CrystalSet

BASELINES = ("extra_trees_gp", "global_gp", "global_gp_gp")


class CachingPredictor(FewShotPredictor):
    """A predictor that fits each baseline and stack once, since many families ask for them."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self._fitted: dict[tuple[str, str], Baseline | StackedPredictor] = {}

    def baseline(self, kind: str, property_name: str) -> Baseline:
        """Return a baseline fitted to the training rows, the same object each time."""
        key = kind, property_name
        if key not in self._fitted:
            self._fitted[key] = super().baseline(kind, property_name)
        return self._fitted[key]

    def fitted_stack(self, property_name: str) -> StackedPredictor:
        """Return the stack of a property, the same object each time."""
        key = STACK, property_name
        if key not in self._fitted:
            self._fitted[key] = super().fitted_stack(property_name)
        return self._fitted[key]

    def default_method(self, property_name: str) -> str:
        """The method that a user gets."""
        return self.card["properties"][property_name]["method"]


class Surrogate(Protocol):
    """One method on one family of n crystals."""

    def posterior(self, rows: Sequence[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of a label of each of the n crystals, given those of some `rows`."""


@dataclass(frozen=True)
class JointSurrogate:
    """A Gaussian process over the family's crystals, conditioned exactly.

    Attributes
    ----------
    mean, covariance
        Before any label, [n] and [n, n].
    noise
        Variance of a label.
    stack
        Tells from the labels' misfit how far the family's errors are larger or smaller than the
        covariance says; without it they are as it says.
    """

    mean: np.ndarray
    covariance: np.ndarray
    noise: float
    stack: GPStack | None = None

    def joint(self, rows: Sequence[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean [n] and covariance [n, n] without noise, given labels of `rows`."""
        given, cross = self._given(rows, labels)
        covariance = given.covariance(cross, torch.from_numpy(self.covariance))
        return self.mean + given.mean(cross).numpy(), covariance.numpy()

    def posterior(self, rows: Sequence[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Surrogate`."""
        given, cross = self._given(rows, labels)
        variance = self.covariance.diagonal() - given.explained(cross).numpy() + self.noise
        factor = 1.0 if self.stack is None else float(self.stack.factor(given.misfit, len(given)))
        mean = self.mean + given.mean(cross).numpy()
        return mean, np.sqrt(np.maximum(variance, 1e-9) * factor)

    def _given(self, rows: Sequence[int], labels: np.ndarray) -> tuple[Conditioned, Tensor]:
        """Return the process given labels, and all crystals' covariance with the labelled ones."""
        mean, covariance = torch.from_numpy(self.mean), torch.from_numpy(self.covariance)
        given = JointProcess(mean, covariance, self.noise + JITTER).given(rows, labels)
        return given, covariance[:, torch.as_tensor(np.asarray(rows, np.int64))]


@dataclass(frozen=True)
class CorrectedSurrogate:
    """A baseline with its Gaussian process on the residuals of the labelled crystals.

    Attributes
    ----------
    plain
        Prediction without labels, [n].
    features
        [n, features].
    """

    baseline: Baseline
    plain: np.ndarray
    features: np.ndarray

    def posterior(self, rows: Sequence[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Surrogate`."""
        rows = np.asarray(rows, dtype=int)
        residuals = np.asarray(labels, dtype=float) - self.plain[rows]
        found = self.baseline.residual_gp.correct(self.features[rows], residuals, self.features)
        return self.plain + found[0], found[1]


@dataclass(frozen=True)
class AdaptedSurrogate:
    """Any other method, adapted anew to each set of labels.

    Attributes
    ----------
    predict
        From rows and standardised labels to mean and deviation.
    """

    predict: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]

    def posterior(self, rows: Sequence[int], labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Surrogate`."""
        return self.predict(np.asarray(rows, dtype=int), np.asarray(labels, dtype=float))


def surrogate(
    predictor: CachingPredictor, property_name: str, method: str, crystals: CrystalSet
) -> Surrogate:
    """What a method says of the crystals of one family."""
    if method == STACK:
        fitted = predictor.fitted_stack(property_name)
        return stack_surrogate(fitted, fitted.models.predict(predictor.inputs(crystals)))
    if method in BASELINES:
        kind = method if method == "global_gp" else method.removesuffix("_gp")
        fitted, features = predictor.baseline(kind, property_name), describe(crystals)
        if method != "global_gp":
            return CorrectedSurrogate(fitted, fitted.predict(features), features)
        joint = fitted.model.joint(features)
        return JointSurrogate(joint.mean.numpy(), joint.covariance.numpy(), joint.noise)
    return _adapted(predictor, property_name, method, crystals)


def stack_surrogate(fitted: StackedPredictor, predictions: Predictions) -> JointSurrogate:
    """The stacked process over a family's crystals."""
    stack, joint = fitted.stack, fitted.stack.joint(predictions)
    return JointSurrogate(joint.mean.numpy(), joint.covariance.numpy(), float(stack.noise), stack)


def _adapted(
    predictor: CachingPredictor, property_name: str, method: str, crystals: CrystalSet
) -> AdaptedSurrogate:
    column = predictor.recipe.properties.index(property_name)
    centre = predictor.standardisation.mean[column]
    scale = predictor.standardisation.deviation[column]

    def predict(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = find_property(property_name).from_scale(labels * scale + centre)
        support = crystals.subset(rows) if len(rows) else []
        adapted = predictor.adapt(support, values, property_name, method=method, check_units=False)
        table = adapted.predict_table(crystals)
        mean, deviation = normal(
            property_name, *(table[c].to_numpy() for c in ("prediction", "low", "high"))
        )
        return (mean - centre) / scale, deviation / scale

    return AdaptedSurrogate(predict)
