"""Records of instruments made observations: a dilatometer's length, a calorimeter's heat flow.

A record is one specimen heated or cooled at a constant rate (a *ramp*) or held at a temperature
(a *hold*). What it measured becomes a fraction by `signals`; every baseline that this rests on is
returned with it, since the fractions are only as good as these lines.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError, reading
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.instruments.signals import baseline, lever_rule, partial_area

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}

STEADY_HOLD_K = 5.0
"""How far a hold may stray from its mean temperature."""

STEADY_RAMP = 0.03
"""How far a ramp may stray from a straight line, in its span of temperature; at least 2 K."""

LARGEST = 1e30
"""No instrument writes larger numbers but for an error, and their squares are still numbers."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Record:
    """A record, in SI units but for the signal.

    Attributes
    ----------
    temperature_K, time_s, signal
        Each [N]; the times rise.
    dropped
        Rows left out since a cell was empty, or no number that an instrument writes.
    """

    path: Path
    temperature_K: np.ndarray
    time_s: np.ndarray
    signal: np.ndarray
    dropped: int

    def between(self, start_s: float, end_s: float) -> "Record":
        """Return the part between two times.

        Raises
        ------
        MatmlError
            With fewer than ten rows there.
        """
        inside = (self.time_s >= start_s) & (self.time_s <= end_s)
        if inside.sum() < 10:
            raise MatmlError(
                f"{self.path}: {int(inside.sum())} row(s) between {start_s:g} and {end_s:g} s of "
                f"its {self.time_s[0]:g} to {self.time_s[-1]:g} s; at least 10 are needed"
            )
        parts = self.temperature_K[inside], self.time_s[inside], self.signal[inside]
        return Record(self.path, *parts, self.dropped)


def read_record(
    path: Path,
    columns: tuple[str, str, str],
    temperature_unit: str,
    time_unit: str,
    separator: str | None = None,
    decimal: str = ".",
    skip: int = 0,
) -> Record:
    """Return a record from a text table with a header.

    Parameters
    ----------
    columns
        Names of the columns of temperature, time and signal.
    temperature_unit
        "C" or "K".
    time_unit
        "s", "min" or "h".
    separator, decimal, skip
        Of the table; without a separator it is guessed. Lines to skip before the header.

    Raises
    ------
    MatmlError
        Where the file or a column is missing, most rows hold no numbers, or times do not rise.
    """
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give a text table of a record")
    with reading(path, "look at --separator and --skip-lines"):
        table = pd.read_csv(
            path,
            sep=separator,
            engine="c" if separator else "python",
            skiprows=skip,
            dtype=str,
            encoding="utf-8-sig",
            encoding_errors="replace",
        )
    table.columns = [str(name).strip() for name in table.columns]
    parts = []
    for name in columns:
        if name not in table:
            raise MatmlError(
                f"{path}: column {name!r} is missing; there are {', '.join(table.columns)} (see "
                "--separator, --skip-lines)"
            )
        text = table[name].str.strip().str.replace(decimal, ".", regex=False)
        parts.append(pd.to_numeric(text, errors="coerce").to_numpy(float))
    good = (np.abs(np.stack(parts)) < LARGEST).all(0)
    if good.mean() < 0.5 or good.sum() < 10:
        first = int(np.flatnonzero(~good)[0]) if not good.all() else 0
        found = ", ".join(repr(table[name].iloc[first]) for name in columns) if len(table) else ""
        raise MatmlError(
            f"{path}: only {int(good.sum())} of {len(good)} rows hold three numbers; the first "
            f"without: line {first + skip + 2} ({found}); a decimal comma? see --decimal"
        )
    temperature, time, signal = (part[good] for part in parts)
    time = time * SECONDS[time_unit]
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        line = int(np.flatnonzero(good)[back[0] + 1]) + skip + 2
        raise MatmlError(
            f"{path}: line {line}: the time {time[back[0] + 1]:g} s does not rise; several runs in "
            "one file? give a file each"
        )
    kelvin = temperature + (ZERO_CELSIUS if temperature_unit == "C" else 0.0)
    if kelvin.min() <= 0 or kelvin.max() > 3500:
        raise MatmlError(
            f"{path}: temperatures from {kelvin.min():g} to {kelvin.max():g} K: look at "
            "--temperature-unit and --temperature-column"
        )
    return Record(path, kelvin, time, signal, int((~good).sum()))


