"""Observations of transformation kinetics: the tidy CSV, checked row by row.

One row per observation: `alloy`, `temperature_K` or `temperature_C`, `time_s`, and what was
measured: `fraction_transformed`, or `hardness_HRC`, or `grain_size_um` (with
`initial_grain_size_um`), or `particle_radius_nm`, or, for a point of a TTT curve, the fraction that
the curve stands for in `ttt_fraction` (`assumed_fraction` is read too; then the time is what was
measured). `martensite_fraction` needs a temperature alone; `peak_temperature_K` (or `_C`) needs
`heating_rate_K_per_s` (or `_per_min`) instead of both. Optional:

- `sigma`, the standard deviation of the measurement on the scale on which it is compared (fraction;
  HRC; log10 of um; log10 of s), and `simulated`;
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
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text import read_text_table
from matml.kinetics.data.alloys import group_alloys, read_alloys
from matml.kinetics.data.columns import (
    APART,
    HOTTEST_K,
    INPUTS,
    MEASURED,
    ZERO_CELSIUS,
    in_usual_units,
    measured_problem,
    temperature_problem,
)
from matml.kinetics.data.thermal_history import History, follow_paths

START = ("start_temperature_K", "start_temperature_C")
USUAL_COLUMNS = {
    *("alloy", "temperature_K", "temperature_C", "time_s", "sigma", "simulated", "run", "path")
}
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
    """

    kind: str
    points: pd.DataFrame
    alloys: pd.DataFrame
    quarantine: pd.DataFrame
    warnings: list[str] = field(default_factory=list)
    simulated: bool = False
    paths: dict[str, History] = field(default_factory=dict)

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
    raw = in_usual_units(_read_text_table(path), path)
    measured = _measured_column(path, raw)
    what = MEASURED[measured]
    paths: dict[str, History] = {}
    bad: list[list[object]] = []
    if "path" in raw and "time_s" in what.conditions:
        raw, paths, bad = follow_paths(raw, path)
    temperature = _temperature_column(path, raw) if "temperature" in what.conditions else None
    rows = []
    good, clean = _clean_rows(raw, temperature, measured)
    for line, row in _lines(raw[~good]):
        values, problem = _check_row(row, temperature, measured)
        if problem is None:
            rows.append(values | {"line": line})
        else:
            bad.append([str(path), line, row["alloy"].strip(), *problem])
    judged = pd.DataFrame(rows, columns=list(clean)).astype(clean.dtypes.to_dict())
    points = pd.concat([clean, judged]).sort_values("line", ignore_index=True)
    points, wrong = _add_others(raw, points, path, measured)
    points, repeated = _drop_duplicates(points, path)
    bad += wrong
    quarantine = pd.DataFrame(bad + repeated, columns=QUARANTINE_COLUMNS)
    if points.empty:
        first = f"; the first: {_sentence(quarantine.iloc[0])}" if len(quarantine) else ""
        raise MatmlError(f"{path}: no usable row among {len(raw)}{first}")
    warnings = []
    lost = sorted(set(quarantine["alloy"]) - set(points["alloy"]) - {""})
    for name in lost:
        reason = quarantine.loc[quarantine["alloy"] == name, "reason"].iloc[0]
        warnings.append(f"{path}: alloy {name!r} has no usable row left ({reason})")
    if temperature is not None:
        warnings += suspicious_temperatures(points, temperature)
    points = points.rename(columns={"value": "fraction" if what.kind == "ttt" else measured})
    names = list(dict.fromkeys(points["alloy"]))
    if alloys_path is None:
        alloys = pd.DataFrame({"alloy": names})
    else:
        alloys, missing = read_alloys(alloys_path, names)
        warnings += missing
    alloys = group_alloys(alloys)
    simulated = "simulated" in raw and raw["simulated"].str.lower().isin(["true", "1"]).any()
    return Observations(what.kind, points, alloys, quarantine, warnings, bool(simulated), paths)


