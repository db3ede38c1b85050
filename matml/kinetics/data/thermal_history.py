"""Temperature histories: tables of T(t) that specimens followed, and observations on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import read_text_table
from matml.kinetics.data.columns import HOTTEST_K
from matml.kinetics.data.plausible import numbers, room_note
from matml.kinetics.data.units import ZERO_CELSIUS, in_usual_units, unit_of


@dataclass(frozen=True)
class History:
    """A temperature history, straight between its rows.

    Attributes
    ----------
    time_s, temperature_K
        Each [M]; the times rise.
    doubt
        Of the unit of the temperatures, '' without.
    """

    time_s: np.ndarray
    temperature_K: np.ndarray
    doubt: str = ""

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """Return the temperature in K at times within the history."""
        return np.interp(time_s, self.time_s, self.temperature_K)


def read_history(path: Path) -> History:
    """Return the history of a CSV of a time and a temperature, in any unit that they name.

    Raises
    ------
    MatmlError
        Where the file, a column or a number is missing, or the times do not rise.
    """
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give a CSV of time_s and temperature_C")
    table = in_usual_units(read_text_table(path), path)
    columns, lines = [], table.cells.index.to_numpy() + 2
    for name in ("time_s", "temperature_K"):
        if name not in table.cells:
            raise MatmlError(
                f"{path}: has the columns {', '.join(table.original)}; a path needs a time and a "
                f"temperature: {table.lacking(name)}"
            )
        columns.append(numbers(table.cells[name]))
        bad = np.flatnonzero(~np.isfinite(columns[-1]))
        if len(bad):
            header, text = table.given(int(lines[bad[0]]) - 2, name)
            raise MatmlError(
                f"{path}: line {lines[bad[0]]}, {header} = {text!r}: is no finite number; complete "
                "the row or take it out"
            )
    time, kelvin = columns
    if len(time) < 2:
        raise MatmlError(f"{path}: {len(time)} row(s); a path needs at least 2")
    back = np.flatnonzero(np.diff(time) <= 0)
    if len(back):
        last = back[0] + 1
        raise MatmlError(
            f"{path}: line {lines[last]}, time_s = {time[last]:g}: does not rise from "
            f"{time[last - 1]:g} before it; sort the rows, or give each run its own path"
        )
    wrong = np.flatnonzero((kelvin <= 0) | (kelvin > HOTTEST_K))
    if len(wrong):
        header, text = table.given(int(lines[wrong[0]]) - 2, "temperature_K")
        raise MatmlError(
            f"{path}: line {lines[wrong[0]]}, {header} = {text}: is no temperature that an alloy "
            "is treated at; kelvin and Celsius mixed up?"
        )
    header = table.headers.get("temperature_K", "temperature_K")
    note = room_note(numbers(table.original[header]), unit_of(header)[1].name)
    return History(time, kelvin, f"{note} Check the unit of {header!r}" if note else "")


FURTHEST_K = 10.0
"""How far an observation's own temperature may lie from that of its path."""


def follow_paths(
    raw: pd.DataFrame, file: Path
) -> tuple[pd.DataFrame, dict[str, History], list[list[object]]]:
    """Return the table with the temperatures of its paths, the paths, and rows left out.

    Parameters
    ----------
    raw
        Observations as text, its column `path` naming files next to `file`; rows without keep
        their temperature, and those with one may leave it empty.
    """
    raw, column = raw.copy(), "temperature_K"
    if column not in raw:
        raw[column] = ""
    names = raw["path"].str.strip()
    histories, bad = {}, []
    for name in sorted(set(names) - {""}):
        # labels, since rows of earlier paths may be left out by now
        rows = names.index[names == name]
        try:
            history = read_history(file.parent / name)
        except MatmlError as error:
            remedy = f"correct the path ({len(rows)} row(s) name it)"
            line = [str(file), rows[0] + 2, raw.loc[rows[0], "alloy"].strip(), "path", name]
            bad.append([*line, str(error), remedy])
            raw = raw.drop(index=rows)
            continue
        histories[name] = history
        time = pd.to_numeric(raw.loc[rows, "time_s"], errors="coerce").to_numpy(float)
        given = pd.to_numeric(raw.loc[rows, column], errors="coerce").to_numpy(float)
        there = history.at(time)
        first, last = history.time_s[[0, -1]]
        outside = ~((time > first) & (time <= last))
        far = np.abs(given - there) > FURTHEST_K
        for i in map(int, np.flatnonzero(outside | far)):
            field = "time_s" if outside[i] else column
            found = [str(file), rows[i] + 2, raw.loc[rows[i], "alloy"].strip(), field]
            reason, remedy = (
                (
                    f"{name} runs from {first:g} to {last:g} s",
                    "give a time after its start and not after its end, or the rest of the path",
                )
                if outside[i]
                else (
                    f"{name} is at {there[i]:.1f} K ({there[i] - ZERO_CELSIUS:.1f} C) then",
                    "correct one of them, or leave the temperature empty",
                )
            )
            bad.append([*found, raw.loc[rows[i], field], reason, remedy])
        kept = ~outside & ~far
        raw.loc[rows[kept], column] = [repr(float(value)) for value in there[kept]]
        raw = raw.drop(index=rows[outside | far])
    return raw, histories, bad
