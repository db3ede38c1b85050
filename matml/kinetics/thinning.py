"""Long records made short: a dilatometer's 100,000 points say no more than a few hundred.

Neighbouring points of one record share its errors (baseline, specimen temperature), so that
counting each as independent would shrink intervals to nothing. Points of one cell in temperature,
log time and measured value are averaged and count as one.
"""

import numpy as np
import pandas as pd

from matml.kinetics.measured import APART

MOST_POINTS = 300
"""Observations of an alloy above which they are thinned."""

TEMPERATURE_CELL_K = 2.0


def thin(points: pd.DataFrame, measured: str, most: int = MOST_POINTS) -> pd.DataFrame:
    """Return the observations of one alloy averaged to at most `most` cells, in their order.

    Parameters
    ----------
    points
        Observations, as in `Observations.points`; runs and ramps are kept apart.
    measured
        Column of the measured value; its cells are as even as those of log time, so that steep
        parts of a curve keep their points.
    """
    if len(points) <= most:
        return points
    # where time or temperature are no conditions, there is one cell of them
    columns = points.columns
    points = points.assign(**{n: 1.0 for n in ("time_s", "temperature_K") if n not in points})
    log_time = np.log(points["time_s"].to_numpy())
    value = log_time if measured == "time_s" else points[measured].to_numpy()
    keys = [np.round(points["temperature_K"].to_numpy() / TEMPERATURE_CELL_K)]
    if "fraction" in points:
        keys.append(points["fraction"].to_numpy())
    keys += [points[name].to_numpy() for name in APART if name in points]
    for cells in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        both = [*keys, _cell(log_time, cells), _cell(value, cells)]
        code = pd.MultiIndex.from_arrays(both).factorize()[0]
        if code.max() < most:
            break
    group = points.assign(time_s=log_time).groupby(code, sort=True)
    numbers = points.select_dtypes("number").columns.difference(["line"])
    averaged = group[numbers.tolist()].mean()
    averaged["time_s"] = np.exp(averaged["time_s"])
    first = group[[name for name in points.columns if name not in averaged]].first()
    return pd.concat([averaged, first], axis=1)[columns].iloc[:most].reset_index(drop=True)


def _cell(values: np.ndarray, cells: int) -> np.ndarray:
    """Return which of `cells` equal steps between the extremes each value is in."""
    low, high = values.min(), values.max()
    return np.floor((values - low) / ((high - low) or 1.0) * cells * (1 - 1e-12))