def suspicious_temperatures(points: pd.DataFrame, column: str) -> list[str]:
    """Return a warning for each alloy whose temperatures look like the other scale's.

    Evidence is the other alloys of the same file: the alloy lies wholly outside their range, and
    shifting it by 273.15 K would bring it inside. With fewer than three alloys nothing is said.
    """
    ranges = points.groupby("alloy", sort=False)["temperature_K"].agg(["min", "median", "max"])
    if len(ranges) < 3:
        return []
    found = []
    for name, own in ranges.iterrows():
        others = ranges.drop(index=name)
        low, high = others["min"].min(), others["max"].max()
        shift = ZERO_CELSIUS if own["max"] < low else -ZERO_CELSIUS
        outside = own["max"] < low or own["min"] > high
        if outside and low <= own["median"] + shift <= high:
            meant = "Celsius given as kelvin" if shift > 0 else "kelvin given as Celsius"
            if (shift > 0) != (column == "temperature_K"):
                continue
            found.append(
                f"alloy {name!r}: its temperatures ({own['min']:.0f} to {own['max']:.0f} K) lie "
                f"outside those of the {len(others)} other alloys ({low:.0f} to {high:.0f} K) and "
                f"would lie inside if shifted by {shift:+.0f} K: {meant}? Check column {column}"
            )
    return found


def _read_text_table(path: Path) -> pd.DataFrame:
    """Return the CSV with every cell as text, so that each cell can be judged by itself."""
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give a CSV of observations")
    return read_text_table(path)


