"""The stacked Gaussian process as a method: the default where it was fitted.

The labels weigh three explanations of themselves by their evidence: the stack as it was learned;
the same with its mean shifted (`matml.gp.shifts`); and a property that nothing was trained on, for
which the label process stands, without any mean of the model's.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import fdtrc, ndtr

from matml.gp.shifts import Shifted
from matml.gp.stack import SEVERAL, Told
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Episode, Gaussian, LabelsAlone, Method, Trained
from matml.properties.stack.fit import AdaptedStack, StackedPredictor

LABELS_ALONE = 0.03
"""How likely labels are to be of something else than what the model learned."""
RANGE = math.log(2 * 200 * math.log(1e4))
"""Logarithm of the space of such labels: means within 200 deviations of the known labels, spreads
over four decades; what stands in place of the label process's flat priors."""
PER_LABEL, AT_MOST = 0.375, 3.0
"""By how much that logarithm is smaller for each label beyond the two that a mean and a spread
take, and at most: the more labels, the less the prior is to decide."""
WIDEST = 3.0
"""How many times that before any label a half width may be, from `SEVERAL` labels on."""
BISECTIONS = 40
"""Of the distance of two means, between which their median is."""
LEAST_WEIGHT = 1e-3
"""Of the label process that is asked for predictions."""
FEWEST, SURPRISE = 3, 0.05
"""Labels from which on the label process is asked, and how unlikely under the stack they must be:
otherwise its weight is next to nothing, and its time is saved."""


@dataclass(frozen=True)
class Finding:
    """What the labels say of the model.

    Attributes
    ----------
    as_learned, shifted, alone
        How likely: the model as it is; with its mean shifted; the labels alone.
    offset, slope
        Of the shifted mean, standardised.
    """

    as_learned: float
    shifted: float
    alone: float
    offset: float
    slope: float


@dataclass(frozen=True)
class Weighed:
    """The explanations of a support, weighed.

    Attributes
    ----------
    stack
        The stack given the support, as learned or shifted.
    alone
        The label process given it, where it was asked.
    weight
        Of the latter.
    """

    stack: AdaptedStack
    alone: LabelsAlone | None
    weight: float

    @property
    def finding(self) -> Finding:
        """What the labels say of the model."""
        given, rest = self.stack.given, 1 - self.weight
        as_learned = given.as_learned * rest
        return Finding(as_learned, rest - as_learned, self.weight, *given.expected)


