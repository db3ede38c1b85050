"""Diagrams of the calibrated alloys of a run, read from the tables that calibration wrote."""

from typing import Any

import pandas as pd

from matml.figures.figure import Figure
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.figures import (
    cct_figure,
    curves_figure,
    level_figure,
    ttt_figure,
)
from matml.kinetics.diagrams.quantities import (
    ACROSS,
    CCT_COLUMNS,
    LEVELS,
    RUN_TIME,
    TTT_COLUMNS,
    UP,
    Subject,
)
from matml.report.html.results import Results


def alloy_figures(
    results: Results, dataset: str, place: str, record: dict[str, Any], simulated: bool
) -> list[Figure]:
    """Return the diagrams of one calibrated alloy that its files allow.

    Parameters
    ----------
    place
        Folder of the calibration, relative to the results.
    record
        Of `calibration.json`.
    """
    alloy = str(record.get("alloy", place.rsplit("/", 1)[1]))
    observations = record.get("observations")
    number = observations if isinstance(observations, int) else None
    subject = Subject(alloy, simulated, observations=number)
    used = _observations(results, f"{place}/observations.csv")
    others = _not_used(results, dataset, alloy, used)
    name = f"{dataset}-{place.rsplit('/', 1)[1]}"
    figures = []
    curves = results.table(f"{place}/ttt.csv", ("temperature_C",))
    if curves is not None and set(curves) >= TTT_COLUMNS:
        figures.append(ttt_figure(f"ttt-{name}", subject, curves, used, others))
    for kind, level in LEVELS.items():
        wanted = {level.column, "time_s", f"low_90_{level.unit}", f"high_90_{level.unit}"}
        if curves is not None and wanted <= set(curves):
            named = f"{kind.replace('_', '-')}-{name}"
            figures.append(level_figure(named, subject, level, curves, used, others))
    cooled = results.table(f"{place}/cct.csv", CCT_COLUMNS)
    if cooled is not None and len(cooled):
        figures.append(cct_figure(f"cct-{name}", subject, cooled, _start(cooled)))
    kind = str(record.get("kind", ""))
    if used is None or kind not in UP:
        return figures
    up = UP[kind]
    for file, across in (("curve", ACROSS[kind]), ("runs", RUN_TIME)):
        lines = results.table(f"{place}/{file}.csv", ("curve", "low_90", "high_90"))
        if lines is not None and {up.column, across.column} <= set(lines):
            figures.append(curves_figure(f"{file}-{name}", subject, lines, used, across, up))
    return figures


def kinetics_figures(results: Results) -> list[Figure]:
    """Return the diagrams of all calibrated alloys."""
    figures = []
    for name in results.names("kinetics/*/calibration/*/calibration.json"):
        place, dataset = name.rsplit("/", 1)[0], name.split("/")[1]
        record, simulated = results.json(name), is_simulated(results, dataset)
        figures += alloy_figures(results, dataset, place, record, simulated)
    return figures


def is_simulated(results: Results, dataset: str) -> bool:
    """Return whether a data set's observations were simulated; what is not told counts as so."""
    names = ("summary.json", "calibration/summary.json")
    found = (results.json(f"kinetics/{dataset}/{name}") for name in names)
    summary: dict[str, Any] = next(filter(None, found), {})
    return bool(summary.get("simulated", True))


def _start(cooled: pd.DataFrame) -> float:
    """Return the temperature from which cooling was counted, in °C."""
    first = cooled.iloc[0]
    return float(first["temperature_C"] + first["time_s"] * first["cooling_rate_K_s"])


def _observations(results: Results, file: str) -> pd.DataFrame | None:
    """Return observations with their temperatures in both scales, or None."""
    points = results.table(file)
    if points is None:
        return None
    points = points.rename(columns={"ttt_fraction": "fraction"})
    if not {"temperature_K", "temperature_C"} & set(points):
        return points
    if "temperature_C" not in points:
        return points.assign(temperature_C=points["temperature_K"] - ZERO_CELSIUS)
    return points.assign(temperature_K=points["temperature_C"] + ZERO_CELSIUS)


def _not_used(
    results: Results, dataset: str, alloy: str, used: pd.DataFrame | None
) -> pd.DataFrame | None:
    """Return the alloy's observations that the calibration has not seen, or None."""
    whole = _observations(results, f"kinetics/{dataset}/observations.csv")
    if whole is None or used is None or not {"alloy", "time_s", "temperature_C"} <= set(whole):
        return None
    own = whole[whole["alloy"].astype(str) == alloy]
    # the same point: equal time and temperature as far as the files tell
    taken = set(_keys(used))
    return own[[key not in taken for key in _keys(own)]]


def _keys(points: pd.DataFrame) -> list[tuple[str, str]]:
    pairs = zip(points["time_s"], points["temperature_C"], strict=True)
    return [(f"{time:.4g}", f"{temperature:.1f}") for time, temperature in pairs]
