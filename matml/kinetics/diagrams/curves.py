"""Curves of a calibrated alloy over what was varied, with a 90 % band and the data on them.

For kinds of observation that no time-temperature diagram shows: martensite over temperature, peaks
over heating rate, radius or recrystallised fraction over time, and fractions along a specimen's own
temperature history. One curve per set of the other conditions.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from matml.core.files import atomic
from matml.kinetics.data.batch import with_alloy_inputs
from matml.kinetics.data.columns import ZERO_CELSIUS
from matml.kinetics.data.thermal_history import History, on_history, path_columns
from matml.kinetics.inference.calibration import Calibration

GRID = 80
MOST_CURVES = 6
COLOURS = ("#1b6ca8", "#b3541e", "#2e7d32", "#7b4b94", "#8a6d00", "#444444")


@dataclass(frozen=True)
class Axis:
    """A quantity drawn along an axis: its column, label, and what is taken off it."""

    column: str
    label: str
    log: bool = False
    offset: float = 0.0


TIME = Axis("time_s", "time / s", log=True)
CELSIUS = Axis("temperature_K", "temperature / °C", offset=ZERO_CELSIUS)
ACROSS = {
    "martensite": CELSIUS,
    "peak_temperature": Axis("heating_rate_K_per_s", "heating rate / (K/s)", log=True),
    "particle_radius": TIME,
    "fraction": TIME,
}
"""What is varied, by kind."""

UP = {
    "martensite": Axis("martensite_fraction", "martensite fraction"),
    "peak_temperature": Axis("peak_temperature_K", "peak temperature / °C", offset=ZERO_CELSIUS),
    "particle_radius": Axis("particle_radius_nm", "mean radius / nm", log=True),
    "fraction": Axis("fraction_transformed", "fraction transformed"),
}
"""What is measured, by kind."""

SHOWN = {
    "temperature_K": ("{:.0f} °C", ZERO_CELSIUS),
    "strain": ("strain {:g}", 0.0),
    "strain_rate_per_s": ("{:g} /s", 0.0),
    "initial_grain_size_um": ("{:.3g} µm", 0.0),
    "run": ("run {}", 0.0),
}
"""How a condition is named in a legend."""


def has_curves(calibration: Calibration) -> bool:
    """Return whether the calibration is drawn as curves instead of a diagram."""
    kind = calibration.population.kind
    return kind in ACROSS and "ttt" not in calibration.population.equation.observables


def curve_table(calibration: Calibration) -> pd.DataFrame:
    """Return the curves: condition columns, `curve` (a label), the measured column, low and high.

    The band is the 90 % interval of the curve, not of a measurement; `low_90` and `high_90`.
    """
    kind = calibration.population.kind
    across, points = ACROSS[kind], _points(calibration)
    points = points[~on_history(points)].reset_index(drop=True)
    inputs = [i.name for i in calibration.population.equation.observable(kind).inputs]
    apart = [n for n in inputs if n != across.column and n in points and n != "run_number"]
    apart = [n for n in apart if not n.endswith("_wt_pct")]
    ends = points[across.column].min(), points[across.column].max()
    if across.log:
        grid = np.geomspace(ends[0] / 2, ends[1] * 2, GRID)
    else:
        margin = max(10.0, 0.15 * (ends[1] - ends[0]))
        grid = np.linspace(ends[0] - margin, ends[1] + margin, GRID)
    parts = []
    for rows in _conditions(points, apart):
        fixed = {name: points.loc[rows[0], name] for name in inputs if name in points}
        block = pd.DataFrame(fixed | {across.column: grid})
        label = _label({name: fixed[name] for name in apart})
        parts.append(_predicted(calibration, block).assign(curve=label))
    return pd.concat(parts, ignore_index=True)


def run_table(calibration: Calibration) -> pd.DataFrame:
    """Return the fraction along each run's ramp or path, as `curve_table`; over its own time."""
    points, paths = _points(calibration), calibration.observations.paths
    points = points[on_history(points)].reset_index(drop=True)
    keys = [n for n in ("run", "path", "start_temperature_K") if n in points]
    parts = []
    for rows in _conditions(points, keys):
        own = points.loc[rows]
        last = own.loc[own["time_s"].idxmax()]
        named = last.get("path", "")
        if named:
            history = paths[named]
        else:
            start = last.get("start_temperature_K", last["temperature_K"])
            ends = np.array([0.0, last["time_s"]]), np.array([start, last["temperature_K"]])
            history = History(*ends)
        first = float(history.time_s[0])
        time = np.linspace(first, last["time_s"], GRID + 1)[1:]
        block = pd.DataFrame({name: last[name] for name in points}, index=range(GRID))
        block = block.assign(time_s=time, temperature_K=history.at(time), path="p")
        block = pd.concat([block, path_columns(block, {"p": history})], axis=1)
        label = str(last["run"]) if last.get("run") else named or "ramp or hold"
        parts.append(_predicted(calibration, block).assign(curve=label))
    return pd.concat(parts, ignore_index=True)


