"""Quantiles of the normal distribution, bootstrap intervals and rank correlation."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from scipy.stats import rankdata


def normal_half_width(level: float) -> float:
    """Return the half width of a normal distribution's interval, in standard deviations."""
    return NormalDist().inv_cdf(0.5 + level / 2)


NORMAL_90 = normal_half_width(0.9)
"""Standard deviations from the mean to either end of a normal 90 % interval."""


def bootstrap_interval(
    values: np.ndarray, *, average: Callable = np.mean, seed: int = 0, draws: int = 4000
) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean of `values` over resampled families.

    Parameters
    ----------
    average
        `np.mean`, or `np.median` for the interval of that.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(average(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)


def rank_correlation(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's correlation; NaN where one of both does not vary, which ranks nothing."""
    ranks = rankdata(prediction), rankdata(truth)
    if min(r.std() for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
