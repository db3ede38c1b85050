"""Records of instruments made observations: a dilatometer's length, a calorimeter's heat flow.

A record is one specimen heated or cooled at a constant rate (a *ramp*) or held at a temperature
(a *hold*). What it measured becomes a fraction by `signals`; every baseline that this rests on is
returned with it, since the fractions are only as good as these lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.kinetics.data.columns import HOTTEST_K
from matml.kinetics.data.units import TEMPERATURES, TIMES, ZERO_CELSIUS, Unit
from matml.kinetics.instruments.export import (
    FEWEST,
    Column,
    Export,
    over_midnight,
    read_export,
    runs_of,
    spread,
    unit_among,
)
from matml.kinetics.instruments.segments import COOLING, HEATING, HOLD, Segment, segments_of
from matml.kinetics.instruments.signals import (
    CARBON_SOURCE,
    baseline,
    ferrite_lever,
    lever_rule,
    partial_area,
    stages,
)

COLDEST_K = 77.0
"""Dilatometers are cooled with liquid nitrogen."""
STEADY_HOLD_K = 5.0
"""How far a hold may stray from its mean temperature."""

STEADY_RAMP = 0.03
"""How far a ramp may stray from a straight line, in its span of temperature; at least 2 K."""

UNFINISHED = 0.02
"""Part of all change in the last tenth of a hold from which on it is said to go on."""

ROOM_BEHIND = 0.02
"""Part of a peak's time that a record must go on behind it, to show that it had ended."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Record:
    """A record of one run, in SI units but for the signal.

    Attributes
    ----------
    name
        Of the file, and of the run where there are several.
    temperature_K, time_s, signal
        Each [N]; the times rise.
    temperature_unit, time_unit
        Of the file.
    columns
        Temperature, time and signal, as the file calls them.
    dropped
        Rows left out since a cell was empty, or no number that an instrument writes.
    notes
        What was understood or looks wrong, one sentence each.
    segment
        The only rows that are looked at, where one was chosen.
    """

    path: Path
    name: str
    temperature_K: np.ndarray
    time_s: np.ndarray
    signal: np.ndarray
    temperature_unit: Unit
    time_unit: Unit
    columns: tuple[Column, Column, Column]
    dropped: int
    notes: list[str]
    segment: Segment | None = None

    @cached_property
    def segments(self) -> list[Segment]:
        """Heating, holds and cooling, in their order."""
        return segments_of(self.time_s, self.temperature_K)

    def shown(self, kelvin: float) -> str:
        """Return a temperature in the unit of the file."""
        unit = self.temperature_unit
        return f"{(kelvin - unit.offset) / unit.factor:.5g} {unit.name}"

    def told(self, segment: Segment) -> str:
        """Return a segment in words."""
        number = self.segments.index(segment) + 1
        first, last = self.temperature_K[segment.first], self.temperature_K[segment.last]
        if segment.kind == HOLD:
            mean = float(self.temperature_K[segment.rows].mean())
            duration = self.time_s[segment.last] - self.time_s[segment.first]
            return f"{number} hold at {self.shown(mean)} for {duration:.4g} s"
        return f"{number} {segment.kind} {self.shown(first)} to {self.shown(last)}"

    def all_told(self) -> str:
        """Return all segments in words."""
        return "; ".join(map(self.told, self.segments))

    def with_segment(self, chosen: str) -> "Record":
        """Return the record with the segment that is given by its number or its kind.

        Raises
        ------
        MatmlError
            Where it is none, or not one.
        """
        fit = [
            segment
            for number, segment in enumerate(self.segments, 1)
            if chosen in (str(number), segment.kind)
        ]
        if len(fit) != 1:
            what = "is none of" if not fit else "fits several of"
            raise MatmlError(
                f"{self.path}: --segment {chosen} {what} its segments: {self.all_told()}; give "
                "the number of one"
            )
        return replace(self, segment=fit[0])

    def part(self, rows: slice | np.ndarray) -> "Record":
        """Return the record of some rows."""
        return replace(
            self,
            temperature_K=self.temperature_K[rows],
            time_s=self.time_s[rows],
            signal=self.signal[rows],
            segment=None,
        )

    def between(self, start_s: float, end_s: float) -> "Record":
        """Return the part between two times.

        Raises
        ------
        MatmlError
            With fewer than ten rows there.
        """
        inside = (self.time_s >= start_s) & (self.time_s <= end_s)
        if inside.sum() < FEWEST:
            raise MatmlError(
                f"{self.path}: {int(inside.sum())} row(s) between {start_s:g} and {end_s:g} s of "
                f"its {self.time_s[0]:g} to {self.time_s[-1]:g} s; at least {FEWEST} are needed"
            )
        return self.part(inside)


