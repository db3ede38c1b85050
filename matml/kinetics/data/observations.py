"""Observations of transformation kinetics: the tidy CSV, checked row by row.

One row per observation: `alloy` (a table of numbers alone is of one), `temperature_K`, `time_s`,
and what was measured: `fraction_transformed`, or `hardness_HRC`, or `grain_size_um` (with
`initial_grain_size_um`), or `particle_radius_nm`, or, for a point of a TTT curve, the fraction that
the curve stands for in `ttt_fraction` (`assumed_fraction` is read too; then the time is what was
measured).
`martensite_fraction` needs a temperature alone; `peak_temperature_K` needs `heating_rate_K_per_s`
instead of both; `Ms_K` and `Bs_K`, where martensite and bainite start, need neither.
Other units are read where the column names them (`temperature_C`, `time_min`;
`matml.kinetics.data.units`). Optional:

- `sigma`, the standard deviation of the measurement on the scale on which it is compared (fraction;
  HRC; log10 of um; log10 of s); beside `hardness_HV` or a fraction in percent it names its own unit
  (`sigma_HV`, `sigma_HRC`, `sigma_pct`, `sigma_fraction`); and `simulated`;
- `start_temperature_C` or `start_temperature_K`: the specimen was heated or cooled at a constant
  rate from there, and reached the row's temperature at its time; empty where it was held;
- `path`, a CSV next to this one of the temperature history that the specimen followed (`time_s`,
  `temperature_C` or `temperature_K`); the row's time is on its clock, which starts with it, and the
  row's temperature may be left empty;
- `run`, the specimen or record that a row belongs to: rows of one run may share an error;
- any other column of numbers, for equations that have it as an input.

A second table may hold one row per alloy: `alloy`, `composition_group`, `reference_temperature_K`
and composition columns ending in `_wt_pct` or `_at_pct`.

A bad row is quarantined with its reason and the rest goes on.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import csv_text
from matml.core.text.cells import to_number
from matml.core.text.table import read_text_table
from matml.kinetics.data.alloys import check_alloys, group_alloys
from matml.kinetics.data.columns import (
    APART,
    COLDEST_K,
    FRACTION_NOISE,
    HOTTEST_K,
    INPUTS,
    LONGEST_S,
    MEASURED,
    SHORTEST_S,
    USUAL,
    ask_for_alloys,
    measured_problem,
    temperature_problem,
    time_problem,
)
from matml.kinetics.data.plausible import (
    misplaced,
    odd_alloys,
    odd_percents,
    odd_temperatures,
    odd_times,
    suspicious_temperatures,
)
from matml.kinetics.data.thermal_history import History, follow_paths
from matml.kinetics.data.units import Table, in_usual_units

CURVE = re.compile(
    r"(?:^|[\s_])(?:\d{1,2}(?:[\s_]*(?:%|pct|s$))|(?:start|finish|end)(?![\s_]*temp))",
    re.IGNORECASE,
)
"""In the name of a column that holds a curve of a TTT diagram."""
LARGEST = 1e30
"""Of any number that a column without a known meaning may hold."""

QUARANTINE_COLUMNS = ["file", "line", "alloy", "field", "value", "reason", "remedy"]


@dataclass(frozen=True)
class Observations:
    """Checked observations of several alloys.

    Attributes
    ----------
    kind
        As equations know it, for instance "fraction".
    points
        One row per observation: alloy, temperature_K and time_s (where the kind has them),
        `fraction` (of a TTT point), the measured column, sigma (NaN where not given), line; where
        the file has them run, path, start_temperature_K, and other columns of numbers.
    alloys
        One row per alloy: alloy, composition_group, reference_temperature_K (NaN where not given),
        composition columns.
    quarantine
        Rows left out, with `QUARANTINE_COLUMNS`.
    warnings
        What looks wrong but may be right, one sentence each.
    simulated
        Whether any of it is simulated.
    paths
        Temperature histories by the name in the column `path`.
    headers
        What the file calls a column, by its usual name; only where that differs.
    notes
        What was understood of the file, one sentence each.
    """

    kind: str
    points: pd.DataFrame
    alloys: pd.DataFrame
    quarantine: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
    simulated: bool = False
    paths: dict[str, History] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """Alloys, in the order of their table."""
        return self.alloys["alloy"].tolist()

    def select(self, names: list[str]) -> "Observations":
        """Return the observations of some alloys, in the order given."""
        alloys = self.alloys.set_index("alloy").loc[names].reset_index()
        return replace(self.keep(self.points["alloy"].isin(names)), alloys=alloys)

    def keep(self, rows: "pd.Series[bool] | np.ndarray") -> "Observations":
        """Return the observations of some rows of the points."""
        return replace(self, points=self.points[rows].reset_index(drop=True))


def read_observations(path: str | Path, alloys_path: str | Path | None = None) -> Observations:
    """Read and check observations, and the table of alloys where there is one.

    Raises
    ------
    MatmlError
        Where the file or a column is missing, measured columns are mixed, or no row is left.
    """
    path = Path(path)
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give a CSV of observations")
    given = None if alloys_path is None else read_text_table(alloys_path)
    return _checked(read_text_table(path), path, given, alloys_path)


def observations_of(frame: pd.DataFrame, alloys: pd.DataFrame | None = None) -> Observations:
    """Return the observations of a table in memory, as `read_observations` those of a file.

    Rows are counted as lines of a file with a header, from 2; histories in a column `path` are
    files.
    """
    given = None if alloys is None else text_of(alloys)
    return _checked(text_of(frame), Path("frame"), given, "alloys")


def kind_of(table: pd.DataFrame) -> str:
    """Return the kind of observations that a table of text holds, by its columns.

    Raises
    ------
    MatmlError
        Where it has no measured column, or several.
    """
    place = Path("points")
    return MEASURED[_measured_column(place, in_usual_units(table, place))].kind


def text_of(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table in memory as one of text, as it would be read from a file."""
    return read_text_table("frame", csv_text(frame).encode())


