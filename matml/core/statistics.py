"""Quantiles of the normal distribution, bootstrap intervals and rank correlation."""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np


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


FEWEST_TASKS = 4
"""An interval over fewer tasks, such as families or alloys, says nothing of tasks in general."""


def sign_over_tasks(low: float | None, high: float | None, tasks: int) -> int | None:
    """Return what a paired difference over tasks shows, by its 95 % interval.

    1 where it is above zero, -1 where below, 0 where neither is certain; None where fewer than
    `FEWEST_TASKS` tasks tell.
    """
    if tasks < FEWEST_TASKS or low is None or high is None or np.isnan(low) or np.isnan(high):
        return None
    return int(low > 0) - int(high < 0)


def tidy_record(
    benchmark: str,
    setting: str,
    method: str,
    metric: str,
    values: np.ndarray,
    *,
    shots: int,
    is_default: bool,
    seed: int,
    average: Callable = np.mean,
    interval_seed: int = 0,
) -> dict[str, Any]:
    """Return a benchmark's record of one measured value, with its 95 % bootstrap interval.

    Parameters
    ----------
    values
        Of each task, such as a family; at least one.
    average
        As of `bootstrap_interval`.
    interval_seed
        Of the resampling; `seed` is only named.
    """
    low, high = bootstrap_interval(np.asarray(values), average=average, seed=interval_seed)
    return {
        "benchmark": benchmark,
        "setting": setting,
        "method": method,
        "is_default": is_default,
        "shots": int(shots),
        "metric": metric,
        "value": float(average(values)),
        "low": None if np.isnan(low) else low,
        "high": None if np.isnan(high) else high,
        "n_tasks": len(values),
        "seed": seed,
    }


def rank_correlation(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Return Spearman's correlation; NaN where one of both does not vary, which ranks nothing."""
    from scipy.stats import rankdata

    ranks = rankdata(prediction), rankdata(truth)
    if min(r.std() for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])
