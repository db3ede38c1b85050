"""How far predictions miss in families that had no part in them: trend, intervals, offsets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matml.core.statistics import NORMAL_90
from matml.gp.sequences import Predictions
from matml.gp.stack import GPStack
from matml.gp.trend import FLAT, Trend
from matml.properties.stack.conformal import LEVEL, weighted_quantile

FEWEST_FAMILIES = 8
"""Families below which a number of labels is calibrated together with the others."""
ABOVE_HULL = 1e-3
"""eV/atom; a crystal with more is not stable."""
OUTER = 0.05
"""Share of the errors of such crystals at either end that count as others do; chosen on validation
families."""
FEWEST_ABOVE = 50
"""Labelled crystals above the hull from which it is told what energies of such crystals are."""


@dataclass(frozen=True)
class Scores:
    """What the stack, as yet without a trend, says of a family at a number of labels.

    Attributes
    ----------
    query
        Numbers of the crystals in the family, of each query in each draw, [n].
    prediction, error, deviation, weights
        Of the same, [n]; weights sum to 1.
    """

    query: np.ndarray
    prediction: np.ndarray
    error: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray

    def ratio(self, trend: Trend) -> np.ndarray:
        """Return errors over deviations, [n]."""
        return np.abs(self.error) / (self.deviation * trend.factor(self.prediction))


def score_family(
    stack: GPStack,
    predictions: Predictions,
    labels: np.ndarray,
    shots: int,
    seed: int,
    draws: int = 6,
) -> Scores | None:
    """Return the scores of a family at a number of labels; None where it has too few."""
    if len(labels) < max(2 * shots, shots + 4):
        return None
    generator, found = np.random.default_rng(seed), []
    joint = stack.joint(predictions)
    for _ in range(draws if shots else 1):
        order = generator.permutation(len(labels))
        support, query = order[:shots], order[shots:]
        mean, deviation = stack.predict(joint, support, labels[support], query)
        found.append((query, mean, mean - labels[query], deviation))
    query, prediction, error, deviation = (
        np.concatenate(part) for part in zip(*found, strict=True)
    )
    return Scores(query, prediction, error, deviation, np.full(len(query), 1 / len(query)))


def trend_of(scores: dict[int, dict[int, Scores]], families: int) -> Trend:
    """Return the trend of errors in the first families, those that were left out in turn."""
    own = [found for by in scores.values() for family, found in by.items() if family < families]
    if families < FEWEST_FAMILIES or not own:
        return FLAT
    return Trend.learn(
        np.concatenate([each.prediction for each in own]),
        np.concatenate([each.error for each in own]),
        np.concatenate([each.deviation for each in own]),
        np.concatenate([each.weights for each in own]),
        families,
    )


def scales_of(scores: dict[int, dict[int, Scores]], trend: Trend) -> dict[int, float]:
    """Return the conformal quantile of errors over deviations for each number of labels.

    Each family counts the same: a new family is a draw from the families (split conformal
    prediction, Vovk et al. 2005, with the family as the exchangeable unit). Numbers of labels with
    few families take the quantile over all positive numbers of labels together; since errors are
    in units of the deviation, which knows of the labels, they are comparable.

    Parameters
    ----------
    scores
        By number of labels and family.
    """
    ratios = {
        k: {family: (own.ratio(trend), own.weights) for family, own in found.items()}
        for k, found in scores.items()
    }
    pooled: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    for k, found in ratios.items():
        for family, own in found.items() if k else ():
            pooled.setdefault(family, []).append(own)
    together = {
        family: (
            np.concatenate([v for v, _ in own]),
            np.concatenate([w for _, w in own]) / len(own),
        )
        for family, own in pooled.items()
    }
    scales = {}
    for k, found in sorted(ratios.items()):
        enough = found if len(found) >= FEWEST_FAMILIES else together
        # where nothing can be calibrated
        scales[k] = NORMAL_90
        if len(enough) >= FEWEST_FAMILIES:
            parts = zip(*enough.values(), strict=True)
            values, weights = (np.concatenate(part) for part in parts)
            scales[k] = weighted_quantile(values, weights, LEVEL)
    return scales


def above_hull(
    scores: dict[int, Scores], hull: Sequence[np.ndarray], trend: Trend, scale: float
) -> tuple[float, float] | None:
    """Return what is to be added to energies of hypothetical crystals, and how much wider they are.

    Most labelled crystals are stable, and a crystal that is not looks like one that is: its energy
    comes out too low. None where too few labelled crystals lie above the hull.

    Parameters
    ----------
    scores
        Without labels, of the families that were left out in turn, by their numbers.
    hull
        Energy above the hull of each of these families' crystals, eV/atom, NaN where unknown.
    trend, scale
        Of deviations, and half width over deviation of the intervals without labels.
    """
    own = {i: hull[i][each.query] > ABOVE_HULL for i, each in scores.items() if i < len(hull)}
    families = [i for i, above in own.items() if above.any()]
    if len(families) < FEWEST_FAMILIES or sum(own[i].sum() for i in families) < FEWEST_ABOVE:
        return None
    error = np.concatenate([scores[i].error[own[i]] for i in families])
    deviation = np.concatenate(
        [(scores[i].deviation * trend.factor(scores[i].prediction))[own[i]] for i in families]
    )
    # some lie electronvolts above the hull: the outer errors count as the quantiles there
    offset = -float(np.clip(error, *np.quantile(error, [OUTER, 1 - OUTER])).mean())
    ratio = np.abs(error + offset) / (deviation * scale)
    return offset, max(weighted_quantile(ratio, np.ones(len(ratio)), LEVEL), 1.0)