def _checked(
    text: pd.DataFrame, path: Path, given: pd.DataFrame | None, alloys_path: str | Path | None
) -> Observations:
    """Return the checked observations of tables of text: rows, and alloys where there are any."""
    table = _with_alloy(in_usual_units(text, path), path, given)
    raw, measured = table.cells, _measured_column(path, table)
    what = MEASURED[measured]
    paths: dict[str, History] = {}
    bad: list[list[object]] = []
    if "path" in raw and "time_s" in what.conditions:
        raw, paths, bad = follow_paths(raw, path)
    elif "temperature_K" in what.conditions and "temperature_K" not in raw:
        raise MatmlError(f"{path}: has no temperature column; {table.lacking('temperature_K')}")
    raw = _without_starts(raw, measured, table)
    refused = misplaced(table, raw, measured)
    refused |= {index: (name, reason, remedy) for index, name, reason, remedy in table.bad}
    rows = []
    good, clean = _clean_rows(raw, ~raw.index.isin(list(refused)), measured)
    for line, row in _lines(raw[~good]):
        if line - 2 in refused:
            name, reason, remedy = refused[line - 2]
            bad.append([str(path), line, row["alloy"].strip(), name, row[name], reason, remedy])
            continue
        values, problem = _check_row(row, table, measured)
        if problem is None:
            rows.append(values | {"line": line})
        else:
            bad.append([str(path), line, row["alloy"].strip(), *problem])
    judged = pd.DataFrame(rows, columns=list(clean)).astype(clean.dtypes.to_dict())
    points = pd.concat([clean, judged]).sort_values("line", ignore_index=True)
    points, wrong = _add_others(raw, points, path, measured, table)
    points, repeated = _drop_duplicates(points, path)
    for entry in (bad := bad + wrong):
        if entry[3]:
            entry[3:5] = table.given(int(str(entry[1])) - 2, str(entry[3]))
    quarantine = pd.DataFrame(bad + repeated, columns=QUARANTINE_COLUMNS)
    if points.empty:
        first = "; add rows below the header"
        if len(quarantine):
            first = f"; the first: {_sentence(quarantine.iloc[0])}"
        raise MatmlError(f"{path}: no usable row among {len(raw)}{first}")
    warnings = []
    lost = sorted(set(quarantine["alloy"]) - set(points["alloy"]) - {""})
    for name in lost:
        reason = quarantine.loc[quarantine["alloy"] == name, "reason"].iloc[0]
        warnings.append(f"{path}: alloy {name!r} has no usable row left ({reason})")
    temperature, scale = "temperature_K", points
    if "temperature_K" not in points:
        temperature, scale = measured, points.assign(temperature_K=points["value"])
    warnings += [f"{path}: {note}" for note in odd_temperatures(table, measured)]
    odd = (*odd_percents(table), *odd_times(table), *odd_alloys(points))
    warnings += [f"{path}: {note}" for note in odd]
    warnings += [
        f"{path}: {name}: {history.doubt}" for name, history in paths.items() if history.doubt
    ]
    warnings += suspicious_temperatures(scale, table.headers.get(temperature, temperature))
    points = points.rename(columns={"value": "fraction" if what.kind == "ttt" else measured})
    names = list(dict.fromkeys(points["alloy"]))
    if given is None:
        alloys = pd.DataFrame({"alloy": names})
    else:
        alloys, missing = check_alloys(given, str(alloys_path), names)
        warnings += missing
    alloys = group_alloys(alloys)
    simulated = "simulated" in raw and raw["simulated"].str.lower().isin(["true", "1"]).any()
    return Observations(
        what.kind,
        points,
        alloys,
        quarantine,
        warnings,
        bool(simulated),
        paths,
        table.headers,
        table.notes,
    )