def steady_rate(record: Record, start_K: float, end_K: float) -> tuple[float, Record]:
    """Return the rate in K/s of a ramp between two temperatures, and that part of the record.

    Raises
    ------
    MatmlError
        Where the record does not pass them, or not at a constant rate.
    """
    part = passage(record, start_K, end_K)
    rate, at = np.polyfit(part.time_s, part.temperature_K, 1)
    stray = float(np.abs(part.temperature_K - at - rate * part.time_s).max())
    if stray > max(2.0, STEADY_RAMP * abs(end_K - start_K)):
        raise MatmlError(
            f"{record.path}: between {start_K:.1f} and {end_K:.1f} K the temperature strays by "
            f"{stray:.1f} K from a constant rate of {rate:.3g} K/s; narrow the ranges, "
            "or follow the record's own temperatures: --own-path"
        )
    return float(rate), part


def passage(record: Record, start_K: float, end_K: float) -> Record:
    """Return the part of a record from when it passes one temperature until it passes another.

    Raises
    ------
    MatmlError
        Where it does not.
    """
    heating = end_K > start_K
    passed = record.temperature_K >= start_K if heating else record.temperature_K <= start_K
    there = record.temperature_K >= end_K if heating else record.temperature_K <= end_K
    first = int(passed.argmax())
    last = first + int(there[first:].argmax())
    if not passed.any() or not there[first:].any() or last <= first:
        raise MatmlError(
            f"{record.path}: does not pass from {start_K:.1f} to {end_K:.1f} K: it runs from "
            f"{record.temperature_K[0]:.1f} to {record.temperature_K[-1]:.1f} K"
        )
    return record.between(record.time_s[first], record.time_s[last])


def hold_temperature(record: Record) -> float:
    """Return the mean temperature in K of a hold.

    Raises
    ------
    MatmlError
        Where it is not held.
    """
    mean = float(record.temperature_K.mean())
    stray = float(np.abs(record.temperature_K - mean).max())
    if stray > STEADY_HOLD_K:
        raise MatmlError(
            f"{record.path}: the temperature strays by {stray:.1f} K from its mean {mean:.1f} K "
            "during the hold: give later or earlier times in --hold, or follow the record's own "
            "temperatures: --own-path"
        )
    return mean


