"""The next concentration of patients that were not learned from, by the number of samples known."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from matml.bayes.gauss_newton import gauss_newton
from matml.bayes.tasks import Tasks
from matml.core.folds import deal
from matml.core.statistics import tidy_record
from matml.studies.patients.population import Assumptions, Population
from matml.studies.patients.records import Patient

INDIVIDUAL = "individualised, median"
CENTRED = "individualised, least relative error"
POPULATION = "population, no sample used"
SCALED = "population, scaled by the last sample"
ALONE = "least squares alone"
METHODS = (CENTRED, INDIVIDUAL, SCALED, POPULATION, ALONE)


def next_concentrations(
    patients: Sequence[Patient],
    assumptions: Assumptions,
    *,
    shots: Sequence[int] = (0, 1, 2),
    folds: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return predictions of each patient's sample after the first `shots`, learned from others.

    Returns
    -------
    pandas.DataFrame
        patient, fold, shots, method, predicted, measured, and of the individualised prediction
        low and high of the 90 % interval and `rank`, the share of draws below the measurement.
    """
    usable = [p for p in patients if len(p.times) and not assumptions.missing(p)]
    order = np.random.default_rng(seed).permutation(len(usable))
    fold_of = deal([usable[i].name for i in order], folds)
    rows: list[dict] = []
    for fold in range(folds):
        others = [p for p in usable if fold_of[p.name] != fold]
        population = Population.learn(others, assumptions)
        own = [p for p in usable if fold_of[p.name] == fold]
        for count in shots:
            tested = [p for p in own if len(p.times) > count]
            if tested:
                rows += _predicted(population, tested, count, fold, seed)
    return pd.DataFrame(rows)


def _predicted(
    population: Population, patients: Sequence[Patient], count: int, fold: int, seed: int
) -> list[dict]:
    known = [patient.until(count) for patient in patients]
    times = [patient.times[: count + 1] for patient in patients]
    draws = population.posterior(known, seed=seed).draws
    concentrations = population.concentrations(patients, times, draws)
    measured = population.measured(concentrations, seed)[:, :, count]
    low, middle, high = torch.quantile(measured, torch.tensor([0.05, 0.5, 0.95]).double(), 1)
    # what minimises the expected square of prediction / measurement - 1
    inverse = 1 / torch.maximum(measured, middle[:, None] / 20)
    centred = inverse.mean(1) / inverse.square().mean(1)
    data = population.assumptions.data_of(patients, times)
    mean = data.offset + data.design @ population.effects.beta
    typical = population.concentrations(patients, times, mean[:, None])[:, 0]
    alone = _alone(population, known, mean)
    rows = []
    for i, patient in enumerate(patients):
        truth, base = float(patient.concentrations[count]), float(typical[i, count])
        found = {CENTRED: float(centred[i]), INDIVIDUAL: float(middle[i]), POPULATION: base}
        if count:
            found[SCALED] = base * float(patient.concentrations[count - 1] / typical[i, count - 1])
        if count >= draws.shape[2]:
            own = population.concentrations([patient], [times[i]], alone[i][None, None])
            found[ALONE] = float(own[0, 0, count])
        where = {"patient": patient.name, "fold": fold, "shots": count, "measured": truth}
        for method, value in found.items():
            row = where | {"method": method, "predicted": value}
            if method == INDIVIDUAL:
                rank = float((measured[i] < truth).double().mean())
                row |= {"low": float(low[i]), "high": float(high[i]), "rank": rank}
            rows.append(row)
    return rows


def _alone(
    population: Population, patients: Sequence[Patient], start: torch.Tensor
) -> torch.Tensor:
    """Return log parameters by least squares of relative errors, each patient by itself."""
    data = population.assumptions.data_of(patients)
    predict = population.assumptions.kinetics.predict
    tasks = Tasks.of(
        lambda z, c: predict(z, c).clamp(min=1e-9).log() - c["measured"].log(),
        data.columns,
        data.mask,
    )
    return gauss_newton(tasks.linearise, start, tasks.weights(1.0)).position


def relative_errors(table: pd.DataFrame) -> pd.DataFrame:
    """Return each prediction's error relative to the measurement, a column a method."""
    errors = (table["predicted"] / table["measured"] - 1).rename("error")
    wide = table[["patient", "shots", "method"]].assign(error=errors)
    return wide.pivot_table(
        index=["shots", "patient"], columns="method", values="error", sort=False
    )


def root_mean_square(errors: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the root of the mean square."""
    return np.sqrt(np.square(errors).mean(axis))


def summarise(name: str, table: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """Return tidy records: errors and coverage by method with 95 % bootstraps over patients.

    `change_of_error` is the method's error less that of scaling by the last sample, on the same
    patients and resamples.
    """
    found: list[dict[str, Any]] = []

    def add(shots: int, method: str, metric: str, values: np.ndarray, average: Callable) -> None:
        record = tidy_record(
            "patients",
            name,
            method,
            metric,
            values,
            shots=shots,
            is_default=method == INDIVIDUAL,
            seed=seed,
            average=average,
        )
        found.append(record)

    for shots, block in relative_errors(table).groupby(level="shots"):
        for method in [m for m in METHODS if m in block]:
            errors = block[method].dropna().to_numpy()
            if len(errors):
                add(shots, method, "relative_rmse", errors, root_mean_square)
        if shots and SCALED in block:
            for method in (CENTRED, INDIVIDUAL):
                pairs = block[[method, SCALED]].to_numpy()
                add(shots, method, "change_of_relative_rmse", pairs, _difference)
        own = table[(table["method"] == INDIVIDUAL) & (table["shots"] == shots)]
        inside = own["measured"].between(own["low"], own["high"]).to_numpy(dtype=float)
        add(shots, INDIVIDUAL, "coverage_90", inside, np.mean)
    return found


def _difference(pairs: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the first column's root mean square less the second's, [..., patients, 2]."""
    mine, other = root_mean_square(pairs, -2).T
    return (mine - other).T


def table_lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the lines of a table of records: errors with intervals, differences, coverage."""
    shots = sorted({record["shots"] for record in records})
    lines = [f"{'samples known':56}" + "".join(f"{k:>20}" for k in shots)]
    titles = {
        "relative_rmse": "",
        "change_of_relative_rmse": " less scaled",
        "coverage_90": ": coverage of 90 %",
    }
    for metric, suffix in titles.items():
        for method in METHODS:
            own = [r for r in records if (r["metric"], r["method"]) == (metric, method)]
            cells = {r["shots"]: _cell(r) for r in own}
            if cells:
                texts = (f"{cells.get(k, ''):>20}" for k in shots)
                lines.append(f"{method + suffix:56}" + "".join(texts))
    counts = {r["shots"]: str(r["n_tasks"]) for r in records if r["method"] == INDIVIDUAL}
    return [*lines, f"{'patients':56}" + "".join(f"{counts[k]:>20}" for k in shots)]


def _cell(record: dict[str, Any]) -> str:
    value, low, high = (record[name] for name in ("value", "low", "high"))
    ends = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * value:.1f}{ends}"


def ranks_are_uniform(ranks: np.ndarray, bins: int = 10) -> float:
    """Return the p-value of Pearson's test that ranks are uniform; small: miscalibrated."""
    from scipy.special import chdtrc

    counts = np.histogram(ranks, bins, (0, 1))[0]
    expected = len(ranks) / bins
    return (
        float(chdtrc(bins - 1, ((counts - expected) ** 2 / expected).sum()))
        if expected
        else math.nan
    )
