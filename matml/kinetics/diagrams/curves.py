"""Curves of a calibrated alloy over what was varied, with a 90 % band and the data on them.

For kinds of observation that no time-temperature diagram shows: martensite over temperature, peaks
over heating rate, radius or recrystallised fraction over time, and fractions along a specimen's own
temperature history. One curve per set of the other conditions.
"""

import numpy as np
import pandas as pd
import torch

from matml.figures.figure import Figure
from matml.kinetics.data.batch import with_alloy_inputs
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.quadrature import path_columns
from matml.kinetics.data.thermal_history import History
from matml.kinetics.diagrams.figures import (
    curves_figure,
)
from matml.kinetics.diagrams.quantities import (
    ACROSS,
    RUN_TIME,
    SHOWN,
    UP,
    Quantity,
    Subject,
)
from matml.kinetics.inference.calibration import Calibration

GRID = 80
MOST_CURVES = 6


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


def figure_of(
    calibration: Calibration, subject: Subject, table: pd.DataFrame, *, along: bool
) -> Figure:
    """Return the diagram of curves, or of runs along their own time."""
    kind, points = calibration.population.kind, _points(calibration)
    observable = calibration.population.equation.observable(kind)
    usual = Quantity(observable.column, observable.column, observable.unit.startswith("log10"))
    return curves_figure(
        "runs" if along else "curve",
        subject,
        table,
        points[on_history(points) == along],
        RUN_TIME if along else ACROSS[kind],
        UP.get(kind, usual),
    )


def _points(calibration: Calibration) -> pd.DataFrame:
    """Return the observations with the inputs that belong to the alloy."""
    points = with_alloy_inputs(calibration.observations, calibration.population.observable)
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
        words.append(form.format(float(value) - offset if offset else value))
    return ", ".join(words)


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
