"""Doses and concentrations of patients from a CSV file as NONMEM and its relatives read it.

Columns, in any case: ID (any text), TIME (h, or another unit throughout), AMT (of a dose), DV
(concentration); optional EVID (0 sample, 1 dose, 2 neither), MDV (1: no sample), RATE (of an
infusion), ADDL and II (further doses, every II), SS (1: given every II for long), LLOQ (limit of
quantification), BLQ or CENS (1: below it); every other column is a covariate, of which a patient's
first value counts. "." is an empty cell.

What would make the history of doses doubtful is refused; a sample or patient that cannot be used is
set aside, with its row and a remedy.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.cells import number_or_nan
from matml.core.text.table import FIRST_ROW, read_text_table

NEEDED = ("ID", "TIME", "AMT", "DV")
EVENTS = ("EVID", "MDV", "RATE", "ADDL", "II", "SS", "LLOQ", "BLQ", "CENS", "CMT")
ASIDE = ["row", "id", "column", "value", "reason", "remedy"]
OTHER_UNIT = 100.0
"""A concentration this many times off what its dose gives elsewhere is in another unit."""
SAME_TIME = "give the sample's own time, or put its row before the dose's if it was drawn before"


@dataclass
class Patient:
    """What was given to a patient, and what was measured; arrays, by time.

    Attributes
    ----------
    doses
        Time, amount, duration of infusion (0: none) and interval (steady state; 0: none), [D, 4].
    times, concentrations, rows
        Of the samples; rows as a spreadsheet counts them.
    covariates
        By column; a missing one is not there.
    first_row
        In the file.
    """

    name: str
    doses: np.ndarray
    times: np.ndarray
    concentrations: np.ndarray
    rows: list[int]
    covariates: dict[str, float] = field(default_factory=dict)
    first_row: int = 0

    def until(self, count: int) -> "Patient":
        """Return the patient with the first `count` samples only."""
        own = vars(self) | {
            name: getattr(self, name)[:count] for name in ("times", "concentrations")
        }
        return Patient(**own | {"rows": self.rows[:count]})

    def given_before(self, time: float) -> float:
        """Return the amount given before a time, each steady-state dose once."""
        return float(self.doses[self.doses[:, 0] < time, 1].sum())


@dataclass(frozen=True)
class Records:
    """What a file holds: patients, and what was set aside (columns `ASIDE`)."""

    patients: list[Patient]
    aside: pd.DataFrame


class _Row:
    """A row of the file, whose cells are read as numbers on demand."""

    def __init__(self, path: Path, number: int, cells: dict[str, str]) -> None:
        self.path, self.number, self.cells = path, number, cells

    def text(self, column: str) -> str:
        value = self.cells.get(column, "")
        return "" if value == "." else value

    def number_of(self, column: str, default: float = 0.0, least: float = 0.0) -> float:
        text = self.text(column)
        if not text:
            return default
        value = number_or_nan(text)
        if not math.isfinite(value) or value < least:
            self.refuse(column, f"give a number of at least {least:g}, or '.'")
        return value

    def refuse(self, column: str, remedy: str) -> None:
        place = f"{self.path}: row {self.number}, {column} {self.text(column)!r}"
        raise MatmlError(f"{place}: {remedy}")


def read_patients(path: str | Path, *, bolus: bool = False) -> Records:
    """Return the patients of a file.

    Parameters
    ----------
    bolus
        Whether a dose that is no infusion is in the blood at once: a sample at its time is then
        either before or after it.

    Raises
    ------
    MatmlError
        For what makes times or doses doubtful: names row, column, value and remedy.
    """
    path = Path(path)
    table = read_text_table(path)
    table.columns = [name.upper() for name in table.columns]
    for name in NEEDED:
        if list(table.columns).count(name) != 1:
            raise MatmlError(
                f"{path}: needs one column {name}; it has {', '.join(table.columns)}. Rename "
                f"columns to {', '.join(NEEDED)} (identifier, time, amount, concentration)"
            )
    rows = [
        _Row(path, FIRST_ROW + int(index), dict(zip(table.columns, cells, strict=True)))
        for index, cells in zip(table.index, table.itertuples(index=False, name=None), strict=True)
    ]
    aside: list[tuple] = []
    found = [_patient(name, own, bolus, aside) for name, own in _by_patient(rows)]
    patients = _in_one_unit([p for p in found if p is not None], aside)
    return Records(patients, pd.DataFrame(aside, columns=ASIDE))


def _by_patient(rows: list[_Row]) -> Iterator[tuple[str, list[_Row]]]:
    """Yield each patient's rows, in which time does not run backwards."""
    found: dict[str, list[_Row]] = {}
    last = ""
    for row in rows:
        name = row.text("ID")
        if not name:
            row.refuse("ID", "name the patient")
        if name in found and name != last:
            row.refuse("ID", "other patients stand between: sort by ID, or give each its own")
        last = name
        own = found.setdefault(name, [])
        if not row.text("TIME"):
            row.refuse("TIME", "give the time since the patient's first dose")
        time = row.number_of("TIME", least=-math.inf)
        if own and time < own[-1].number_of("TIME", least=-math.inf):
            row.refuse("TIME", "is before the row above: sort by time, or count on from day to day")
        own.append(row)
    yield from found.items()


def _event(row: _Row) -> int:
    """Return 0 for a sample, 1 for a dose, 2 for neither."""
    amount, measured = row.number_of("AMT"), row.text("DV")
    default = 1 if amount else 0 if measured else 2
    event = row.number_of("EVID", default)
    if event not in (0, 1, 2):
        row.refuse("EVID", "must be 0, 1 or 2: give a patient who starts anew another ID")
    if event == 1 and not amount:
        row.refuse("AMT", "the row is a dose: give its amount, or EVID 0 or 2")
    if event != 1 and amount:
        row.refuse("AMT", "the row is no dose: empty AMT, or put the dose into its own row, EVID 1")
    told = measured and number_or_nan(measured) != 0 and not row.number_of("MDV")
    if event == 1 and "EVID" not in row.cells and told:
        row.refuse("DV", "a dose and a sample in one row: give each its own row")
    return 2 if event == 0 and row.number_of("MDV") else int(event)