def draw_curves(
    calibration: Calibration, table: pd.DataFrame, paths: list[Path], *, along: bool = False
) -> None:
    """Draw curves with bands and data to PNG or SVG files; `along` runs against their time."""
    kind, points = calibration.population.kind, _points(calibration)
    points = points[on_history(points) == along]
    across = Axis("time_s", "time on the run's clock / s") if along else ACROSS[kind]
    up = _up(calibration)
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": "matml", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7.2, 5.0), layout="constrained")
        axes = figure.add_subplot()
        for number, (label, block) in enumerate(table.groupby("curve", sort=False)):
            colour = COLOURS[number % len(COLOURS)]
            x = block[across.column] - across.offset
            low, high = block["low_90"] - up.offset, block["high_90"] - up.offset
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            name = f"{label or 'calibrated'}, 90 % band"
            axes.plot(x, block[up.column] - up.offset, color=colour, label=name)
            own = points[_belongs(points, block)]
            axes.scatter(
                own[across.column] - across.offset,
                own[up.column] - up.offset,
                color=colour,
                edgecolors="black",
                s=40,
                zorder=5,
            )
        if across.log:
            axes.set_xscale("log")
        if up.log:
            axes.set_yscale("log")
        axes.set_xlabel(across.label)
        axes.set_ylabel(up.label)
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        marked = " (simulated data)" if calibration.observations.simulated else ""
        count = len(points)
        axes.set_title(
            f"{calibration.alloy}{marked}\n{calibration.population.equation.title} calibrated from "
            f"{count} observation{'s' if count > 1 else ''}",
            fontsize=11,
            loc="left",
        )
        if table["curve"].nunique() > 3:
            axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        else:
            axes.legend(frameon=False, fontsize=8.5)
        for path in paths:
            with atomic(path) as temporary:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                figure.savefig(temporary, dpi=150, metadata=metadata)


def _up(calibration: Calibration) -> Axis:
    observable = calibration.population.equation.observable(calibration.population.kind)
    usual = Axis(observable.column, observable.column, observable.unit.startswith("log10"))
    return UP.get(calibration.population.kind, usual)


def _points(calibration: Calibration) -> pd.DataFrame:
    """Return the observations with the inputs that belong to the alloy."""
    points = with_alloy_inputs(calibration.observations, calibration.population.equation)
    return points.reset_index(drop=True)


def _conditions(points: pd.DataFrame, names: list[str]) -> list[np.ndarray]:
    """Return the rows of each set of conditions, those with the most observations."""
    if not names:
        return [np.arange(len(points))]
    groups = list(points.groupby(names, sort=True, dropna=False).indices.values())
    chosen = sorted(range(len(groups)), key=lambda i: -len(groups[i]))[:MOST_CURVES]
    return [groups[i] for i in sorted(chosen)]


def _label(conditions: dict[str, float | str]) -> str:
    """Return the conditions of a curve in words."""
    words = []
    for name, value in conditions.items():
        form, offset = SHOWN.get(name, (f"{name} {{:g}}", 0.0))
        words.append(form.format(value - offset if offset else value))
    return ", ".join(words)


def _belongs(points: pd.DataFrame, block: pd.DataFrame) -> pd.Series:
    """Return which observations are a curve's: those that agree in all that is constant on it."""
    inside = pd.Series(data=True, index=points.index)
    names = ("run", "start_temperature_K", *SHOWN)
    for name in dict.fromkeys(names):
        if name in block and name in points and len(set(block[name])) == 1:
            inside &= points[name] == block[name].iloc[0]
    return inside


def _predicted(calibration: Calibration, block: pd.DataFrame) -> pd.DataFrame:
    """Return the block with the measured column (median of the draws), low_90 and high_90."""
    equation, kind = calibration.population.equation, calibration.population.kind
    numbers = block.select_dtypes("number").drop(columns=["start_temperature_K"], errors="ignore")
    inputs = {name: torch.tensor(numbers[name].to_numpy(float))[None] for name in numbers}
    if calibration.reference_temperature_K is not None:
        reference = torch.full((1, len(block)), calibration.reference_temperature_K).double()
        inputs["reference_temperature_K"] = reference
    with torch.no_grad():
        drawn = equation.predict(kind, calibration.draws[:, None, :], inputs)
    quantiles = drawn.quantile(drawn.new_tensor([0.05, 0.5, 0.95]), dim=0).numpy()
    observable = equation.observable(kind)
    if observable.unit.startswith("log10"):
        quantiles = 10 ** np.clip(quantiles, -30, 30)
    kept = [name for name in block if not name.startswith("path_")]
    low, middle, high = quantiles
    return block[kept].assign(**{observable.column: middle, "low_90": low, "high_90": high})