def read_records(
    path: Path,
    role: str,
    columns: tuple[str | None, str | None, str | None] = (None, None, None),
    temperature_unit: str | None = None,
    time_unit: str | None = None,
    **reading: Any,
) -> list[Record]:
    """Return the runs of an instrument's file.

    Parameters
    ----------
    role
        Of the signal: "length" or "heat_flow".
    columns
        Names of the columns of temperature, time and signal; None: by what they are called.
    temperature_unit, time_unit
        Where the file names none.
    reading
        Of `read_export`.

    Raises
    ------
    MatmlError
        Where the file or a column is missing, a unit is not known, most rows hold no numbers, or
        times do not rise.
    """
    return records_of(read_export(path, **reading), role, columns, temperature_unit, time_unit)


def records_of(
    export: Export,
    role: str,
    columns: tuple[str | None, str | None, str | None] = (None, None, None),
    temperature_unit: str | None = None,
    time_unit: str | None = None,
) -> list[Record]:
    """Return the runs of an export; as `read_records`."""
    path = export.path
    places = [
        export.place(what, name)
        for what, name in zip(("temperature", "time", role), columns, strict=True)
    ]
    kelvin, second, signal = (export.columns[place] for place in places)
    degree = _unit(export, kelvin, TEMPERATURES, temperature_unit, "--temperature-unit C or K")
    clock = _unit(export, second, TIMES, time_unit, "--time-unit s, min or h")
    used = export.numbers[:, places]
    good = np.isfinite(used).all(1)
    if good.mean() < 0.5 or good.sum() < FEWEST:
        first = int(np.flatnonzero(~good)[0]) if not good.all() else 0
        lacking = ", ".join(
            repr(export.columns[place].name)
            for place, number in zip(places, used[first], strict=True)
            if number != number
        )
        raise MatmlError(
            f"{path}: only {int(good.sum())} of {len(good)} rows hold three numbers; the first "
            f"without: line {export.lines[first]}, in {lacking or 'none'}; a decimal comma? see "
            "--decimal"
        )
    temperature, time, value = used[good].T
    temperature = degree.usual(temperature)
    if export.clock[places[1]]:
        time = over_midnight(time)
    time = clock.usual(time)
    if temperature.min() < COLDEST_K or temperature.max() > HOTTEST_K:
        raise MatmlError(
            f"{path}: temperatures from {temperature.min():g} to {temperature.max():g} K: look at "
            "--temperature-unit and --temperature-column"
        )
    lines, records = export.lines[good], []
    runs = runs_of(time)
    for number, rows in enumerate(runs, 1):
        if rows.stop - rows.start < FEWEST:
            fall = rows.start if rows.start else rows.stop
            raise MatmlError(
                f"{path}: line {lines[fall]}: the time {time[fall]:g} s does not rise from "
                f"{time[fall - 1]:g} s before it, and a run of fewer than {FEWEST} rows is none; "
                "correct the clock"
            )
        notes, own = list(export.notes), time[rows]
        if repeated := int((np.diff(own) == 0).sum()):
            notes.append(f"{repeated} time stamp(s) repeat: their rows are spread evenly over them")
        if own[0] == own[-1]:
            raise MatmlError(f"{path}: line {lines[rows.start]}: the time never rises")
        records.append(
            Record(
                path,
                path.stem if len(runs) == 1 else f"{path.stem}-{number}",
                temperature[rows],
                spread(own),
                value[rows],
                degree,
                clock,
                (kelvin, second, signal),
                int((~good).sum()) if number == 1 else 0,
                notes,
            )
        )
    return records


def _unit(
    export: Export, column: Column, units: Sequence[Unit], given: str | None, option: str
) -> Unit:
    """Return the unit of a column: what the file says, else what is given."""
    said = unit_among(column.unit, units)
    if units is TIMES and export.clock[export.columns.index(column)]:
        said = TIMES[0]
    named = unit_among(given, units) if given else None
    if said and named and said != named:
        raise MatmlError(
            f"{export.path}: column {column.name!r} is in {said.name} by its header, not in "
            f"{given}: leave {option.split()[0]} out, or correct the header"
        )
    if not (unit := said or named):
        raise MatmlError(
            f"{export.path}: column {column.name!r} does not say its unit: give {option}"
        )
    return unit


