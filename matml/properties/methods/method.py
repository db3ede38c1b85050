"""What every method offers: adapt to a support, then predict.

A method has learned from training families all that it will; labels of a new family *adapt* it.
Three verbs make a method: `view` takes of crystals what no label changes, `fit` learns from the
view and the labels of a support, `predict` answers for another view. `Method.adapt` joins them for
crystals that are not known yet; `Method.over` for a pool of crystals that is adapted to again and
again, as in evaluation and in active learning. All values are standardised.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.properties.baselines.tabular import Baseline
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.networks.ensemble import Member
from matml.properties.stack.conformal import at_shots
from matml.properties.stack.fit import StackedPredictor

Gaussian = tuple[np.ndarray, np.ndarray]
"""Mean and deviation of the labels of n crystals, each [n]."""
View = TypeVar("View", bound="Rows")
State = TypeVar("State")


class Rows(Protocol):
    """What a method takes of crystals, from which rows can be chosen."""

    def __getitem__(self, rows: np.ndarray, /) -> Any:
        """Return the same of some of the crystals."""


@dataclass(frozen=True)
class Episode:
    """A few-shot task among a pool of crystals.

    Attributes
    ----------
    support, query
        Row numbers, [k] and [m].
    labels
        Of the support, [k].
    """

    support: np.ndarray
    labels: np.ndarray
    query: np.ndarray


@dataclass(frozen=True)
class FineTuning:
    """Settings of fine-tuning: Adam's learning rate, and its steps."""

    learning_rate: float
    steps: int

    @property
    def name(self) -> str:
        """Name of the variant in tables of predictions."""
        return f"fine_tuned rate={self.learning_rate:g} steps={self.steps}"


class LabelsAlone(Protocol):
    """What some labels say of other crystals, whatever the model learned of their property."""

    @property
    def evidence(self) -> float:
        """Logarithm of the labels' probability, under flat priors of their mean and scale."""

    def __len__(self) -> int:
        """Return the number of labels."""

    def predict(self, query: EncodedCrystals, /) -> Gaussian:
        """Return means and half widths of 90 % intervals, each [m]."""


def _not_fitted(*_: str) -> Any:
    raise MatmlError("the method needs what was not fitted")


@dataclass(frozen=True)
class Trained:
    """What was trained for one property, of which methods take what they need.

    Attributes
    ----------
    column
        The property's number among the networks' outputs.
    members
        Those by which the crystals are encoded, in the same order.
    fine_tuning
        Variants of fine-tuning; a predictor has one.
    widths
        Half widths of 90 % intervals by method and number of labels, where they are known.
    baseline, stack
        Return a fitted baseline by its kind, and the fitted stack.
    labels_alone
        Takes crystals and labels; where it is there, the stack can be outvoted by it.
    """

    column: int
    members: Sequence[Member] = ()
    device: str = "cpu"
    fine_tuning: Sequence[FineTuning] = ()
    widths: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    baseline: Callable[[str], Baseline] = _not_fitted
    stack: Callable[[], StackedPredictor] = _not_fitted
    labels_alone: Callable[[EncodedCrystals, np.ndarray], LabelsAlone] | None = None


class Method(ABC, Generic[View, State]):
    """One way to predict a property of a family.

    Parameters
    ----------
    trained
        What it is made of.

    Attributes
    ----------
    inputs
        Columns of the crystals' table that it takes beside the crystals.
    """

    inputs: tuple[str, ...] = ()

    def __init__(self, name: str, trained: Trained) -> None:
        self.name, self.column, self.device = name, trained.column, trained.device
        self.widths = trained.widths.get(name, {})

    @abstractmethod
    def view(self, crystals: EncodedCrystals) -> View:
        """Return what the method takes of crystals, whatever the labels."""

    @abstractmethod
    def fit(self, support: View, labels: np.ndarray) -> State:
        """Return what a support and its labels, [k], tell; k may be 0."""

    @abstractmethod
    def predict(self, state: State, query: View) -> tuple[np.ndarray, np.ndarray | None]:
        """Return mean and, where the method says it, deviation of labels at a query, [m]."""

    def half_width(
        self, deviation: np.ndarray | None, shots: int, distance: np.ndarray
    ) -> np.ndarray:
        """Return half widths of 90 % intervals, [m]; NaN where none was calibrated.

        Farther than the families that set the width, errors are larger: it grows in proportion.

        Parameters
        ----------
        deviation
            As `predict` gave it; by default it tells nothing that is calibrated.
        distance
            To what the model knows, [m].
        """
        return at_shots(self.widths, shots) * np.maximum(distance, 1)

    def adapt(self, support: EncodedCrystals, labels: np.ndarray) -> "Adapted":
        """Return the method adapted to a support and its labels, [k]; k may be 0."""
        return Adapted(self, self.fit(self.view(support), labels), len(labels))

    def over(self, crystals: EncodedCrystals) -> "Pool":
        """Return the method over a pool of crystals of one family."""
        return ViewedPool(self, self.view(crystals), crystals.distance)

    def predict_episodes(
        self, crystals: EncodedCrystals, episodes: Sequence[Episode]
    ) -> dict[str, list[np.ndarray]]:
        """Return the means in episodes of a pool: of the method, or of each variant of it."""
        return {self.name: [mean for mean, _ in self.over(crystals).predict(episodes)]}


@dataclass(frozen=True)
class Adapted(Generic[View, State]):
    """A method adapted to a support."""

    method: Method[View, State]
    state: State
    shots: int

    def predict(self, query: EncodedCrystals) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions of other crystals and half widths of 90 % intervals, each [m]."""
        mean, deviation = self.method.predict(self.state, self.method.view(query))
        return mean, self.method.half_width(deviation, self.shots, query.distance)


class Pool(ABC):
    """A method over a pool of crystals of one family."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of crystals."""

    @abstractmethod
    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """Return mean and deviation of a label of each crystal of each episode's query."""

    def posterior(self, rows: Sequence[int] | np.ndarray, labels: np.ndarray) -> Gaussian:
        """Return mean and deviation of a label of each crystal, given those of some `rows`."""
        support, labels = np.asarray(rows, dtype=int), np.asarray(labels, dtype=float)
        (found,) = self.predict([Episode(support, labels, np.arange(len(self)))])
        return found


@dataclass(frozen=True)
class ViewedPool(Pool, Generic[View, State]):
    """A pool whose view was taken once; the deviation is that of the interval if no other is."""

    method: Method[View, State]
    view: View
    distance: np.ndarray

    def __len__(self) -> int:
        return len(self.distance)

    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """As of `Pool`."""
        found = []
        for each in episodes:
            state = self.method.fit(self.view[each.support], each.labels)
            mean, deviation = self.method.predict(state, self.view[each.query])
            if deviation is None:
                distance = self.distance[each.query]
                deviation = self.method.half_width(None, len(each.labels), distance) / NORMAL_90
            found.append((mean, deviation))
        return found
