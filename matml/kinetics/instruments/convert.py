"""Files of instruments made a tidy CSV of observations, with a JSON of what they rest on."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError, naming
from matml.core.files import write_json, write_table
from matml.core.provenance import file_hash
from matml.kinetics.data.units import ZERO_CELSIUS, Unit
from matml.kinetics.instruments.fractions import (
    calorimeter_hold,
    calorimeter_ramp,
    dilatometer_hold,
    dilatometer_ramp,
    observations_of,
)
from matml.kinetics.instruments.records import Range, Record, read_records

log = logging.getLogger(__name__)

ToUnit: TypeAlias = Callable[[Sequence[float]], Range]
Change: TypeAlias = Callable[[Record, ToUnit, ToUnit], tuple[pd.DataFrame, dict[str, Any]]]
"""Record, temperatures to kelvin, times to seconds -> its rows, and the baselines."""
Pair: TypeAlias = Sequence[float] | None
"""Lower and upper end in the unit of the file, where they are given."""


def by_lever_rule(
    parent: Pair,
    product: Pair,
    hold: Pair,
    segment: str | None,
    *,
    own_path: bool = False,
    final_fraction: float = 1.0,
    carbon: float | None = None,
) -> Change:
    """Return what makes observations of lengths; ranges as of the command.

    Raises
    ------
    MatmlError
        Where a ramp lacks a range.
    """
    if hold is None and segment is None and None in (parent, product):
        raise MatmlError(
            "a ramp needs --parent and --product; for a hold give --hold START END or its --segment"
        )

    def change(record: Record, kelvin: ToUnit, seconds: ToUnit) -> tuple[pd.DataFrame, dict]:
        before, after = (None if r is None else kelvin(r) for r in (parent, product))
        if hold is None and before is not None and after is not None:
            return dilatometer_ramp(record, before, after, own_path, carbon)
        given = None if hold is None else seconds(hold)
        return dilatometer_hold(record, given, before, after, own_path, final_fraction)

    return change


def by_partial_areas(
    peak: Pair,
    hold: Pair,
    segment: str | None,
    *,
    own_path: bool = False,
    final_fraction: float = 1.0,
    baseline: str = "straight",
) -> Change:
    """Return what makes observations of heat flows; ranges as of the command.

    Raises
    ------
    MatmlError
        Where neither a peak nor a hold is given, or both.
    """
    if peak is not None and hold is not None:
        raise MatmlError(
            "give --peak LOW HIGH for a ramp, or --hold START END for a hold, not both"
        )
    if peak is None and hold is None and segment is None:
        raise MatmlError(
            "give --peak LOW HIGH for a ramp, or --hold START END or its --segment for a hold"
        )

    def change(record: Record, kelvin: ToUnit, seconds: ToUnit) -> tuple[pd.DataFrame, dict]:
        if peak is not None:
            return calorimeter_ramp(record, kelvin(peak), own_path, baseline, final_fraction)
        given = None if hold is None else seconds(hold)
        return calorimeter_hold(record, given, own_path, baseline, final_fraction)

    return change


def convert_files(
    files: Sequence[Path],
    role: str,
    signal_column: str | None,
    change: Change,
    method: str,
    *,
    alloy: str,
    out: Path,
    temperature_column: str | None = None,
    temperature_unit: str | None = None,
    time_column: str | None = None,
    time_unit: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    skip_lines: int = 0,
    segment: str | None = None,
    most: int = 100,
    own_path: bool = False,
) -> None:
    """Write the observations of all runs of all files, and what they rest on beside.

    With `own_path` each run's temperatures become a path, in the folder `<out>_paths`; the rows
    that `change` returns hold them.

    Raises
    ------
    MatmlError
        Where a file cannot be converted: nothing is written then.
    """
    records = [
        record
        for path in files
        for record in read_records(
            path,
            role,
            (temperature_column, time_column, signal_column),
            temperature_unit,
            time_unit,
            separator=separator,
            decimal=decimal,
            skip=skip_lines,
        )
    ]
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        raise MatmlError("two files have the same name, which names the run: rename one")
    tables, described, paths = [], [], {}
    for record in records:
        if segment is not None:
            record = record.with_segment(segment)
        with naming(record.path):
            rows, stated = change(record, *_in_its_units(record))
            table, counts = observations_of(rows, alloy, record.name, most)
        if own_path:
            paths[record.name] = rows
        tables.append(table)
        counts |= {"rows_without_numbers": record.dropped}
        about = {
            "run": record.name,
            "sha256": file_hash(record.path),
            "columns": [str(column) for column in record.columns],
            "notes": record.notes,
        }
        described.append(about | stated | counts)
        left_out = counts["outside_baselines"]
        log.info(
            "%s: %d rows made %d observations%s",
            record.name,
            counts["rows"],
            counts["observations"],
            f"; {left_out} outside the baselines left out" if left_out else "",
        )
        for note in record.notes:
            log.info("%s: %s", record.name, note)
    for i, (run, rows) in enumerate(paths.items()):
        tables[i] = _on_own_path(tables[i], rows, out, run)
    write_table(out, pd.concat(tables, ignore_index=True))
    write_json(out.with_suffix(".json"), {"alloy": alloy, "method": method, "runs": described})
    log.info("%s: %d observations of alloy %s", out, sum(map(len, tables)), alloy)


def _in_its_units(record: Record) -> tuple[ToUnit, ToUnit]:
    """Return what makes kelvin and seconds of ranges in the units of a record's file."""

    def usual(unit: Unit, what: str) -> ToUnit:
        def converted(pair: Sequence[float]) -> Range:
            if not pair[0] < pair[1]:
                raise MatmlError(f"{what}: {pair[0]:g} {pair[1]:g}: give the lower one first")
            low, high = unit.usual(np.array(pair, dtype=float)).tolist()
            return low, high

        return converted

    return usual(record.temperature_unit, "temperatures"), usual(record.time_unit, "times")


def _on_own_path(table: pd.DataFrame, rows: pd.DataFrame, out: Path, run: str) -> pd.DataFrame:
    """Write a run's temperature history; returns its observations, which name it."""
    history = rows[["time_s", "temperature_K"]].assign(
        time_s=lambda path: path["time_s"] - path["time_s"].iloc[0],
        temperature_C=lambda path: (path["temperature_K"] - ZERO_CELSIUS).round(3),
    )
    path = out.with_name(f"{out.stem}_paths") / f"{run}.csv"
    write_table(path, history[["time_s", "temperature_C"]])
    there = np.interp(table["time_s"], history["time_s"], history["temperature_C"])
    table = table.drop(columns="start_temperature_C")
    return table.assign(temperature_C=there.round(3), path=f"{path.parent.name}/{path.name}")
