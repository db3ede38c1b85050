"""What was understood of an instrument's file, in lines and in a figure."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from matml.core.errors import MatmlError
from matml.figures.figure import Axis, Figure, Part, Series, style_of
from matml.figures.static import write
from matml.kinetics.data.columns import MEASURED
from matml.kinetics.data.observations import read_observations
from matml.kinetics.data.units import unit_of, usual_name
from matml.kinetics.instruments.export import Export, read_export
from matml.kinetics.instruments.records import Record, records_of
from matml.kinetics.instruments.segments import HOLD

DRAWN = 4000
"""Rows of a run in a figure."""
RATES = (0.1, 0.9)
"""Quantiles of the rate within a segment that are told."""


def inspect_file(
    path: Path,
    figure: Path | None = None,
    *,
    temperature_column: str | None = None,
    time_column: str | None = None,
    signal_column: str | None = None,
    temperature_unit: str | None = None,
    time_unit: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    skip_lines: int = 0,
) -> Iterator[str]:
    """Yield lines on how a file is understood, and draw its signal.

    Raises
    ------
    MatmlError
        As `read_export`; what is missing further on is the last line.
    """
    export = read_export(path, separator, decimal, skip_lines)
    first, last = export.header
    yield f"{path}"
    yield (
        f"  text: {export.encoding}, columns separated by {export.separator}, decimal "
        f"{'comma' if export.decimal == ',' else 'point'}"
    )
    if not first:
        yield "  header: none; columns are called by their number"
    else:
        where = f"line {first}" if first == last else f"lines {first} to {last}"
        yield f"  header: {where}: {', '.join(map(str, export.columns))}"
    count = len(export.numbers)
    yield f"  numbers: {count} rows, lines {export.lines[0]} to {export.lines[-1]}"
    columns = temperature_column, time_column, signal_column
    role = signal_role(export)
    try:
        records = records_of(export, role, columns, temperature_unit, time_unit)
    except MatmlError as error:
        if measured := _measured(export):
            yield (
                f"  no record, but observations of {measured}: matml kinetics calibrate --data "
                f"{path} --equation NAME (one of `matml kinetics equations`)"
            )
            try:
                doubts = read_observations(path).warnings
            except MatmlError as refusal:
                doubts = [str(refusal)]
            yield from (f"  note: {doubt.removeprefix(f'{path}: ')}" for doubt in doubts)
            return
        yield f"  not yet a record: {str(error).removeprefix(f'{path}: ')}"
        return
    kelvin, second, signal = records[0].columns
    units = records[0].temperature_unit.name, records[0].time_unit.name
    yield (
        f"  taken: temperature {kelvin.name!r} in {units[0]}, time {second.name!r} in "
        f"{units[1]}, {role.replace('_', ' ')} {signal.name!r}"
    )
    for record in records:
        rows = len(record.time_s)
        yield f"  run {record.name}: {rows} rows, {record.time_s[-1] - record.time_s[0]:.5g} s"
        for segment in record.segments:
            yield f"    {record.told(segment)}{_rate(record, segment.rows, segment.kind)}"
        for note in record.notes:
            yield f"    note: {note}"
    yield f"  ranges of temperature are read in {units[0]}, of time in {units[1]}"
    command = "dilatometer" if role == "length" else "dsc"
    ranges = "--parent LOW HIGH --product LOW HIGH" if role == "length" else "--peak LOW HIGH"
    holds = [s for r in records for s in r.segments if s.kind == HOLD]
    ramps = [[s.kind for s in r.segments if s.kind != HOLD] for r in records]
    if holds and not any(ramps):
        ranges = "--segment hold"
    elif any(len(kinds) > (len(set(kinds)) if role == "length" else 1) for kinds in ramps):
        # a length's ranges tell heating from cooling, a peak's do not
        ranges += " --segment NUMBER"
    yield f"  next: matml kinetics convert {command} {path} --alloy NAME {ranges} --out points.csv"
    if figure is not None:
        write(record_figure(records), [figure])


def _measured(export: Export) -> str:
    """Return the column of a table that holds an observed quantity, '' where none does."""
    for column in map(str, export.columns):
        try:
            quantity, _ = unit_of(column)
        except KeyError:
            continue
        if usual_name(quantity) in MEASURED:
            return column
    return ""


def signal_role(export: Export) -> str:
    """Return what a file's signal is: "length" or "heat_flow"."""
    return "length" if any(c.role == "length" for c in export.columns) else "heat_flow"


def _rate(record: Record, rows: slice, kind: str) -> str:
    """Return the rates in a segment in words."""
    if kind == HOLD:
        return ""
    time, kelvin = record.time_s[rows], record.temperature_K[rows]
    even = np.linspace(time[0], time[-1], 51)
    rates = np.diff(np.interp(even, time, kelvin)) / np.diff(even)
    low, high = sorted(np.quantile(rates, RATES), key=abs)
    text = f"{high:.3g}" if abs(high - low) < 0.1 * abs(high) else f"{low:.3g} to {high:.3g}"
    return f" at {text} K/s"


def record_figure(records: list[Record]) -> Figure:
    """Return the signal over the temperature, a colour for each segment."""
    first = records[0]
    unit = first.temperature_unit
    parts: list[Part] = []
    for record in records:
        for segment in record.segments:
            rows = np.unique(np.linspace(segment.first, segment.last, DRAWN).astype(int))
            name = record.told(segment)
            parts.append(
                Series(
                    (record.temperature_K[rows] - unit.offset) / unit.factor,
                    record.signal[rows],
                    name if len(records) == 1 else f"{record.name}: {name}",
                    style_of(len(parts))[0],
                    width=1.6,
                )
            )
    x = Axis(f"temperature ({'°' if unit.name != 'K' else ''}{unit.name})")
    return Figure("record", first.path.name, x, Axis(str(first.columns[2])), parts)
