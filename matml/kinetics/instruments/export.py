"""Text exports of dilatometers and calorimeters, read as they come, and what was understood.

A file is a preamble, a header, perhaps a line of units, and rows of numbers. Separator and decimal
sign are those with which most cells are numbers; the header is what stands above the rows; columns
are told by their names and units. Baehr, Netzsch, Setaram, TA, Mettler and Linseis exports
and tables of spreadsheets all have this form, with two specialities: TA numbers its columns in the
preamble (`Sig1 Time (min)`), and Baehr parts the names by ` - ` and ` / `.
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from matml.core.errors import MatmlError, naming
from matml.core.text.cells import BLANKED, BLANKS
from matml.core.text.encoding import decode, encoding_of, plain_bytes
from matml.kinetics.instruments.columns import Column, is_unit, told_columns
from matml.kinetics.instruments.thousands import (
    BOTH_SIGNS,
    OTHER_SIGN,
    THOUSANDS,
    signs_of_thousands,
)

SEPARATORS = {";": "semicolons", "\t": "tabulators", "|": "bars", ",": "commas", " ": "spaces"}
SAMPLE = 400
"""Lines, spread over the file, from which separator and decimal sign are found."""
CLOCK = re.compile(
    r"(?:\d+[-./]\d+[-./]\d+[ T])?(\d{1,6}):(\d{2}):(\d{2}(?:[.,]\d+)?)(?: ?([AP])\.?M\.?)?", re.I
)
SHORT_CLOCK = re.compile(r"(\d{1,6}):([0-5]\d(?:[.,]\d+)?)")
HALF_A_DAY = 43_200.0
LARGEST = 1e30
"""No instrument writes larger numbers but for an error, and their squares are still numbers."""
BLANKED_PART = rf"{BLANKED.pattern}[ ]*"
THOUSANDS_BY_BLANKS = re.compile(
    rf"^{BLANKED_PART}(?=[\t;|])|(?<=[\t;|]){BLANKED_PART}(?=[\t;|]|$)", re.MULTILINE
)
"""Whole cells, where columns are parted by another sign."""
FEWEST = 10
"""Rows of a run."""


@dataclass(frozen=True)
class Export:
    """A file of an instrument.

    Attributes
    ----------
    encoding, separator, decimal
        Of its text.
    header
        First and last line of the header, 0 where there is none.
    columns
        Of the numbers [rows, columns].
    numbers
        NaN where a cell holds none.
    lines
        Line number of each row.
    clock
        How many colons part the cells of a column: with two, hh:mm:ss, its numbers are seconds;
        with one, seconds of mm:ss or minutes of hh:mm.
    text
        All lines of the file.
    notes
        What was understood besides, one sentence each.
    """

    path: Path
    encoding: str
    separator: str
    decimal: str
    header: tuple[int, int]
    columns: list[Column]
    numbers: np.ndarray
    lines: np.ndarray
    clock: list[int]
    text: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def preamble(self) -> list[str]:
        """Lines above the numbers."""
        return self.text[: self.lines[0] - 1]

    def left_out(self, lines: Sequence[int], why: str) -> list[str]:
        """Return the note, if there is one, on lines that are left out, and why."""
        if not len(lines):
            return []
        first = self.text[lines[0] - 1].strip()[:60]
        return [f"{len(lines)} row(s) left out, {why}; the first: line {lines[0]}, {first!r}"]

    def place(self, role: str, name: str | None = None) -> int:
        """Return the number of the column that is named, else of the best one in a role.

        Raises
        ------
        MatmlError
            Where there is none.
        """
        there = f"there are {', '.join(map(str, self.columns))}"
        if name is not None:
            for i, column in enumerate(self.columns):
                if name in (column.name, column.header, str(column), f"column {i + 1}"):
                    return i
            raise MatmlError(f"{self.path}: column {name!r} is missing; {there}")
        fit = [i for i, column in enumerate(self.columns) if column.role == role]
        if not fit:
            option = "heat" if role == "heat_flow" else role
            raise MatmlError(
                f"{self.path}: no column is a {role.replace('_', ' ')} by its name; {there}; name "
                f"one: --{option}-column"
            )
        best = min(fit, key=lambda i: self.columns[i].choice)
        what = role.replace("_", " ")
        others = ", ".join(f"{self.columns[i]} (column {i + 1})" for i in fit if i != best)
        note = (
            f"of {len(fit)} columns that are a {what}, {self.columns[best]} is taken, not {others}"
        )
        if others and note not in self.notes:
            self.notes.append(note)
        return best


def read_export(
    path: Path, separator: str | None = None, decimal: str | None = None, skip: int = 0
) -> Export:
    r"""Return the table of numbers of an instrument's text file.

    Parameters
    ----------
    separator, decimal
        Found where None; the separator "\\s+" or " " means any spaces.
    skip
        Lines to leave out at the start.

    Raises
    ------
    MatmlError
        Where the file is missing, is no text, or holds no rows of numbers.
    """
    try:
        content = plain_bytes(path)
        text = decode(content)
    except FileNotFoundError:
        raise MatmlError(f"{path}: no such file; give a text export of a record") from None
    except (ValueError, OSError, EOFError) as error:
        raise MatmlError(
            f"{path}: cannot be read as text ({error}); export the record as text or CSV"
        ) from None
    text, blanks = THOUSANDS_BY_BLANKS.subn(lambda number: number[0].translate(BLANKS), text)
    lines = text.splitlines()
    lines[:skip] = [""] * min(skip, len(lines))
    given = " " if separator == r"\s+" else separator
    parting, point = _dialect(lines, [given] if given else list(SEPARATORS), decimal)
    cells = {i: _cells(line, parting) for i, line in enumerate(lines) if line.strip()}
    values = {i: [_number(cell, point) for cell in row] for i, row in cells.items()}
    rows = [i for i, row in values.items() if _is_row(row, cells[i])]
    if not rows:
        first = next((line.strip() for line in lines if line.strip()), "")
        how = f"it begins with {first[:60]!r}" if first else "it is empty"
        raise MatmlError(
            f"{path}: holds no rows of numbers ({how}); look at --separator and --decimal, or "
            "export the record as text"
        )
    widths = np.array([len(values[i]) for i in rows])
    width = int(np.bincount(widths).argmax())
    # a preamble may hold a line of numbers; and a space for an empty cell shifts the others
    rows = [
        i for i in rows if len(values[i]) == width or (parting != " " and len(values[i]) < width)
    ]
    numbers = np.full((len(rows), width), np.nan)
    for row, i in enumerate(rows):
        numbers[row, : len(values[i])] = values[i]
    notes = [f"thousands are parted in {blanks} numbers, which were joined"] if blanks else []
    at = np.array(rows)
    with naming(path):
        numbers[~(np.abs(numbers) < LARGEST)] = np.nan
        header, columns = _columns(lines, rows[0], parting, numbers)
        taken = {i + 1: cells[i] for i in rows}
        signs = signs_of_thousands(taken, [column.name for column in columns], decimal)
    for place, sign in enumerate(signs):
        if sign:
            point = OTHER_SIGN[sign]
            parted = {
                k: row[place]
                for k, row in enumerate(taken.values())
                if place < len(row)
                and any(form.fullmatch(row[place]) for form in (THOUSANDS[sign], BOTH_SIGNS[point]))
            }
            for k, cell in parted.items():
                numbers[k, place] = _number(cell.replace(sign, ""), point)
            k, cell = next(iter(parted.items()))
            notes.append(
                f"column {columns[place].name!r}: {sign!r} is read as parting thousands, as in "
                f"{cell!r} of line {rows[k] + 1}"
            )
    if "StartOfData" in text:
        # TA marks events by rows of negative time
        time = next((i for i, c in enumerate(columns) if c.role == "time"), 0)
        marks = numbers[:, time] < 0
        if marks.any():
            notes.append(f"{int(marks.sum())} row(s) of negative time, marks of events, left out")
        numbers, at = numbers[~marks], at[~marks]
    _refuse_other_tables(path, lines, at, parting, columns)
    clock = [
        2 if CLOCK.fullmatch(cell) else int(bool(SHORT_CLOCK.fullmatch(cell)))
        for cell in cells[at[0]]
    ]
    for place in [i for i, colons in enumerate(clock) if colons == 1]:
        own = numbers[:, place]
        # no clock shows parts of a minute, or 24 hours
        if (own % 1 > 0).any() or (own >= 24 * 60).any():
            columns[place] = replace(columns[place], unit="min:s")
    export = Export(
        path,
        encoding_of(content),
        SEPARATORS.get(parting, repr(parting)),
        point,
        header,
        columns,
        numbers,
        at + 1,
        clock + [0] * (width - len(clock)),
        lines,
        notes,
    )
    above = {line.strip() for line in export.preamble}
    odd = sorted(
        i + 1 for i in set(cells) - set(rows) if i > rows[0] and lines[i].strip() not in above
    )
    notes += export.left_out(odd, f"not {width} cells that are mostly numbers")
    return export


def _dialect(
    lines: Sequence[str], separators: Sequence[str], decimal: str | None
) -> tuple[str, str]:
    """Return separator and decimal sign with which most cells of the lines are numbers."""
    sample = [line for line in lines if line.strip()]
    sample = sample[:: max(1, len(sample) // SAMPLE)]
    best, most = (separators[0], decimal or "."), 0
    for parting in separators:
        for point in [decimal] if decimal else [".", ","]:
            score = 0
            for line in sample:
                cells = [cell for cell in _cells(line, parting) if cell]
                good = sum(not math.isnan(_number(cell, point)) for cell in cells)
                score += max(0, 2 * good - len(cells)) if good > 1 else 0
            if score > most:
                best, most = (parting, point), score
    return best


def _cells(line: str, separator: str) -> list[str]:
    if '"' in line:
        try:
            cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
        except (csv.Error, StopIteration):
            cells = line.split(separator)
    else:
        cells = line.split() if separator == " " else line.split(separator)
    cells = [cell.strip() for cell in cells]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _number(cell: str, decimal: str) -> float:
    """Return the number in a cell, of a clock as `Export.clock` says; NaN where there is none."""
    if short := SHORT_CLOCK.fullmatch(cell):
        return int(short[1]) * 60 + float(short[2].replace(",", "."))
    if ":" in cell:
        clock = CLOCK.fullmatch(cell)
        if not clock:
            return math.nan
        hours, minutes, seconds = int(clock[1]), clock[2], clock[3].replace(",", ".")
        if half := clock[4]:
            hours = hours % 12 + 12 * (half in "Pp")
        return hours * 3600 + int(minutes) * 60 + float(seconds)
    if "." in cell and "," in cell:
        if not BOTH_SIGNS[decimal].fullmatch(cell):
            return math.nan
        cell = cell.replace("." if decimal == "," else ",", "")
    if decimal == ",":
        cell = cell.replace(",", ".")
    try:
        return float(cell.replace("\u2212", "-")) if "_" not in cell else math.nan
    except ValueError:
        return math.nan


def _is_row(values: Sequence[float], cells: Sequence[str]) -> bool:
    good = sum(value == value for value in values)
    if good < len(values):
        good += sum(
            value != value and bool(THOUSANDS[","].fullmatch(cell))
            for value, cell in zip(values, cells, strict=True)
        )
    return good > 1 and 2 * good >= sum(cell != "" for cell in cells)


def _columns(
    lines: Sequence[str], first: int, separator: str, numbers: np.ndarray
) -> tuple[tuple[int, int], list[Column]]:
    """Return the lines of the header and the columns that it names, above the first row."""
    width = numbers.shape[1]
    above = [i for i in range(first) if re.search(r"\w|%", lines[i])]
    signals = {}
    for i in above:
        if found := re.fullmatch(r"Sig(\d+)\s+(.+)", lines[i].strip()):
            signals[int(found[1])] = (i, found[2])
    if signals:
        places = [place for place, _ in signals.values()]
        names = [signals[k][1] if k in signals else f"column {k}" for k in range(1, width + 1)]
        return (min(places) + 1, max(places) + 1), told_columns(names, [""] * width)
    units: list[str] = []
    last = above[-1] if above else 0
    if len(above) > 1 and (beneath := _unit_line(lines[above[-1]], separator)):
        units, above = beneath, above[:-1]
    names = _names(lines[above[-1]], separator, numbers) if above else []
    if not names:
        return (0, 0), told_columns([f"column {k}" for k in range(1, width + 1)], [""] * width)
    # units belong to the columns behind a number of the row, in their order
    lacking = width - len(units)
    counts = bool(re.match(r"index|no\b|nr\b|column 1$", names[0].lower()))
    units = ["", *units] if units and lacking and counts else units
    return (above[-1] + 1, last + 1), told_columns(names, (units + [""] * width)[:width])


def _names(line: str, separator: str, numbers: np.ndarray) -> list[str]:
    """Return the names of all columns in a header, none where their number does not fit."""
    width = numbers.shape[1]
    text = line.strip().lstrip("#").strip()
    steps = np.diff(numbers[np.isfinite(numbers[:, 0]), 0])
    counting = len(steps) > 0 and bool((steps == 1).mean() > 0.9)
    parted = [
        re.split(r"\s+[-/]\s+", text),
        _cells(line.lstrip("# "), separator),
        re.split(r"\s{2,}|\t", text),
        text.split(),
    ]
    for names in parted:
        names = [name.strip(' "#') for name in names]
        if len(names) == width:
            return [name or f"column {k}" for k, name in enumerate(names, 1)]
        if counting and len(names) == width - 1:
            return ["column 1", *(re.sub(r"(?i)^(index|nr\.?|no\.?)\s+", "", n) for n in names)]
    return []


def _unit_line(line: str, separator: str) -> list[str]:
    """Return the units of a line that holds nothing else."""
    for parted in (_cells(line.lstrip("# "), separator), line.lstrip("# ").split()):
        words = [word.strip(' []()"') for word in parted]
        if any(words) and all(not w or w == "-" or is_unit(w) for w in words):
            return words
    return []


def _refuse_other_tables(
    path: Path, lines: Sequence[str], rows: np.ndarray, separator: str, columns: Sequence[Column]
) -> None:
    """Refuse a file in which a header between rows names other columns than the first."""
    for before in np.flatnonzero(np.diff(rows) > 1):
        for i in range(rows[before] + 1, rows[before + 1]):
            cells = _cells(lines[i].lstrip("# "), separator)
            if len(cells) != len(columns) or not all(re.search(r"[A-Za-z]{2}", c) for c in cells):
                continue
            other = told_columns(cells, [""] * len(cells))
            if {c.role for c in other} - {""} and [c.name for c in other] != [
                c.name for c in columns
            ]:
                raise MatmlError(
                    f"{path}: line {i + 1}: another table begins ({', '.join(cells)}); give each a "
                    "file of its own"
                )


def runs_of(time: np.ndarray) -> list[slice]:
    """Return the runs in a file: a new one begins where the time falls."""
    starts = [0, *(np.flatnonzero(np.diff(time) < 0) + 1).tolist(), len(time)]
    return [slice(a, b) for a, b in pairwise(starts)]


def over_midnight(time_s: np.ndarray) -> np.ndarray:
    """Return times of a clock with a day added each time that it begins anew."""
    return time_s + 2 * HALF_A_DAY * np.cumsum(np.r_[0.0, np.diff(time_s) < -HALF_A_DAY])


def spread(time_s: np.ndarray) -> np.ndarray:
    """Return times [N] that do not fall with those that repeat spread evenly until the next."""
    stamps, first, counts = np.unique(time_s, return_index=True, return_counts=True)
    if len(stamps) == len(time_s) or len(stamps) < 2:
        return time_s
    steps = np.diff(stamps)
    steps = np.r_[steps, steps[-1]]
    group = np.repeat(np.arange(len(stamps)), counts)
    return time_s + steps[group] * (np.arange(len(time_s)) - first[group]) / counts[group]
