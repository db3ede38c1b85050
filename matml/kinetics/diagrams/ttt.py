"""Diagrams of a calibrated alloy: time to a fraction over temperature, with a 90 % band."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matml.core.files import atomic
from matml.kinetics.data.columns import ZERO_CELSIUS
from matml.kinetics.data.thermal_history import on_history
from matml.kinetics.inference.calibration import Calibration, prediction_columns

FRACTIONS = (0.01, 0.5, 0.99)
COLOURS = ("#1b6ca8", "#2e7d32", "#b3541e")
TEMPERATURES = 81


def temperature_grid(calibration: Calibration, everything: pd.DataFrame | None) -> np.ndarray:
    """Return temperatures in K to draw at: the data's range, a little wider."""
    tables = [calibration.observations.points]
    if everything is not None:
        tables.append(everything)
    temperature = pd.concat(tables)["temperature_K"]
    margin = max(10.0, 0.05 * (temperature.max() - temperature.min()))
    return np.linspace(temperature.min() - margin, temperature.max() + margin, TEMPERATURES)


def time_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return the time to each fraction over temperature, with the band of the *curve*.

    Columns fraction, temperature_C, time_s (median), low_90_s, high_90_s, and
    least_squares_time_s of the generic fit.
    """
    equation = calibration.population.equation
    parts = []
    for fraction in FRACTIONS:
        columns = prediction_columns(calibration, temperature_K, fraction=fraction)
        inputs = {name: column[None] for name, column in columns.items()}
        with torch.no_grad():
            drawn = equation.predict("ttt", calibration.draws[:, None, :], inputs)
            generic = equation.predict("ttt", calibration.least_squares, columns)
        low, middle, high = drawn.quantile(drawn.new_tensor([0.05, 0.5, 0.95]), dim=0).numpy()
        parts.append(
            pd.DataFrame(
                {
                    "fraction": fraction,
                    "temperature_C": temperature_K - ZERO_CELSIUS,
                    "time_s": _power(middle),
                    "low_90_s": _power(low),
                    "high_90_s": _power(high),
                    "least_squares_time_s": _power(generic.numpy()),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


LEVELS = {"hardness": ("hardness", "HRC"), "grain_size": ("grain size", "um")}
"""Kinds drawn as a level over temperature, with their names and units."""


def level_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return hardness or grain size over temperature after the shortest, middle and longest time.

    Columns time_s, temperature_C, hardness_HRC, low_90_HRC, high_90_HRC, least_squares_HRC; and
    the same with grain_size and um.
    """
    equation, kind = calibration.population.equation, calibration.population.kind
    column, unit = equation.observable(kind).column, LEVELS[kind][1]
    # grain sizes are compared by their logarithm
    value = _power if kind == "grain_size" else np.asarray
    measured = np.sort(calibration.observations.points["time_s"].unique())
    times = sorted({float(measured[0]), float(measured[len(measured) // 2]), float(measured[-1])})
    parts = []
    for time in times:
        columns = prediction_columns(calibration, temperature_K, time_s=time)
        inputs = {name: column[None] for name, column in columns.items()}
        with torch.no_grad():
            drawn = equation.predict(kind, calibration.draws[:, None, :], inputs)
            generic = equation.predict(kind, calibration.least_squares, columns)
        low, middle, high = drawn.quantile(drawn.new_tensor([0.05, 0.5, 0.95]), dim=0).numpy()
        parts.append(
            pd.DataFrame(
                {
                    "time_s": time,
                    "temperature_C": temperature_K - ZERO_CELSIUS,
                    column: value(middle),
                    f"low_90_{unit}": value(low),
                    f"high_90_{unit}": value(high),
                    f"least_squares_{unit}": value(generic.numpy()),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def draw(
    calibration: Calibration, table: pd.DataFrame, rest: pd.DataFrame | None, paths: list[Path]
) -> None:
    """Draw the calibration's diagram and write it to each path (PNG, SVG by ending)."""
    # SVG ids are salted, so that the same run writes the same file
    with mpl.rc_context({"font.size": 10, "svg.hashsalt": "matml", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7.2, 5.0), layout="constrained")
        axes = figure.add_subplot()
        if calibration.population.kind in LEVELS:
            _draw_levels(axes, calibration, table, rest)
        else:
            _draw_times(axes, calibration, table, rest)
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        marked = " (simulated data)" if calibration.observations.simulated else ""
        count = len(calibration.observations.points)
        plural = "s" if count > 1 else ""
        axes.set_title(
            f"{calibration.alloy}{marked}\n{calibration.population.equation.title} calibrated from "
            f"{count} observation{plural}",
            fontsize=11,
            loc="left",
        )
        axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        for path in paths:
            with atomic(path) as temporary:
                metadata = {"Date": None} if path.suffix == ".svg" else None
                figure.savefig(temporary, dpi=150, metadata=metadata)


def _draw_times(
    axes: Axes, calibration: Calibration, table: pd.DataFrame, rest: pd.DataFrame | None
) -> None:
    """Draw time to a fraction (log axis) against temperature, with the band and the data."""
    points = calibration.observations.points
    shown = points if rest is None else pd.concat([points, rest])
    start, end = shown["time_s"].min() / 30, shown["time_s"].max() * 30
    for (fraction, block), colour in zip(table.groupby("fraction"), COLOURS, strict=True):
        axes.fill_betweenx(
            block["temperature_C"],
            block["low_90_s"].clip(start / 10, end * 10),
            block["high_90_s"].clip(start / 10, end * 10),
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            block["time_s"],
            block["temperature_C"],
            color=colour,
            label=f"{100 * fraction:g} % transformed, 90 % band",
        )
        label = "least squares, generic start" if fraction == FRACTIONS[-1] else None
        axes.plot(
            block["least_squares_time_s"],
            block["temperature_C"],
            color="0.45",
            linestyle=(0, (4, 3)),
            linewidth=1,
            label=label,
            zorder=1,
        )
    column = "fraction" if "fraction" in points else "fraction_transformed"
    # where the temperature changed, a time at the last one is no point of this diagram
    held, along = points[~on_history(points)], int(on_history(points).sum())
    if along:
        axes.plot([], [], " ", label=f"{along} along ramps or paths: see runs.png")
    colour_map = mpl.colors.LinearSegmentedColormap.from_list("fractions", COLOURS)
    style = {"cmap": colour_map, "vmin": 0.0, "vmax": 1.0}
    if rest is not None and len(rest):
        axes.scatter(
            rest["time_s"],
            rest["temperature_K"] - ZERO_CELSIUS,
            c=rest[column],
            s=10,
            alpha=0.45,
            linewidths=0,
            label="not used",
            **style,
        )
    axes.scatter(
        held["time_s"],
        held["temperature_K"] - ZERO_CELSIUS,
        c=held[column],
        s=48,
        edgecolors="black",
        linewidths=1,
        zorder=5,
        label="used (coloured by fraction)",
        **style,
    )
    axes.set_xscale("log")
    axes.set_xlim(start, end)
    axes.set_xlabel("time / s")
    axes.set_ylabel("temperature / °C")


def _draw_levels(
    axes: Axes, calibration: Calibration, table: pd.DataFrame, rest: pd.DataFrame | None
) -> None:
    """Draw hardness or grain size against temperature for three times, with band and data."""
    points = calibration.observations.points
    kind = calibration.population.kind
    column = calibration.population.equation.observable(kind).column
    name, unit = LEVELS[kind]
    for (time, block), colour in zip(table.groupby("time_s"), COLOURS, strict=False):
        x = block["temperature_C"]
        axes.fill_between(
            x,
            block[f"low_90_{unit}"],
            block[f"high_90_{unit}"],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(x, block[column], color=colour, label=f"after {time:g} s, 90 % band")
    times = table["time_s"]
    style = {
        "cmap": mpl.colors.LinearSegmentedColormap.from_list(
            "times", COLOURS[: max(2, times.nunique())]
        ),
        "norm": mpl.colors.LogNorm(times.min(), max(times.max(), 1.001 * times.min())),
    }
    if rest is not None and len(rest):
        axes.scatter(
            rest["temperature_K"] - ZERO_CELSIUS,
            rest[column],
            c=rest["time_s"],
            s=10,
            alpha=0.6,
            linewidths=0,
            label="not used",
            **style,
        )
    axes.scatter(
        points["temperature_K"] - ZERO_CELSIUS,
        points[column],
        c=points["time_s"],
        s=48,
        edgecolors="black",
        zorder=5,
        label="used (coloured by time)",
        **style,
    )
    axes.set_xlabel("tempering temperature / °C" if kind == "hardness" else "temperature / °C")
    axes.set_ylabel(f"{name} / {unit.replace('um', 'µm')}")
    if kind == "grain_size":
        axes.set_yscale("log")


def _power(log10_time: np.ndarray) -> np.ndarray:
    """Return 10 to a power, kept within what a file and an axis can hold."""
    return 10 ** np.clip(log10_time, -30, 30)
