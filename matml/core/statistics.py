"""Bootstrap intervals and rank correlation."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata


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