def ramp_segment(record: Record, *ways: Range) -> tuple[Segment, Range]:
    """Return the segment that passes from one temperature to another, one way or another, and how.

    The one that was chosen, else the only one.

    Raises
    ------
    MatmlError
        Where none passes, or several.
    """
    fit = []
    for segment in [record.segment] if record.segment else record.segments:
        own = record.temperature_K[segment.rows]
        for start, end in ways:
            kind = HEATING if end > start else COOLING
            if (
                segment.kind == kind
                and own.min() <= min(start, end) <= max(start, end) <= own.max()
            ):
                fit.append((segment, (start, end)))
    first, last = map(record.shown, ways[0])
    if not fit:
        there = record.told(record.segment) + " was chosen" if record.segment else record.all_told()
        raise MatmlError(f"{record.path}: does not pass from {first} to {last}: {there}")
    if len(fit) > 1:
        several = "; ".join(record.told(segment) for segment, _ in fit)
        raise MatmlError(
            f"{record.path}: passes between {first} and {last} {len(fit)} times ({several}): "
            "choose one by --segment NUMBER"
        )
    taken = fit[0]
    if len(record.segments) > 1 and not record.segment:
        record.notes.append(f"of {len(record.segments)} segments, {record.told(taken[0])} is taken")
    return taken