def dilatometer_ramp(
    record: Record, parent_K: Range, product_K: Range, own_path: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by the lever rule, and the baselines they rest on.

    Parameters
    ----------
    parent_K, product_K
        Temperatures between which the length is that of the parent (product) alone. The reaction
        is counted from the end of the parent's.
    own_path
        Take the record's own temperatures, at any rate, for the history; here and below.
    """
    heating = np.mean(product_K) > np.mean(parent_K)
    start, end = (parent_K[1], product_K[0]) if heating else (parent_K[0], product_K[1])
    if (end <= start) if heating else (end >= start):
        raise MatmlError(
            f"{record.path}: the ranges of parent ({parent_K[0]:g} to {parent_K[1]:g} K) and "
            f"product ({product_K[0]:g} to {product_K[1]:g} K) overlap"
        )
    part, rate = _passed(record, start, end, own_path)
    parent = baseline(record.temperature_K, record.signal, *parent_K)
    product = baseline(record.temperature_K, record.signal, *product_K)
    fraction = lever_rule(part.temperature_K, part.signal, parent, product)
    stated = {
        "parent_baseline": _line(parent, parent_K),
        "product_baseline": _line(product, product_K),
    }
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def dilatometer_hold(
    record: Record,
    hold_s: Range,
    parent_K: Range | None,
    product_K: Range | None,
    own_path: bool = False,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by the lever rule, and the lines they rest on.

    Parameters
    ----------
    hold_s
        Times between which the specimen is held; the reaction is counted from the first.
    parent_K, product_K
        Temperatures before and after the hold whose lengths are the baselines. Without them the
        length at the start is the parent's and the length at the end the product's, so that the
        reaction is taken to begin and to end with the hold.
    """
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    few = max(1, len(part.signal) // 100)
    lines: list[tuple[float, float]] = []
    stated: dict[str, Any] = {}
    ends = (part.signal[:few].mean(), part.signal[-few:].mean())
    outside = (record.time_s < hold_s[0], record.time_s > hold_s[1])
    for name, given, level, where in zip(
        ("parent", "product"), (parent_K, product_K), ends, outside, strict=True
    ):
        if given is None:
            lines.append((float(level), 0.0))
            which = "start" if name == "parent" else "end"
            stated[f"{name}_baseline"] = {
                "length": float(level),
                "from": f"mean of {few} row(s) at the {which} of the hold",
            }
        else:
            line = baseline(record.temperature_K[where], record.signal[where], *given)
            lines.append(line)
            stated[f"{name}_baseline"] = _line(line, given)
    parent, product = lines
    fraction = lever_rule(part.temperature_K, part.signal, parent, product)
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | stated


def calorimeter_ramp(
    record: Record, peak_K: Range, own_path: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by partial areas between the feet of the peak.

    Parameters
    ----------
    peak_K
        Temperatures of the feet; the reaction is counted from the first that is passed.
    """
    rising = record.temperature_K[-1] > record.temperature_K[0]
    start, end = peak_K if rising else peak_K[::-1]
    part, rate = _passed(record, start, end, own_path)
    feet = float(part.time_s[0]), float(part.time_s[-1])
    fraction = partial_area(part.time_s, part.signal, *feet)
    stated = _feet(part, feet) | {"peak_K": [start, end]}
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def calorimeter_hold(
    record: Record, hold_s: Range, own_path: bool = False
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by partial areas between its ends."""
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    feet = float(part.time_s[0]), float(part.time_s[-1])
    fraction = partial_area(part.time_s, part.signal, *feet)
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | _feet(part, feet)


def observations_of(
    table: pd.DataFrame, alloy: str, run: str, most: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return one record's observations for the tidy CSV, at most so many, and what was counted.

    Rows outside the baselines, and those before anything or after everything has happened, are
    left out. The others are averaged in equal steps of the fraction: within one, the curve is
    nearly straight, and neighbouring rows share their errors.
    """
    inside = table["fraction_transformed"].notna() & (table["time_s"] > 0)
    kept = table[inside]
    value = kept["fraction_transformed"].to_numpy()
    busy = np.flatnonzero((value > 0.005) & (value < 0.995))
    if len(busy) < 5:
        raise MatmlError(
            f"{run}: {len(busy)} row(s) with a fraction between 0.005 and 0.995; look at the "
            "ranges of the baselines or of the peak"
        )
    kept = kept.iloc[busy[0] : busy[-1] + 1].assign(log_time=lambda rows: np.log(rows["time_s"]))
    step = np.floor(kept["fraction_transformed"] * most * (1 - 1e-9))
    thinned = kept.groupby(step).mean().reset_index(drop=True)
    thinned["time_s"] = np.exp(thinned["log_time"])
    shown = pd.DataFrame({"alloy": alloy, "run": run}, index=range(len(thinned)))
    shown["temperature_C"] = (thinned["temperature_K"] - ZERO_CELSIUS).round(3)
    if "start_temperature_K" in thinned:
        shown["start_temperature_C"] = (thinned["start_temperature_K"] - ZERO_CELSIUS).round(3)
    else:
        shown["start_temperature_C"] = np.nan
    shown["time_s"] = thinned["time_s"].map(lambda value: float(f"{value:.6g}"))
    shown["fraction_transformed"] = thinned["fraction_transformed"].round(5)
    counts = {
        "rows": len(table),
        "outside_baselines": int(table["fraction_transformed"].isna().sum()),
        "observations": len(shown),
    }
    return shown, counts


def _passed(
    record: Record, start_K: float, end_K: float, own_path: bool
) -> tuple[Record, float | None]:
    """Return the part of a record between two temperatures, and its constant rate if it has one."""
    if own_path:
        return passage(record, start_K, end_K), None
    rate, part = steady_rate(record, start_K, end_K)
    return part, rate


def _ramp(part: Record, start_K: float, rate: float | None, fraction: np.ndarray) -> pd.DataFrame:
    """Return a ramp's rows; times follow from the rate, since temperature is what counts.

    Without a rate the record's own times and temperatures are a path's.
    """
    if rate is None:
        return _hold(part, part.temperature_K, float(part.time_s[0]), fraction)
    return pd.DataFrame(
        {
            "temperature_K": part.temperature_K,
            "start_temperature_K": start_K,
            "time_s": (part.temperature_K - start_K) / rate,
            "fraction_transformed": fraction,
        }
    )


def _hold(
    part: Record, kelvin: float | np.ndarray | None, start_s: float, fraction: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "temperature_K": part.temperature_K if kelvin is None else kelvin,
            "time_s": part.time_s - start_s,
            "fraction_transformed": fraction,
        }
    )


def _line(line: tuple[float, float], given: Range) -> dict[str, Any]:
    return {
        "intercept_at_0_K": line[0],
        "slope_per_K": line[1],
        "fitted_between_K": list(given),
    }


def _feet(part: Record, feet: Range) -> dict[str, Any]:
    levels = np.interp(feet, part.time_s, part.signal)
    above = part.signal - np.interp(part.time_s, feet, levels)
    return {
        "baseline": {
            "straight_between_s": list(feet),
            "levels": levels.tolist(),
        },
        "peak_area_signal_s": float(((above[1:] + above[:-1]) / 2 * np.diff(part.time_s)).sum()),
    }
