"""What to label next: acquisition functions, and batches of them.

All take a family's crystals, larger labels being better. `improvement` and `top` ask for good
labels, `information` for what tells most of the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from matml.gp.joint import WRITTEN_OUT
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Episode, Gaussian, Pool
from matml.screening.objectives import log_improvement, usual_goal

TOP_SHARE = 0.1
STANDING_FOR_ALL = 500
"""Crystals whose variance stands for that of more than `WRITTEN_OUT`."""
STRATEGIES = ("top", "improvement", "mean", "information")
"""`top`: probability of belonging to the family's best tenth; `improvement`: expected improvement
over the best label; `mean`: the prediction; `information`: reduction of the variance of all."""


def log_top_probability(
    mean: np.ndarray, deviation: np.ndarray, rows: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Logarithm of the probability of a label above the family's estimated 90 % quantile, [n].

    The quantile is that of the labels known and the predictions of the others.
    """
    values = mean.copy()
    values[rows] = labels
    level = np.quantile(values, 1 - TOP_SHARE)
    return np.log(np.maximum(ndtr((mean - level) / deviation), 1e-300))


def acquisition(
    strategy: str, model: Pool, rows: Sequence[int] | np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """How much each crystal's label is wanted, [n]; of those labelled it means nothing.

    Parameters
    ----------
    rows, labels
        Crystals labelled so far and their labels, turned so that larger is better.
    """
    known = np.asarray(rows, dtype=int)
    if strategy == "information":
        return _variance_reduction(model, known, labels)
    mean, deviation = model.posterior(known, labels)
    if strategy == "mean":
        return mean
    if strategy == "top":
        return log_top_probability(mean, deviation, known, labels)
    best = labels.max() if len(labels) else np.quantile(mean, 1 - TOP_SHARE)
    return log_improvement((mean - best) / deviation) + np.log(deviation)


def _variance_reduction(model: Pool, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """By how much a label of each crystal lowers the summed variance of all, [n].

    Of many crystals a random part stands for all.
    """
    if not isinstance(model, JointPool):
        _, deviation = model.posterior(rows, labels)
        return deviation
    if len(model) <= WRITTEN_OUT:
        _, covariance = model.joint(rows, labels)
        return np.square(covariance).sum(0) / (covariance.diagonal().clip(0) + model.noise)
    some = np.random.default_rng(0).choice(len(model), STANDING_FOR_ALL, replace=False)
    _, covariance = model.joint(rows, labels, some)
    _, variance, _ = model.process.predict(rows, labels, np.arange(len(model)))
    return np.square(covariance).sum(1) / (variance.numpy().clip(0) + model.noise)


def choose_batch(
    strategy: str,
    model: Pool,
    rows: Sequence[int] | np.ndarray,
    labels: np.ndarray,
    number: int,
    pool: Sequence[int] | np.ndarray | None = None,
    *,
    costs: np.ndarray | None = None,
    budget: float = np.inf,
) -> list[int]:
    """Crystals to label next, the most wanted first.

    Each is chosen as if those before it had come out as predicted (kriging believer, Ginsbourger,
    Le Riche and Carraro 2010), which keeps a batch from asking the same question twice.

    Parameters
    ----------
    pool
        Crystals that may be chosen; by default all that have no label.
    costs, budget
        Of a label of each crystal, [n], which counts by what it brings per cost (expected
        improvement per unit cost, Snoek, Larochelle and Adams 2012), and of the whole batch. `mean`
        heeds the budget only.
    """
    rows, labels = list(rows), np.asarray(labels, dtype=float)
    costs = np.ones(len(model)) if costs is None else costs
    chosen: list[int] = []
    while len(chosen) < number:
        wanted = _per_cost(strategy, acquisition(strategy, model, rows, labels), costs)
        allowed = np.full(len(wanted), pool is None)
        if pool is not None:
            allowed[np.asarray(pool, dtype=int)] = True
        allowed[rows] = False
        # tenths do not add up to the last bit
        allowed &= costs[chosen].sum() + costs <= budget * (1 + 1e-9)
        if not allowed.any():
            break
        best = int(np.argmax(np.where(allowed, wanted, -np.inf)))
        chosen.append(best)
        if len(chosen) < number:
            believed = model.posterior(rows, labels)[0][best]
            rows, labels = [*rows, best], np.append(labels, believed)
    return chosen


def _per_cost(strategy: str, wanted: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return acquisition values per unit cost, [n]; those that are logarithms stay logarithms."""
    if strategy == "mean":
        return wanted
    return wanted / costs if strategy == "information" else wanted - np.log(costs)


@dataclass(frozen=True)
class Turned(Pool):
    """A pool whose labels are turned, so that larger is better."""

    model: Pool

    def __len__(self) -> int:
        return len(self.model)

    def predict(self, episodes: Sequence[Episode]) -> list[Gaussian]:
        """As of `Pool`."""
        found = self.model.predict([replace(each, labels=-each.labels) for each in episodes])
        return [(-mean, deviation) for mean, deviation in found]


def turned(model: Pool, sign: int) -> Pool:
    """The pool of labels times `sign`, which is 1 or -1."""
    if sign == 1:
        return model
    if not isinstance(model, JointPool):
        return Turned(model)
    return model.turned()


def labels_until_found(
    choose: Callable[[list[int]], int],
    start: Sequence[int] | np.ndarray,
    wanted: Sequence[int] | np.ndarray,
) -> list[int]:
    """Numbers of labels at which each next one of the wanted crystals was found, rising.

    Parameters
    ----------
    choose
        From the crystals labelled so far to the next.
    start
        Labelled at the beginning; they count.
    """
    rows, missing = list(start), set(map(int, wanted)) - set(map(int, start))
    found = [len(rows)] * (len(wanted) - len(missing))
    while missing:
        row = choose(rows)
        rows.append(row)
        if row in missing:
            missing.remove(row)
            found.append(len(rows))
    return found


def goal_sign(property_name: str, goal: str | None = None) -> int:
    """1 where high values are wanted: by default of all but energies."""
    return 1 if (goal or usual_goal(property_name)) == "maximise" else -1
