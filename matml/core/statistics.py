"""Quantiles of the normal distribution, bootstrap intervals and rank correlation."""

from collections.abc import Callable
from dataclasses import dataclass
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


WORTH_NAMING = 0.02
"""Share of the baseline's error below which a difference is not named, however sure it is."""


@dataclass(frozen=True)
class Reduction:
    """How much lower an error is than a baseline's on the same tasks: a paired mean.

    Attributes
    ----------
    value, low, high
        Baseline's error less this one, with its 95 % interval over tasks.
    tasks
        Such as families or alloys.
    baseline
        Its error on these tasks.
    """

    value: float
    low: float
    high: float
    tasks: int
    baseline: float

    @property
    def percent(self) -> float:
        """The difference in percent of the baseline's error."""
        return 100 * self.value / self.baseline if self.baseline else 0.0

    @property
    def sign(self) -> int | None:
        """1 where the error is clearly lower, -1 where clearly higher, 0 where neither.

        Clearly: the interval excludes zero, and the difference is worth naming. None where fewer
        than `FEWEST_TASKS` tasks tell.
        """
        if self.tasks < FEWEST_TASKS or not np.isfinite([self.low, self.high]).all():
            return None
        if abs(self.percent) < 100 * WORTH_NAMING:
            return 0
        return int(self.low > 0) - int(self.high < 0)


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