def _with_alloy(table: Table, path: Path, given: pd.DataFrame | None) -> Table:
    """Return a table whose rows name their alloy: without a column that could name it, it is one.

    It is the only one of the table of alloys, or is called as the file.

    Raises
    ------
    MatmlError
        As `ask_for_alloys`.
    """
    cells = table.cells
    if "alloy" in cells or cells.empty:
        return table
    ask_for_alloys(cells, path, "or give a column 'alloy' where all rows are of one")
    names = [path.stem] if given is None or "alloy" not in given else list(given["alloy"])
    if len(names) != 1:
        return table
    note = f"no column 'alloy': all rows are taken as one alloy, {names[0]!r}"
    return replace(table, cells=cells.assign(alloy=names[0]), notes=[*table.notes, note])


def _clean_rows(
    raw: pd.DataFrame, good: np.ndarray, measured: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return which of the rows that may be are plainly right [R], and these as points.

    A long file goes fast: only the others are judged one by one, by `_check_row`.
    """
    what, alloy = MEASURED[measured], raw["alloy"].str.strip()
    points: dict[str, object] = {"alloy": alloy}

    def numbers(name: str) -> np.ndarray:
        return pd.to_numeric(raw[name], errors="coerce").to_numpy(float)

    value = numbers(measured)
    good = good & what.holds(value) & (alloy != "").to_numpy()
    if "temperature_K" in what.conditions:
        points["temperature_K"] = kelvin = numbers("temperature_K")
        good &= (kelvin > what.coldest_K) & (kelvin <= HOTTEST_K)
    if "time_s" in what.conditions:
        points["time_s"] = time = numbers("time_s")
        good &= (time >= SHORTEST_S) & (time <= LONGEST_S)
    if "sigma" in raw:
        good &= (raw["sigma"].str.strip() == "").to_numpy()
    points |= {"value": value, "sigma": np.nan, "line": raw.index + 2}
    return good, pd.DataFrame(points, index=raw.index)[good]


def _without_starts(raw: pd.DataFrame, measured: str, table: Table) -> pd.DataFrame:
    """Return the rows but those of time 0 at which nothing has transformed: they say nothing."""
    if MEASURED[measured].kind != "fraction":
        return raw
    time, value = (pd.to_numeric(raw[name], errors="coerce") for name in ("time_s", measured))
    start = (time == 0) & (value.abs() <= FRACTION_NOISE)
    if start.any() and not start.all():
        table.notes.append(
            f"{start.sum()} row(s) of time 0 at which nothing has transformed are left aside: any "
            "kinetics begins so"
        )
        return raw[~start]
    return raw


def _lines(raw: pd.DataFrame) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number in the file, row) of rows that are not blank; the header is line 1."""
    for index, row in zip(raw.index, raw.to_dict("records"), strict=True):
        if any(str(cell).strip() for cell in row.values()):
            yield int(index) + 2, {str(name): str(cell) for name, cell in row.items()}


def _measured_column(path: Path, table: Table) -> str:
    """Return the one measured column of a table."""
    raw = table.cells
    found = [name for name in MEASURED if name in raw]
    if len(found) != 1:
        what = f"has {' and '.join(found)}" if found else "has no measured column"
        names = ", ".join(name for name in MEASURED if name != "assumed_fraction")
        if not found:
            there = ", ".join(map(str, table.original.columns))
            names += f" by its English name: the columns are {there}"
        hints = filter(None, [] if found else [_unnamed(table, name) for name in MEASURED])
        curves = [name for name in map(str, table.original) if CURVE.search(name)]
        if curves and not found:
            names = (
                f"of a column for each curve ({', '.join(curves)}) make one row for each point: "
                "its time in time_s, in ttt_fraction 0.01 for a start, 0.99 for a finish"
            )
            raise MatmlError(f"{path}: {what}; {next(hints, names)}")
        raise MatmlError(f"{path}: {what}; {next(hints, f'give exactly one of {names}')}")
    for name in ("alloy", *MEASURED[found[0]].conditions):
        if name not in raw and name != "temperature_K":
            remedy = table.lacking(name) or f"the columns are {', '.join(table.original.columns)}"
            raise MatmlError(
                f"{path}: column {name!r} is missing, which {found[0]} needs; {remedy}"
            )
    return found[0]


def _unnamed(table: Table, name: str) -> str:
    """Return what to do about a measured column whose header lacks a known unit."""
    said = table.lacking(name)
    return said if said.startswith("column") else ""


def _check_row(
    row: dict[str, str], table: Table, measured: str
) -> tuple[dict[str, object], tuple[str, str, str, str] | None]:
    """Return the row's values, or (field, value, reason, remedy) of its first fault."""
    if not row["alloy"].strip():
        return {}, ("alloy", "", "is empty", "name the alloy")
    what, numbers = MEASURED[measured], {}
    for name in ("temperature_K", "time_s", measured):
        if name == measured or name in what.conditions:
            number = _number(row[name])
            if isinstance(number, str):
                clock = name == "time_s" and ":" in row[name]
                remedy = "give seconds, or h:mm:ss in time_s" if clock else "give one finite number"
                return {}, (name, row[name], number, remedy)
            numbers[name] = number
    given_sigma = row.get("sigma", "").strip()
    sigma = _number(given_sigma) if given_sigma else math.nan
    if isinstance(sigma, str) or sigma <= 0:
        return {}, ("sigma", given_sigma, "is not a positive number", "leave it empty if unknown")
    if sigma > (1 if what.high == 1 and not what.strict else 1e6):
        reason = "no measurement is so uncertain on the scale on which it is compared"
        return {}, ("sigma", given_sigma, reason, "percent? give it as the measurement is compared")
    headers = {name: table.headers.get(name, name) for name in numbers}
    problems = {
        "temperature_K": lambda number: temperature_problem(
            number, headers["temperature_K"], what.coldest_K
        ),
        "time_s": time_problem,
        measured: lambda number: measured_problem(number, measured, headers[measured]),
    }
    for name, number in numbers.items():
        if problem := problems[name](number):
            return {}, (name, row[name], *problem)
    value = numbers.pop(measured)
    return {"alloy": row["alloy"].strip(), **numbers, "value": value, "sigma": sigma}, None


def _number(text: str) -> float | str:
    """Return a finite number, or what is wrong with the text."""
    if not text.strip():
        return "is empty"
    try:
        number = to_number(text)
    except ValueError:
        return "is not a number"
    return number if math.isfinite(number) else "is not finite"


def _add_others(
    raw: pd.DataFrame, points: pd.DataFrame, path: Path, measured: str, table: Table
) -> tuple[pd.DataFrame, list[list[object]]]:
    """Return the points with run, start temperature and other numbers; and what is wrong there.

    What is taken for granted is added to the table's notes.
    """
    rows = raw.loc[points["line"] - 2].reset_index(drop=True)
    needed = MEASURED[measured].conditions
    bad: list[list[object]] = []
    points, keep = points.copy(), np.ones(len(points), dtype=bool)

    def refuse(where: np.ndarray, name: str, reason: str, remedy: str) -> None:
        for i in np.flatnonzero(where & keep):
            row = points.iloc[i]
            bad.append([str(path), row["line"], row["alloy"], name, rows[name][i], reason, remedy])
        keep[where] = False

    for name in ("run", "path"):
        if name in rows:
            points[name] = rows[name].str.strip()
    for name in [str(n) for n in rows if n not in USUAL or n == "start_temperature_K"]:
        given = (rows[name].str.strip() != "").to_numpy()
        number = pd.to_numeric(rows[name], errors="coerce").to_numpy(float)
        number = np.where(np.isfinite(number), number, np.nan)
        if name == "start_temperature_K":
            wrong = given & ~((number > 0) & (number <= HOTTEST_K))
            reason = "is not a temperature at which a ramp can start"
            refuse(wrong, name, reason, "leave it empty for a hold")
            if name not in table.headers:
                cold = given & (number < COLDEST_K)
                reason = "is kelvin: no specimen of this kind comes from below 0 C"
                refuse(cold, name, reason, "Celsius? name the column start_temperature_C")
            points[name] = np.where(given, number, points["temperature_K"])
        elif name in INPUTS:
            low, high, reason, remedy = INPUTS[name]
            if name == "initial_grain_size_um" and measured == "grain_size_um" and 0 in number:
                number = np.where(number == 0, low, number)
                table.notes.append(f"{name} = 0 is taken as not measured, and small: {low:g} um")
            wrong = (given | (name in needed)) & ~((number >= low) & (number <= high))
            named = table.headers.get(name, name) in remedy.split()
            refuse(wrong, name, reason, "check it" if named else remedy)
            points[name] = number
        elif not np.isnan(number).all():
            refuse(np.abs(number) > LARGEST, name, "is no number that anybody measures", "check it")
            points[name] = number
    return points[keep].reset_index(drop=True), bad


def _drop_duplicates(points: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[list[object]]]:
    """Keep equal rows once; returns the rest and quarantine rows for the repetitions."""
    usual = ("alloy", "temperature_K", "time_s", "value", *APART)
    keys = [name for name in usual if name in points]
    lines = points.groupby(keys, sort=False, dropna=False)["line"] if len(points) else None
    first = None if lines is None else lines.transform("min")
    again = points.duplicated(keys)
    repeated: list[list[object]] = [
        [str(path), row.line, row.alloy, "", "", f"repeats line {origin}", "kept once"]
        for row, origin in zip(
            points[again].itertuples(), first[again] if first is not None else [], strict=True
        )
    ]
    return points[~again].reset_index(drop=True), repeated


def _sentence(row: pd.Series) -> str:
    """Return a quarantined row as one sentence."""
    return (
        f"line {row['line']}, {row['field']} = {row['value']!r}: {row['reason']}; {row['remedy']}"
    )
