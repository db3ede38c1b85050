"""Files of instruments made a tidy CSV of observations, with a JSON of what they rest on."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.core.provenance import file_hash
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.instruments.records import SECONDS, Range, Record, observations_of, read_record

log = logging.getLogger(__name__)

ToUnit: TypeAlias = Callable[[Sequence[float]], Range]
Change: TypeAlias = Callable[[Record, ToUnit, ToUnit], tuple[pd.DataFrame, dict[str, Any]]]
"""Record, temperatures to kelvin, times to seconds -> its rows, and the baselines."""


def convert_files(
    files: Sequence[Path],
    signal_column: str,
    change: Change,
    method: str,
    *,
    alloy: str,
    temperature_column: str,
    temperature_unit: str,
    time_column: str,
    time_unit: str,
    separator: str | None,
    decimal: str,
    skip_lines: int,
    most: int,
    out: Path,
    own_path: bool = False,
) -> None:
    """Write the observations of all files, each one run, and the baselines beside.

    With `own_path` each run's temperatures become a path, in the folder `<out>_paths`; the rows
    that `change` returns hold them.

    Raises
    ------
    MatmlError
        Where a file cannot be converted: nothing is written then.
    """
    shift = ZERO_CELSIUS if temperature_unit == "C" else 0.0
    scale = SECONDS[time_unit]
    runs = [path.stem for path in files]
    if len(set(runs)) < len(runs):
        raise MatmlError("two files have the same name, which names the run: rename one")

    def ordered(pair: Sequence[float], what: str) -> Range:
        if not pair[0] < pair[1]:
            raise MatmlError(f"{what}: {pair[0]:g} {pair[1]:g}: give the lower one first")
        return float(pair[0]), float(pair[1])

    def kelvin(pair: Sequence[float]) -> Range:
        low, high = ordered(pair, "temperatures")
        return low + shift, high + shift

    def seconds(pair: Sequence[float]) -> Range:
        start, end = ordered(pair, "times")
        return start * scale, end * scale

    tables, described = [], []
    for path, run in zip(files, runs, strict=True):
        record = read_record(
            path,
            (temperature_column, time_column, signal_column),
            temperature_unit,
            time_unit,
            separator,
            decimal,
            skip_lines,
        )
        rows, stated = change(record, kelvin, seconds)
        table, counts = observations_of(rows, alloy, run, most)
        if own_path:
            table = _on_own_path(table, rows, out, run)
        tables.append(table)
        counts |= {"rows_without_numbers": record.dropped}
        described.append({"run": run, "sha256": file_hash(path)} | stated | counts)
        log.info(
            "%s: %d rows made %d observations%s",
            path,
            counts["rows"],
            counts["observations"],
            f"; {counts['outside_baselines']} outside the baselines left out"
            if counts["outside_baselines"]
            else "",
        )
    write_table(out, pd.concat(tables, ignore_index=True))
    write_json(out.with_suffix(".json"), {"alloy": alloy, "method": method, "runs": described})
    log.info("%s: %d observations of alloy %s", out, sum(map(len, tables)), alloy)


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
