"""What a patient's concentrations will be, with bands, and which dose reaches a target."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.core.errors import MatmlError
from matml.figures.figure import BLUE, ORANGE, Axis, Band, Figure, Panels, Part, Series
from matml.studies.patients.population import NOT_FOR_CLINICAL_USE, Population
from matml.studies.patients.records import Patient, in_another_unit

QUANTILES = (0.05, 0.5, 0.95)
MOST_PANELS = 12


def usable_patients(
    population: Population, patients: Sequence[Patient]
) -> tuple[list[Patient], list[dict]]:
    """Return the patients that the population can be used for, and rows on the others."""
    good, aside = [], []
    for patient in patients:
        column = population.assumptions.missing(patient)
        reason = f"{column} is missing or not positive" if column else ""
        remedy = f"give {column} of the patient, which the population needs"
        if not reason and (reason := in_another_unit(patient, population.typical_ratio)):
            column, remedy = "DV", "mg for micrograms? Give the units that the population has"
        if reason:
            row = {"row": patient.first_row, "id": patient.name, "column": column, "value": ""}
            aside.append(row | {"reason": reason, "remedy": remedy})
        else:
            good.append(patient)
    return good, aside


def grid_of(patient: Patient, until: float | None, points: int = 121) -> np.ndarray:
    """Return times from the first dose on, to `until` or a quarter beyond the last row."""
    first = float(patient.doses[0, 0])
    last = max(float(patient.doses[-1, 0]), float(max(patient.times, default=first)))
    end = until if until is not None else last + 0.25 * max(last - first, 24.0)
    if end <= first:
        raise MatmlError(
            f"patient {patient.name}: the forecast until {end:g} ends before the first dose at "
            f"{first:g}; give a later time"
        )
    return np.linspace(first, end, points)


def forecast(
    population: Population,
    patients: Sequence[Patient],
    times: Sequence[np.ndarray],
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Return id, time, median and 90 % band of the concentration, and of what is measured."""
    draws = population.posterior(patients, seed=seed).draws
    found = population.concentrations(patients, times, draws)
    levels = torch.tensor(QUANTILES, dtype=found.dtype)
    true = torch.quantile(found, levels, 1).numpy()
    seen = torch.quantile(population.measured(found, seed), levels, 1).clamp(min=0.0).numpy()
    tables = []
    for i, (patient, at) in enumerate(zip(patients, times, strict=True)):
        columns = {"id": patient.name, "time": at, "median": true[1, i, : len(at)]}
        columns |= {"low_90": true[0, i, : len(at)], "high_90": true[2, i, : len(at)]}
        columns |= {"measured_low_90": seen[0, i, : len(at)]}
        columns |= {"measured_high_90": seen[2, i, : len(at)]}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def figure(table: pd.DataFrame, patients: Sequence[Patient]) -> Panels:
    """Return the bands through the samples, a panel a patient."""
    by_name = {patient.name: patient for patient in patients}
    panels = []
    for name, own in list(table.groupby("id", sort=False))[:MOST_PANELS]:
        time, patient = own["time"].to_numpy(), by_name[name]
        loop = np.concatenate([time, time[::-1]])
        edges = np.concatenate([own["measured_low_90"], own["measured_high_90"][::-1]])
        parts: list[Part] = [
            Band(loop, edges, "90 % of measurements", BLUE),
            Series(time, own["median"], "median", BLUE, width=1.5),
            Series(patient.times, patient.concentrations, "sample", ORANGE, symbol="circle"),
        ]
        axes = Axis("time"), Axis("concentration", from_zero=True)
        panels.append(Figure(f"patient_{name}", f"patient {name}", *axes, parts))
    rows = [panels[i : i + 4] for i in range(0, len(panels), 4)]
    note = f"{NOT_FOR_CLINICAL_USE} Bands: 90 % of measurements, from population and samples."
    return Panels("Concentrations of patients, individualised", rows, note, 3.2, 2.6)


@dataclass(frozen=True)
class Dosing:
    """A dose for a target.

    Attributes
    ----------
    amount
        Of each dose, most likely within the target; 0 where no dose helps.
    chance
        That the concentration then lies in the target.
    low, median, high
        Of the concentration, 90 % band.
    without
        Median of the concentration without a further dose.
    careful
        Largest amount with which the concentration exceeds the target with 5 % chance at most.
    """

    amount: float
    chance: float
    low: float
    median: float
    high: float
    without: float
    careful: float


def choose_dose(
    population: Population,
    patient: Patient,
    target: tuple[float, float],
    *,
    give_at: float,
    measure_at: float,
    interval: float = 0.0,
    doses: int = 1,
    duration: float = 0.0,
    seed: int = 0,
) -> Dosing:
    """Return the dose with which a concentration most likely lies in the target.

    Concentrations are linear in the dose: one of 1 says all.

    Parameters
    ----------
    target
        Lowest and highest concentration.
    give_at, interval, doses, duration
        First new dose, and how often it is repeated; duration of an infusion.
    measure_at
        When the concentration is to be in the target.

    Raises
    ------
    MatmlError
        For a target or times that cannot be.
    """
    low, high = target
    if not 0 < low < high:
        raise MatmlError(f"target {low:g} to {high:g}: give a lower and a higher positive number")
    if measure_at <= give_at:
        raise MatmlError(
            f"the target is for {measure_at:g}, not after the dose at {give_at:g}; "
            "give a later time"
        )
    if doses > 1 and not interval > 0:
        raise MatmlError(f"{doses} doses need the interval between them")
    last = float(patient.doses[-1, 0])
    if give_at < last:
        raise MatmlError(f"a dose at {give_at:g} is before the last one given, at {last:g}")
    draws = population.posterior([patient], seed=seed).draws
    new = np.array([[give_at + k * interval, 1.0, duration, 0.0] for k in range(doses)])
    at = [np.array([measure_at])]
    base = _at(population, patient, at, draws)
    unit = _at(population, replace(patient, doses=new), at, draws)
    if not float(unit.median()) > 0:
        raise MatmlError(f"a dose at {give_at:g} does nothing at {measure_at:g}; check the times")
    # between the dose that brings no one to the target and that which takes all beyond it
    amounts = torch.linspace(0, float((high / unit).max()), 2001, dtype=unit.dtype)
    found = base + amounts[:, None] * unit
    chances = ((found >= low) & (found <= high)).double().mean(1)
    beyond = (found > high).double().mean(1)
    best = int(torch.nonzero(chances == chances.max()).double().mean().round())
    band = torch.quantile(found[best], torch.tensor(QUANTILES, dtype=found.dtype))
    within = torch.nonzero(beyond <= 0.05)
    careful = float(amounts[within.max()]) if len(within) else 0.0
    below, median, above = band.tolist()
    return Dosing(
        float(amounts[best]),
        float(chances[best]),
        below,
        median,
        above,
        float(base.median()),
        careful,
    )


def _at(population: Population, patient: Patient, at: list[np.ndarray], draws: Tensor) -> Tensor:
    """Return concentrations of all draws at one time, [S]."""
    return population.concentrations([patient], at, draws)[0, :, 0]