def hold_times(record: Record, hold_s: Range | None) -> Range:
    """Return the times of a hold: those given, else of the hold that was chosen.

    Raises
    ------
    MatmlError
        Where none was.
    """
    if hold_s is not None:
        return hold_s
    held = record.segment
    if held is None or held.kind != HOLD:
        raise MatmlError(
            f"{record.path}: give --hold START END, or the --segment of a hold: {record.all_told()}"
        )
    return float(record.time_s[held.first]), float(record.time_s[held.last])


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
            f"{record.path}: does not pass from {record.shown(start_K)} to {record.shown(end_K)}: "
            f"it runs from {record.shown(record.temperature_K[0])} to "
            f"{record.shown(record.temperature_K[-1])}"
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
    record: Record,
    parent_K: Range,
    product_K: Range,
    own_path: bool = False,
    carbon_wt_pct: float | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by the lever rule, and the baselines they rest on.

    Parameters
    ----------
    parent_K, product_K
        Temperatures between which the length is that of the parent (product) alone. The reaction
        is counted from the end of the parent's.
    own_path
        Take the record's own temperatures, at any rate, for the history; here and below.
    carbon_wt_pct
        Of a steel whose ferrite leaves all carbon to the austenite (`signals.ferrite_lever`).
    """
    heating = np.mean(product_K) > np.mean(parent_K)
    start, end = (parent_K[1], product_K[0]) if heating else (parent_K[0], product_K[1])
    if (end <= start) if heating else (end >= start):
        raise MatmlError(
            f"{record.path}: the ranges of parent ({parent_K[0]:g} to {parent_K[1]:g} K) and "
            f"product ({product_K[0]:g} to {product_K[1]:g} K) overlap"
        )
    segment, _ = ramp_segment(record, (start, end))
    own = record.part(segment.rows)
    part, rate = _passed(own, start, end, own_path)
    # the same temperatures are passed on the way there and back, in other phases
    parent = baseline(own.temperature_K, own.signal, *parent_K)
    product = baseline(own.temperature_K, own.signal, *product_K)
    fraction = lever_rule(part.temperature_K, part.signal, parent, product)
    stated = {
        "segment": record.told(segment),
        "parent_baseline": _line(parent, parent_K),
        "product_baseline": _line(product, product_K),
    }
    if carbon_wt_pct is not None:
        fraction = fraction * ferrite_lever(part.temperature_K, carbon_wt_pct)
        stated["carbon_in_austenite"] = {"carbon_wt_pct": carbon_wt_pct, "source": CARBON_SOURCE}
    _say_stages(record, part, fraction)
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def dilatometer_hold(
    record: Record,
    hold_s: Range | None,
    parent_K: Range | None,
    product_K: Range | None,
    own_path: bool = False,
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by the lever rule, and the lines they rest on.

    Parameters
    ----------
    hold_s
        Times between which the specimen is held; the reaction is counted from the first. By
        default those of the segment chosen.
    parent_K, product_K
        Temperatures right before and after the hold whose lengths are the baselines. Without them
        the length at the start is the parent's and the length at the end the product's, so that
        the reaction is taken to begin and to end with the hold.
    final_fraction
        Transformed at the end of the hold, where the length there is taken.
    """
    hold_s = hold_times(record, hold_s)
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    few = max(1, len(part.signal) // 100)
    lines: list[tuple[float, float]] = []
    stated: dict[str, Any] = {}
    ends = (part.signal[:few].mean(), part.signal[-few:].mean())
    if product_K is None:
        late = part.signal[-max(few, len(part.signal) // 10) :][:few].mean()
        change = abs(ends[1] - late) / (abs(ends[1] - ends[0]) or 1.0)
        if change > UNFINISHED and final_fraction == 1.0:
            record.notes.append(
                f"unfinished: {100 * change:.0f} % of all change is in the last tenth of the hold, "
                "and its end is taken for all transformed; give --final-fraction or --product"
            )
        stated["final_fraction"] = final_fraction
    for name, given, level, where in zip(
        ("parent", "product"), (parent_K, product_K), ends, _beside(record, hold_s), strict=True
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
    if product_K is None:
        fraction = fraction * final_fraction
    _say_stages(record, part, fraction)
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | stated


def _beside(record: Record, hold_s: Range) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows lie right before and right after a hold: in the segments next to it.

    On the way to the temperature of an earlier segment the specimen may have been of other phases.
    """
    rows = np.arange(len(record.time_s))
    first, last = np.searchsorted(record.time_s, hold_s)
    begins = [s.first for s in record.segments if s.first < first and s.kind != HOLD]
    ends = [s.last for s in record.segments if s.last > last and s.kind != HOLD]
    start, end = max(begins, default=0), min(ends, default=len(rows) - 1)
    return (rows >= start) & (rows < first), (rows > last) & (rows <= end)


def calorimeter_ramp(
    record: Record,
    peak_K: Range,
    own_path: bool = False,
    kind: str = "straight",
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by partial areas between the feet of the peak.

    Parameters
    ----------
    peak_K
        Temperatures of the feet; the reaction is counted from the first that is passed.
    kind
        Of baseline (`signals.partial_area`).
    final_fraction
        Transformed at the end of the peak.
    """
    segment, (start, end) = ramp_segment(record, peak_K, (peak_K[1], peak_K[0]))
    own = record.part(segment.rows)
    part, rate = _passed(own, start, end, own_path)
    fraction, stated = _areas(record, own, part, kind, final_fraction)
    stated |= {"segment": record.told(segment), "peak_K": [start, end]}
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def calorimeter_hold(
    record: Record,
    hold_s: Range | None,
    own_path: bool = False,
    kind: str = "straight",
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by partial areas between its ends."""
    hold_s = hold_times(record, hold_s)
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    fraction, stated = _areas(record, record, part, kind, final_fraction)
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | stated


def _areas(
    record: Record, own: Record, part: Record, kind: str, final_fraction: float
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the fractions of a peak in a part of a segment, and what they rest on."""
    feet = float(part.time_s[0]), float(part.time_s[-1])
    fraction, under = partial_area(own.time_s, own.signal, *feet, kind)
    inside = (own.time_s >= feet[0]) & (own.time_s <= feet[1])
    fraction, above = final_fraction * fraction[inside], (own.signal - under)[inside]
    if own.time_s[-1] - feet[1] < ROOM_BEHIND * (feet[1] - feet[0]) and final_fraction == 1.0:
        record.notes.append(
            "the record ends with the peak: nothing shows that the reaction had ended; where it "
            "had not, give --final-fraction"
        )
    _say_stages(record, part, fraction)
    stated = {
        "baseline": {
            "kind": kind,
            "between_s": list(feet),
            "levels": under[inside][[0, -1]].tolist(),
        },
        "final_fraction": final_fraction,
        "peak_area_signal_s": float(((above[1:] + above[:-1]) / 2 * np.diff(part.time_s)).sum()),
    }
    return fraction, stated


def _say_stages(record: Record, part: Record, fraction: np.ndarray) -> None:
    """Note where the rate has several maxima: one equation would mix several reactions."""
    found = stages(part.time_s, fraction)
    if len(found) > 1:
        kelvin = np.interp(found, part.time_s, part.temperature_K)
        places = " and ".join(
            f"{record.shown(there)} ({time:.4g} s)"
            for there, time in zip(kelvin, found, strict=True)
        )
        record.notes.append(
            f"overlapping reactions: the rate has {len(found)} maxima, at {places}; one equation "
            "mixes them: narrow the range to one, or calibrate them apart"
        )


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
