"""The stack with further features beside the default, weighed against it by the labels."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from matml.properties.features.learn import FeatureStack
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Gaussian, Method, Trained
from matml.properties.methods.registry import WITH_FEATURES
from matml.properties.methods.stack import Finding, Stacked, Weighed
from matml.properties.stack.fit import AdaptedStack

ODDS = 1.0
"""Of the features against doing without, before any label."""


@dataclass(frozen=True)
class WeighedFeatures:
    """The explanations of a support: the default's, and the stack with features.

    Attributes
    ----------
    default
        What the default says; its label process, where it was asked, is weighed among all.
    own
        The stack with features given the support.
    weights
        Of the default, of the stack with features and of the labels alone; sum 1.
    """

    default: Weighed
    own: AdaptedStack
    weights: tuple[float, float, float]

    @property
    def weight(self) -> float:
        """How likely the features are to tell, against doing without."""
        return self.weights[1]

    @property
    def finding(self) -> Finding:
        """What the labels say of the model, with or without the features."""
        without, with_features, alone = self.weights
        given = self.default.stack.given, self.own.given
        as_learned = without * given[0].as_learned + with_features * given[1].as_learned
        likelier = given[1] if with_features > without else given[0]
        return Finding(as_learned, 1 - alone - as_learned, alone, *likelier.expected)


class WithFeatures(Method[EncodedCrystals, WeighedFeatures]):
    """The default and the stack with features, averaged by the evidence of the labels.

    Parameters
    ----------
    trained
        Of the default.
    learned
        The stack with features.
    """

    def __init__(self, trained: Trained, learned: FeatureStack) -> None:
        super().__init__(WITH_FEATURES, trained)
        self.default, self.learned = Stacked(WITH_FEATURES, trained), learned
        self.own, self.columns = learned.fitted, learned.columns
        self.inputs = learned.columns.names

    def view(self, crystals: EncodedCrystals) -> EncodedCrystals:
        """As of `Method`."""
        return crystals

    def fit(self, support: EncodedCrystals, labels: np.ndarray) -> WeighedFeatures:
        """As of `Method`."""
        default = self.default.fit(support, labels)
        if len(support):
            inputs = self.columns.inputs(support)
        else:
            inputs = self.columns.put(support.inputs, np.zeros((0, len(self.inputs))))
        own = self.own.adapt(inputs, labels)
        evidence = float(own.given.evidence - default.stack.given.evidence) + math.log(ODDS)
        # the label process was weighed against the default alone
        alone = default.weight / max(1 - default.weight, 1e-300)
        logarithms = np.array([0.0, evidence, math.log(alone) if alone else -math.inf])
        weights = np.exp(logarithms - logarithms.max())
        without, with_features, rest = (weights / weights.sum()).tolist()
        return WeighedFeatures(default, own, (without, with_features, rest))

    def predict(self, state: WeighedFeatures, query: EncodedCrystals) -> Gaussian:
        """As of `Method`."""
        without, with_features, alone = state.weights
        shots, given = len(state.own.given), state.default.stack.given
        found, own = state.default.stack.predict(query.inputs), self.columns.inputs(query)
        mean, deviation, before = self.default.wider(found, given)
        found = state.own.predict(own)
        own_mean, own_deviation, own_before = self.default.wider(found, state.own.given)
        # on the scale on which the default's deviations are
        own_deviation = own_deviation * self.own.scale(shots) / self.default.fitted.scale(shots)
        own_before = own_before * self.own.scale(0) / self.default.fitted.scale(0)
        share = with_features / max(without + with_features, 1e-300)
        total = (1 - share) * mean + share * own_mean
        square = (1 - share) * (deviation**2 + (mean - total) ** 2)
        square = square + share * (own_deviation**2 + (own_mean - total) ** 2)
        told = total, np.sqrt(square), np.maximum(before, own_before)
        return self.default.mixed(told, state.default.alone, alone, query, shots)

    def half_width(self, deviation: Any, shots: int, distance: np.ndarray) -> np.ndarray:
        """As of `Method`."""
        return self.default.half_width(deviation, shots, distance)
