"""Long records made short: a dilatometer's 100,000 points say no more than a few hundred.

Neighbouring points of one record share its errors (baseline, specimen temperature), so that
counting each as independent would shrink intervals to nothing. A cell is a stretch of one record;
its points count as one, their middle value at their mean time and temperature. Where it ends
depends on where its points were taken and on how far the curve has come there on average: cells by
the measured value of each point would put the tails of the noise into cells of their own, worth as
much as the thousands in the middle.
"""

import numpy as np
import pandas as pd

from matml.kinetics.data.columns import APART, INPUTS

MOST_POINTS = 300
"""Observations of an alloy above which they are averaged."""

TEMPERATURE_CELL_K = 2.0
RATE_CELL = 0.1
"""Difference in ln of the heating rate by which ramps without the name of a run are told apart."""

BINS = 300
"""Steps in which a record is looked at to see where its curve is steep."""


def downsample(
    points: pd.DataFrame, measured: str, moving: np.ndarray, most: int = MOST_POINTS
) -> pd.DataFrame:
    """Return the observations of one alloy averaged to at most `most` cells, in their order.

    Where there are more records than that (runs, temperatures), each is averaged to one.

    Parameters
    ----------
    points
        Observations, as in `Observations.points`; runs and ramps are kept apart.
    measured
        Column of the measured value; half of the cells follow it, so that steep parts of a curve
        keep their points.
    moving
        Which observations lie on a ramp or path [N] (`columns.on_history`).
    """
    if len(points) <= most:
        return points
    along, value = _curve(points, measured, moving)
    record = _records(points, moving, over_temperature=measured == "time_s")
    cell = _cells(record, along, value, most)
    # a mean lies on a ramp or path in time itself, and on a curve of a hold in its logarithm
    kept = points
    if "time_s" in points:
        time = points["time_s"].to_numpy(float)
        kept = points.assign(time_s=np.where(moving, time, np.log(time)), moving=moving)
    group = kept.groupby(cell, sort=False)
    numbers = points.select_dtypes("number").columns.difference(["line", "fraction", *INPUTS])
    averaged = group[numbers.tolist()].mean()
    # noise that was cut off at fractions of 0 and 1 moves a mean but no median, nor does a spike
    averaged[measured] = group[measured].median()
    if "time_s" in points:
        time, moved = averaged["time_s"].to_numpy(), group["moving"].first().to_numpy()
        averaged["time_s"] = np.where(moved, time, np.exp(np.where(moved, 0.0, time)))
    first = group[[name for name in points.columns if name not in averaged]].first()
    return pd.concat([averaged, first], axis=1)[points.columns].reset_index(drop=True)


def _curve(
    points: pd.DataFrame, measured: str, moving: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return what a record runs over and what was measured, each [N].

    A hold runs over the logarithm of time, a ramp or path over time itself.
    """
    if measured == "time_s":
        return points["temperature_K"].to_numpy(float), np.log(points["time_s"].to_numpy(float))
    value = points[measured].to_numpy(float)
    if "time_s" in points:
        time = points["time_s"].to_numpy(float)
        decades = np.log(time)
        longest = max(np.ptp(time[moving]), 1e-12) if moving.any() else 1.0
        return np.where(moving, time / longest * (np.ptp(decades) or 1.0), decades), value
    if "temperature_K" in points:
        return points["temperature_K"].to_numpy(float), value
    return np.zeros(len(points)), value


def _records(points: pd.DataFrame, moving: np.ndarray, *, over_temperature: bool) -> np.ndarray:
    """Return the number of each observation's record, from 0 in the order of the rows [N]."""
    keys: dict[str, pd.Series | np.ndarray] = {
        name: points[name] for name in ("fraction", *APART) if name in points
    }
    if "temperature_K" in points and "time_s" in points and not over_temperature:
        kelvin = points["temperature_K"].to_numpy(float)
        condition = np.round(kelvin / TEMPERATURE_CELL_K)
        if "start_temperature_K" in points:
            start = points["start_temperature_K"].to_numpy(float)
            keys["start_temperature_K"] = np.where(moving, start, 0.0)
            rate = np.abs(kelvin - start) / points["time_s"].to_numpy(float)
            rate = np.round(np.log(np.where(moving, rate, 1.0).clip(1e-12)) / RATE_CELL)
            condition = np.where(moving, rate, condition)
        named = np.zeros(len(points), dtype=bool)
        for name in ("run", "path"):
            if name in points:
                named |= (points[name] != "").to_numpy()
        keys["condition"] = np.where(moving & named, 0.0, condition)
    if not keys:
        return np.zeros(len(points), dtype=int)
    table = pd.DataFrame(keys, index=points.index)
    return table.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()


def _cells(record: np.ndarray, along: np.ndarray, value: np.ndarray, most: int) -> np.ndarray:
    """Return the number of each observation's cell: stretches of records, `most` in all [N]."""
    records = int(record.max()) + 1
    if records >= most:
        return record
    order = np.lexsort((along, record))
    parts = np.split(order, np.flatnonzero(np.diff(record[order])) + 1)
    widths = (np.ptp(along) or 1.0, np.ptp(value) or 1.0)
    covered = [_covered(along[part] / widths[0], value[part] / widths[1]) for part in parts]
    total = sum(position[-1] for position in covered) or 1.0
    cell, first = np.empty(len(record), dtype=int), 0
    for part, position in zip(parts, covered, strict=True):
        count = 1 + int((most - records) * position[-1] / total)
        step = position / (position[-1] or 1.0) * count
        cell[part] = first + np.minimum(step.astype(int), count - 1)
        first += count
    return cell


def _covered(along: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return how far a record has come until each of its points, along and in its mean value [N].

    `along` rises. Changes of the mean count as far as they exceed what noise makes of them.
    """
    low, length = along[0], along[-1] - along[0]
    if length == 0:
        return np.zeros(len(along))
    bins = np.minimum(((along - low) / length * BINS).astype(int), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    used = count > 0
    count, centre = count[used], np.bincount(bins, along, BINS)[used] / count[used]
    mean = np.bincount(bins, value, BINS)[used] / count
    noise = 1.4826 * np.median(np.abs(np.diff(value))) / np.sqrt(2)
    by_chance = 2 * noise * np.sqrt(1 / count[1:] + 1 / count[:-1])
    change = np.maximum(np.abs(np.diff(mean)) - by_chance, 0.0)
    return along - low + np.interp(along, centre, np.r_[0.0, np.cumsum(change)])