class Stacked(Method[EncodedCrystals, Weighed]):
    """The stacked Gaussian process, whose intervals are calibrated in its own deviations."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.fitted, self.labels_alone = trained.stack(), trained.labels_alone

    def view(self, crystals: EncodedCrystals) -> EncodedCrystals:
        """As of `Method`."""
        return crystals

    def fit(self, support: EncodedCrystals, labels: np.ndarray) -> Weighed:
        """As of `Method`."""
        stack = self.fitted.adapt(support.inputs, labels)
        if not self.asks(stack.given):
            return Weighed(stack, None, 0.0)
        return Weighed(stack, *self.weigh(stack.given, support, labels))

    def asks(self, given: Shifted) -> bool:
        """Return whether the label process is asked of some labels."""
        able = self.labels_alone is not None and len(given) >= FEWEST
        return able and surprising(self.fitted, given)

    def weigh(
        self, given: Shifted, support: EncodedCrystals, labels: np.ndarray
    ) -> tuple[LabelsAlone, float]:
        """Return the label process given a support, and its weight."""
        assert self.labels_alone is not None
        alone, k = self.labels_alone(support, labels), len(labels)
        evidence = alone.evidence - RANGE + min(PER_LABEL * max(k - 2, 0), AT_MOST)
        evidence += math.lgamma((k - 1) / 2) - (k - 1) / 2 * math.log(math.pi)
        odds = evidence - float(given.evidence) + math.log(LABELS_ALONE / (1 - LABELS_ALONE))
        return alone, 1 / (1 + math.exp(-max(min(odds, 700.0), -700.0)))

    def predict(self, state: Weighed, query: EncodedCrystals) -> Gaussian:
        """As of `Method`."""
        found, given = state.stack.predict(query.inputs), state.stack.given
        found = self.wider(found, given)
        return self.mixed(found, state.alone, state.weight, query, len(given))

    def wider(self, found: Told, given: Shifted) -> Told:
        """Return what the stack says, wider as far as few labels tell of a slope.

        Of which they are less certain than the evidence has it. Where labels cannot let go, as in
        the evaluation of a run, nothing changes.
        """
        if self.labels_alone is None or not len(given):
            return found
        return found[0], found[1] * (1 + given.sloped / len(given)), found[2]

    def mixed(
        self,
        found: Told,
        alone: LabelsAlone | None,
        weight: float,
        query: EncodedCrystals,
        shots: int,
    ) -> Gaussian:
        """Return centre and deviation of a query, where the labels alone may have a say.

        The centre is the median of the two, since errors are judged by their size: what is less
        likely then moves it less.

        As far as the model still applies, half widths are at most `WIDEST` times those before any
        label: of right labels none is wider for a reason, and hardly any of shifted ones.
        """
        total, spread, before = found
        # on the scale on which the stack's deviations are
        scale = self.fitted.scale(shots)
        if alone is not None and weight >= LEAST_WEIGHT:
            mean, half_width = alone.predict(query)
            deviation = half_width / scale
            total = median(weight, (total, spread), (mean, deviation))
            square = (1 - weight) * (spread**2 + (found[0] - total) ** 2)
            square += weight * (deviation**2 + (mean - total) ** 2)
            spread = np.sqrt(square)
        if shots < SEVERAL:
            return total, spread
        most = WIDEST / max(1 - weight, 1e-9) * self.fitted.scale(0) / scale
        return total, np.minimum(spread, most * before)

    def half_width(
        self, deviation: np.ndarray | None, shots: int, distance: np.ndarray
    ) -> np.ndarray:
        """As of `Method`."""
        assert deviation is not None
        return deviation * self.fitted.scale(shots) * np.maximum(distance, 1)

    def over(self, crystals: EncodedCrystals) -> "StackedPool":
        """As of `Method`."""
        stack = self.fitted.stack
        return StackedPool(
            self.fitted.over(crystals.inputs), float(stack.noise), stack, self, crystals
        )


class HypotheticalStacked(Stacked):
    """The same for crystals that are declared to be hypothetical, which training labels are not."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.fitted = self.fitted.of_hypothetical()
        self.changes = self.fitted.hypothetical or (0.0, 1.0)


def median(weight: float, first: Gaussian, second: Gaussian) -> np.ndarray:
    """Return medians of mixtures of two normal distributions, the second of a weight, [m]."""
    low, high = np.minimum(first[0], second[0]), np.maximum(first[0], second[0])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        share = (1 - weight) * ndtr((middle - first[0]) / first[1])
        below = share + weight * ndtr((middle - second[0]) / second[1]) < 0.5
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def surprising(fitted: StackedPredictor, given: Shifted) -> bool:
    """Return whether labels are unlikely under a stack, or only likely with its mean shifted."""
    stack, k = fitted.stack, len(given)
    misfit = float(given.weights @ given.misfit) / (k * float(stack.spread))
    return given.as_learned < 0.5 or bool(fdtrc(k, float(stack.freedom), misfit) < SURPRISE)


@dataclass(frozen=True)
class StackedPool(JointPool):
    """The stack over a pool; `joint` says what the stack as it was learned does.

    Attributes
    ----------
    method, crystals
        The method, and the crystals of the pool.
    """

    method: Stacked | None = None
    crystals: EncodedCrystals | None = None

    def turned(self) -> "JointPool":
        """Return the pool of labels times -1."""
        return JointPool(self.process, self.noise, self.stack).turned()

    def _given(self, episode: Episode) -> Gaussian:
        """Return mean and deviation (noise included) at the query of an episode."""
        if self.method is None or self.crystals is None or self.stack is None:
            return super()._given(episode)
        rows, labels, query = episode.support, episode.labels, episode.query
        given = self.stack.given_rows(self.process, rows, labels)
        found = self.method.wider(self.stack.query(self.process, given, rows, query), given)
        if not self.method.asks(given):
            return self.method.mixed(found, None, 0.0, self.crystals, len(rows))
        alone, weight = self.method.weigh(given, self.crystals[rows], labels)
        return self.method.mixed(found, alone, weight, self.crystals[query], len(rows))
