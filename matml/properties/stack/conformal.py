"""90 % prediction intervals, conformal over families that no training stage has seen."""

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd

from matml.core.statistics import NORMAL_90, normal_half_width

LEVEL = 0.9
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Levels at which the coverage is measured; predictions come with the interval of `LEVEL`."""
FEWEST_FAMILIES = 4
"""Over fewer families a quantile says nothing of new ones."""


def normal_ratio(level: float) -> float:
    """Return the half width of a normal distribution's interval over that of its 90 % interval."""
    return normal_half_width(level) / NORMAL_90


def weighted_quantile(values: np.ndarray, weights: np.ndarray, level: float) -> float:
    """Return the smallest value below which lies at least the share `level` of the weight."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(cumulative, level)), len(values) - 1)]])


def half_widths(
    errors: pd.DataFrame, truth: Mapping[str, np.ndarray], level: float = LEVEL
) -> dict[tuple[str, str, int], float]:
    """Return the half width of intervals per (property, method, shots).

    The quantile of absolute errors over the queries of validation families, each family with the
    same weight: a new family is a draw from the families, not from the crystals (split conformal
    prediction, Vovk et al. 2005, with the family as the exchangeable unit). With as few validation
    families as there are, and the same ones choosing the method, 90 % is the nominal level: what
    the intervals really cover is measured on the test families and reported beside them.
    Where fewer than `FEWEST_FAMILIES` families allow so many shots, the width of the most shots
    that enough families allow is taken.

    Parameters
    ----------
    errors
        Output of `compare.episode_errors` for the validation families.
    """
    widths: dict[tuple[str, str, int], float] = {}
    enough: dict[tuple[str, str], float] = {}
    for key, group in errors.groupby(["property", "method", "shots"]):
        name, method, shots = cast("tuple[str, str, int]", key)
        if group["family"].nunique() < FEWEST_FAMILIES and (name, method) in enough:
            widths[(name, method, int(shots))] = enough[(name, method)]
            continue
        values, weights = [], []
        for _, family in group.groupby("family"):
            residuals = np.concatenate(
                [
                    np.abs(np.asarray(p) - truth[name][np.asarray(q)])
                    for p, q in zip(family["prediction"], family["query"], strict=True)
                ]
            )
            values.append(residuals)
            weights.append(np.full(len(residuals), 1 / len(residuals)))
        widths[(name, method, int(shots))] = weighted_quantile(
            np.concatenate(values), np.concatenate(weights), level
        )
        enough[(name, method)] = widths[(name, method, int(shots))]
    return widths


def at_shots(studied: Mapping[int, float], shots: int) -> float:
    """Return the value for any number of shots: that of the largest studied K not above it."""
    if not studied:
        return float("nan")
    return studied[max((k for k in studied if k <= shots), default=min(studied))]


def width_at(
    widths: Mapping[tuple[str, str, int], float], name: str, method: str, shots: int
) -> float:
    """Return the half width of a property and method for any number of shots."""
    return at_shots({k: w for (p, m, k), w in widths.items() if (p, m) == (name, method)}, shots)
