"""Records of instruments: a specimen's runs, the part that is meant, its rate and temperature.

A record is one specimen heated or cooled at a constant rate (a *ramp*) or held at a temperature
(a *hold*); `fractions` makes observations of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from matml.core.errors import MatmlError, naming
from matml.kinetics.data.columns import HOTTEST_K
from matml.kinetics.data.units import TEMPERATURES, TIMES, Unit
from matml.kinetics.instruments.columns import Column, unit_among
from matml.kinetics.instruments.declared import COLDEST_K, check_declared, doubts
from matml.kinetics.instruments.export import (
    FEWEST,
    Export,
    over_midnight,
    read_export,
    runs_of,
    spread,
)
from matml.kinetics.instruments.segments import COOLING, HEATING, HOLD, Segment, lone, segments_of

STEADY_HOLD_K = 5.0
"""How far a hold may stray from its mean temperature."""
STEADY_RAMP = 0.03
"""How far a ramp may stray from a straight line, in its span of temperature; at least 2 K."""
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
            what = "fits several of" if fit else "is none of"
            told = "; ".join(map(self.told, fit or self.segments))
            raise MatmlError(
                f"{self.path}: --segment {chosen} {what} its segments: {told}; give the number of "
                "one"
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
    degree = _unit(export, places[0], TEMPERATURES, temperature_unit, "--temperature-unit C or K")
    clock = _unit(export, places[1], TIMES, time_unit, "--time-unit s, min or h")
    used = export.numbers[:, places]
    good = np.isfinite(used).all(1)
    first = int((~good).argmax())
    lacking = " or ".join(
        repr(export.columns[place].name)
        for place, number in zip(places, used.T, strict=True)
        if not np.isfinite(number).all()
    )
    if good.mean() < 0.5 or good.sum() < FEWEST:
        raise MatmlError(
            f"{path}: only {int(good.sum())} of {len(good)} rows hold three numbers; the first "
            f"without: line {export.lines[first]}, in {lacking or 'none'}: "
            f"{export.text[export.lines[first] - 1].strip()[:60]!r}; a decimal comma? see --decimal"
        )
    seen = np.flatnonzero(good)
    lost = export.left_out(export.lines[~good], f"without a number in {lacking}")
    if len(odd := lone(degree.usual(used[good, 0]))):
        good[seen[odd]] = False
        line, near = export.lines[seen[odd[0]]], used[seen[odd[0] - 1 : odd[0] + 2], 0]
        lost += [
            f"{len(odd)} rows are left out whose temperature is far off both neighbours', the "
            f"first in line {line}: {near[1]:g} between {near[0]:g} and {near[2]:g}; the "
            "thermocouple?"
        ]
    temperature, time, value = used[good].T
    temperature = degree.usual(temperature)
    if export.clock[places[1]] == 2:
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
        notes, own = [*export.notes, *lost], time[rows]
        if repeated := int((np.diff(own) == 0).sum()):
            notes.append(f"{repeated} time stamp(s) repeat: their rows are spread evenly over them")
        if own[0] == own[-1]:
            raise MatmlError(f"{path}: line {lines[rows.start]}: the time never rises")
        own = spread(own)
        taken, units = (kelvin, second, signal), (degree, clock)
        with naming(path):
            notes += doubts(temperature[rows], own, taken, units)
            notes += check_declared(
                export, np.flatnonzero(good)[rows], temperature[rows], own, taken, units
            )
        records.append(
            Record(
                path,
                path.stem if len(runs) == 1 else f"{path.stem}-{number}",
                temperature[rows],
                own,
                value[rows],
                degree,
                clock,
                taken,
                int((~good).sum()) if number == 1 else 0,
                notes,
            )
        )
    return records


def _unit(
    export: Export, place: int, units: Sequence[Unit], given: str | None, option: str
) -> Unit:
    """Return the unit of a column: what the file says, else what is given."""
    column = export.columns[place]
    said = unit_among(column.unit, units)
    colons = export.clock[place] if units is TIMES else 0
    if colons == 2:
        said = TIMES[0]
    if colons == 1 and said is not TIMES[0] and ":" not in column.unit:
        said = None
        option = (
            "--time-unit s where its cells are minutes:seconds, --time-unit min where they are "
            "hours:minutes"
        )
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