def _clean_rows(
    raw: pd.DataFrame, temperature: str | None, measured: str
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return which rows are plainly right [R], and these as points: a long file goes fast.

    The others are judged one by one, by `_check_row`.
    """
    what, alloy = MEASURED[measured], raw["alloy"].str.strip()
    points: dict[str, object] = {"alloy": alloy}

    def numbers(name: str) -> np.ndarray:
        return pd.to_numeric(raw[name], errors="coerce").to_numpy(float)

    value = numbers(measured)
    good = (value > what.low) & (value < what.high)
    good |= ((value == what.low) | (value == what.high)) & (not what.strict)
    good &= (alloy != "").to_numpy()
    if temperature is not None:
        offset = ZERO_CELSIUS if temperature == "temperature_C" else 0.0
        points["temperature_K"] = kelvin = numbers(temperature) + offset
        good &= (kelvin > what.coldest_K) & (kelvin <= HOTTEST_K)
    if "time_s" in what.conditions:
        points["time_s"] = time = numbers("time_s")
        good &= (time > 0) & np.isfinite(time)
    if "sigma" in raw:
        good &= (raw["sigma"].str.strip() == "").to_numpy()
    points |= {"value": value, "sigma": np.nan, "line": raw.index + 2}
    return good, pd.DataFrame(points, index=raw.index)[good]


def _lines(raw: pd.DataFrame) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number in the file, row) of rows that are not blank; the header is line 1."""
    for index, row in zip(raw.index, raw.to_dict("records"), strict=True):
        if any(str(cell).strip() for cell in row.values()):
            yield int(index) + 2, {str(name): str(cell) for name, cell in row.items()}


def _measured_column(path: Path, raw: pd.DataFrame) -> str:
    """Return the one measured column of a table."""
    found = [name for name in MEASURED if name in raw]
    if len(found) != 1:
        what = f"has {' and '.join(found)}" if found else "has no measured column"
        names = ", ".join(name for name in MEASURED if name != "assumed_fraction")
        raise MatmlError(f"{path}: {what}; give exactly one of {names}")
    for name in ("alloy", *MEASURED[found[0]].conditions):
        if name not in raw and name != "temperature":
            raise MatmlError(
                f"{path}: column {name!r} is missing, which {found[0]} needs; the columns are "
                f"{', '.join(raw.columns)}"
            )
    return found[0]


def _temperature_column(path: Path, raw: pd.DataFrame) -> str:
    """Return the one temperature column of a table."""
    found = [name for name in ("temperature_K", "temperature_C") if name in raw]
    if len(found) != 1:
        what = "both temperature_K and temperature_C" if found else "no temperature column"
        raise MatmlError(f"{path}: has {what}; give one of temperature_K and temperature_C")
    return found[0]


def _check_row(
    row: dict[str, str], temperature: str | None, measured: str
) -> tuple[dict[str, object], tuple[str, str, str, str] | None]:
    """Return the row's values, or (field, value, reason, remedy) of its first fault."""
    if not row["alloy"].strip():
        return {}, ("alloy", "", "is empty", "name the alloy")
    what, numbers = MEASURED[measured], {}
    timed = "time_s" in what.conditions
    for name in (*filter(None, [temperature]), *(("time_s",) if timed else ()), measured):
        number = _number(row[name])
        if isinstance(number, str):
            return {}, (name, row[name], number, "give one finite number")
        numbers[name] = number
    given_sigma = row.get("sigma", "").strip()
    sigma = _number(given_sigma) if given_sigma else math.nan
    if isinstance(sigma, str) or sigma <= 0:
        return {}, ("sigma", given_sigma, "is not a positive number", "leave it empty if unknown")
    values: dict[str, object] = {"alloy": row["alloy"].strip()}
    if temperature is not None:
        kelvin = numbers[temperature] + (ZERO_CELSIUS if temperature == "temperature_C" else 0.0)
        if problem := temperature_problem(kelvin, temperature, what.coldest_K):
            return {}, (temperature, row[temperature], *problem)
        values["temperature_K"] = kelvin
    if timed:
        if numbers["time_s"] <= 0:
            reason = "time must be positive"
            return {}, ("time_s", row["time_s"], reason, "count from reaching it")
        values["time_s"] = numbers["time_s"]
    if problem := measured_problem(numbers[measured], measured):
        return {}, (measured, row[measured], *problem)
    return values | {"value": numbers[measured], "sigma": sigma}, None


def _number(text: str) -> float | str:
    """Return a finite number, or what is wrong with the text."""
    if not text.strip():
        return "is empty"
    try:
        number = float(text)
    except ValueError:
        return "is not a number"
    return number if math.isfinite(number) else "is not finite"


def _add_others(
    raw: pd.DataFrame, points: pd.DataFrame, path: Path, measured: str
) -> tuple[pd.DataFrame, list[list[object]]]:
    """Return the points with run, start temperature and other numbers; and what is wrong there.

    Raises
    ------
    MatmlError
        Where start temperatures stand in both scales.
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
    starts = [name for name in START if name in rows]
    if len(starts) > 1:
        raise MatmlError(f"{path}: has both {' and '.join(START)}; give one")
    others = [str(n) for n in rows if n not in {*USUAL_COLUMNS, *MEASURED, *START}]
    for name in [*starts, *others]:
        given = (rows[name].str.strip() != "").to_numpy()
        number = pd.to_numeric(rows[name], errors="coerce").to_numpy(float)
        number = np.where(np.isfinite(number), number, np.nan)
        if name in starts:
            kelvin = number + (ZERO_CELSIUS if name == "start_temperature_C" else 0.0)
            wrong = given & ~((kelvin > 0) & (kelvin <= HOTTEST_K))
            refuse(
                wrong,
                name,
                "is not a temperature at which a ramp can start",
                "leave it empty for a hold",
            )
            points["start_temperature_K"] = np.where(given, kelvin, points["temperature_K"])
        elif name in INPUTS:
            low, high, reason, remedy = INPUTS[name]
            wrong = (given | (name in needed)) & ~((number >= low) & (number <= high))
            refuse(wrong, name, reason, remedy)
            points[name] = number
        elif not np.isnan(number).all():
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