def _doses(row: _Row) -> list[list[float]]:
    """Return the doses of a row: time, amount, duration, interval."""
    time, amount = row.number_of("TIME", least=-math.inf), row.number_of("AMT")
    rate, interval = row.number_of("RATE"), row.number_of("II")
    more, steady = int(row.number_of("ADDL")), row.number_of("SS")
    if steady not in (0, 1):
        row.refuse("SS", "must be 0 or 1")
    if (more or steady) and not interval:
        row.refuse("II", "ADDL and SS repeat the dose: give the interval")
    duration = amount / rate if rate else 0.0
    if steady and duration > interval:
        row.refuse("RATE", f"takes {duration:g}, longer than the interval {interval:g}: check both")
    first = [time, amount, duration, interval if steady else 0.0]
    return [first] + [[time + k * interval, amount, duration, 0.0] for k in range(1, more + 1)]


def _patient(name: str, rows: list[_Row], bolus: bool, aside: list[tuple]) -> Patient | None:
    """Return a patient with the samples that can be used; None without any dose."""
    doses: list[list[float]] = []
    given: list[tuple[float, bool]] = []
    samples = []
    for row in rows:
        event = _event(row)
        if event == 1:
            doses += _doses(row)
            given.append((row.number_of("TIME", least=-math.inf), not row.number_of("RATE")))
        elif event == 0:
            time = row.number_of("TIME", least=-math.inf)
            # an infusion and an absorbed dose begin from nothing, so the order does not matter
            jump = bolus and (time, True) in given
            problem = ("TIME", "a dose at the same time jumps", SAME_TIME) if jump else None
            before = not any(dose[0] < time for dose in doses)
            if before and not jump:
                problem = ("TIME", "no dose before it", "give the dose, or take the sample out")
            problem = _unusable(row) or problem
            if problem:
                column, reason, remedy = problem
                aside.append((row.number, name, column, row.text(column), reason, remedy))
            else:
                samples.append((time, row.number_of("DV"), row.number))
    if not doses:
        why = ("ID", name, "no dose", "give the patient's doses")
        aside.append((rows[0].number, name, *why))
        return None
    covariates: dict[str, float] = {}
    for column in rows[0].cells:
        if column not in (*NEEDED, *EVENTS):
            values = [number_or_nan(row.text(column)) for row in rows if row.text(column)]
            if values and math.isfinite(values[0]):
                covariates[column] = values[0]
    times, concentrations = (np.array([s[k] for s in samples], dtype=float) for k in (0, 1))
    table = np.array(sorted(doses, key=lambda dose: dose[0]))
    numbers = [s[2] for s in samples]
    return Patient(name, table, times, concentrations, numbers, covariates, rows[0].number)


def _unusable(row: _Row) -> tuple[str, str, str] | None:
    """Return column, reason and remedy where a sample says no number."""
    text = row.text("DV")
    limit, value = row.number_of("LLOQ"), number_or_nan(text)
    if text.startswith("<") or row.number_of("BLQ") or row.number_of("CENS") or value < limit:
        remedy = "nothing to do: it is left out, which overrates late concentrations a little"
        return "DV", "below the limit of quantification", remedy
    if not math.isfinite(value):
        return "DV", "no number", "give a number, or MDV 1"
    if value <= 0:
        return "DV", "not positive", "below the limit of quantification? Give BLQ 1, or MDV 1"
    return None


def dose_ratio(patient: Patient) -> float:
    """Return the highest concentration over the amount given before; NaN without samples."""
    ratios = [
        value / patient.given_before(time)
        for time, value in zip(patient.times, patient.concentrations, strict=True)
    ]
    return max(ratios, default=math.nan)


def in_another_unit(patient: Patient, typical: float) -> str:
    """Return what is odd about a patient's concentrations over doses, '' where nothing is."""
    factor = dose_ratio(patient) / typical
    if math.isfinite(factor) and max(factor, 1 / factor) > OTHER_UNIT:
        return f"concentrations over doses are {factor:.3g} times those of others"
    return ""


def _in_one_unit(patients: list[Patient], aside: list[tuple]) -> list[Patient]:
    """Return the patients without what must be in another unit, such as mg for micrograms."""
    remedy = "mg for micrograms? Give doses and concentrations in the units of the other patients"
    for patient in patients:
        order = np.argsort(patient.concentrations)
        if (
            len(order) > 2
            and patient.concentrations[order[-1]] > OTHER_UNIT * patient.concentrations[order[-2]]
        ):
            at = int(order[-1])
            reason = f"{OTHER_UNIT:g} times all others of the patient"
            aside.append(
                (
                    patient.rows[at],
                    patient.name,
                    "DV",
                    f"{patient.concentrations[at]:g}",
                    reason,
                    remedy,
                )
            )
            patient.times, patient.concentrations = (
                np.delete(array, at) for array in (patient.times, patient.concentrations)
            )
            del patient.rows[at]
    ratios = [dose_ratio(patient) for patient in patients]
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    if len(known) < 3:
        return patients
    good, typical = [], float(np.median(known))
    for patient in patients:
        if reason := in_another_unit(patient, typical):
            value = f"{patient.concentrations.max():g}"
            aside.append((patient.first_row, patient.name, "DV", value, reason, remedy))
        else:
            good.append(patient)
    return good
