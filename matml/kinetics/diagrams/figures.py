"""Diagrams of a calibrated alloy, from the tables of `ttt`, `cct` and `curves`: one of each kind.

`matml kinetics calibrate` draws them to files from what it has computed, the report on its page
from the same tables as they were written.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from matml.figures.figure import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    Axis,
    Band,
    Figure,
    Hover,
    Part,
    Series,
    Values,
    between,
)
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.quantities import (
    SHOWN,
    SLOWEST_K_S,
    Level,
    Quantity,
    Subject,
    sentence,
)

COLOURS = (BLUE, GREEN, ORANGE)
CURVE_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
DIGITS = 7
"""Times span decades."""
HELD = "observed, used"
OTHERS = "observed, not used"
ROOM, BESIDE = 0.08, 4
"""Share of a CCT diagram's height, and factor of time, that the words at a cooling line need."""
LOG_TIME, CELSIUS = Axis("time (s)", log=True), Axis("temperature (°C)")
BANDS = "Bands: 90 % credible"
GENERIC = "Dashed: least squares from a generic start."


def ttt_figure(
    name: str,
    subject: Subject,
    curves: pd.DataFrame,
    used: pd.DataFrame | None,
    others: pd.DataFrame | None = None,
) -> Figure:
    """Return time (logarithmic) against temperature with bands, and the observations.

    Parameters
    ----------
    curves
        Output of `ttt.time_table`.
    used, others
        Observations that the alloy was calibrated from, and further ones of it.
    """
    parts: list[Part] = []
    for (fraction, own), colour in zip(curves.groupby("fraction"), COLOURS, strict=False):
        label, at = f"{100 * float(fraction):g} %", own["temperature_C"].to_numpy(float)
        ends = own[["low_90_s", "high_90_s"]].to_numpy(float)
        told = (
            f"{label} transformed<br>%{{x:.3g}} s [%{{customdata[0]:.3g}}, %{{customdata[1]:.3g}}] "
            "at %{y:.0f} °C"
        )
        band = _around(ends), _around(np.stack([at, at], 1))
        parts += _curve(own["time_s"], at, band, label, colour, told, ends)
    if "least_squares_time_s" in curves:
        parts += _least_squares(curves, "fraction", "least_squares_time_s", "temperature_C")
    times, along = [], 0
    for points, label in ((others, OTHERS), (used, HELD)):
        if points is None:
            continue
        # where the temperature changed, a time at the last one is no point of this diagram
        moving = on_history(points)
        along += int(moving.sum()) if label == HELD else 0
        held = points[~moving]
        if len(held):
            column = "fraction" if "fraction" in held else "fraction_transformed"
            colours = between(held[column], COLOURS) if column in held else GREY
            parts.append(_points(held, "time_s", "temperature_C", label, colours))
            times.append(held["time_s"])
    note = (
        f"Time to transform {_percent(curves)}. {sentence(subject.calibrated)}. Bands: 90 % "
        f"credible. {GENERIC} Points are coloured by fraction."
    )
    if along:
        note += f" {along} observations along ramps or paths are no points of this diagram."
    title, x = subject.title("TTT diagram"), replace(LOG_TIME, ends=_time_ends(curves, times))
    told = f"time to transform {_percent(curves)} against temperature. {_nose(curves)}"
    return _diagram(name, title, x, CELSIUS, parts, note, f"{title}, {subject.calibrated}: {told}")


def _time_ends(curves: pd.DataFrame, observed: Sequence[pd.Series]) -> tuple[float, float]:
    """Return a range of times that shows the noses and all observations."""
    noses = curves.groupby("fraction")["time_s"].min()
    times = pd.concat([noses, *observed])
    times = times[np.isfinite(times) & (times > 0)]
    return (float(times.min() / 5), float(times.max() * 10)) if len(times) else (1.0, 1e6)


def level_figure(
    name: str,
    subject: Subject,
    level: Level,
    curves: pd.DataFrame,
    used: pd.DataFrame | None,
    others: pd.DataFrame | None = None,
) -> Figure:
    """Return hardness or grain size against temperature with bands, and the observations.

    Parameters
    ----------
    curves
        Output of `ttt.level_table`.
    """
    parts: list[Part] = []
    unit, times = level.shown_unit, curves["time_s"]
    for (time, own), colour in zip(curves.groupby("time_s"), COLOURS, strict=False):
        label, at = f"{float(time):g} s", own["temperature_C"].to_numpy(float)
        ends = own[[f"low_90_{level.unit}", f"high_90_{level.unit}"]].to_numpy(float)
        told = (
            f"after {label} at %{{x:.0f}} °C<br>{level.words} %{{y:.3g}} "
            f"[%{{customdata[0]:.3g}}, %{{customdata[1]:.3g}}] {unit}"
        )
        band = _around(np.stack([at, at], 1)), _around(ends)
        parts += _curve(at, own[level.column], band, label, colour, told, ends)
    if f"least_squares_{level.unit}" in curves:
        column = f"least_squares_{level.unit}"
        parts += _least_squares(curves, "time_s", "temperature_C", column)
    span = np.log(times.max() / times.min()) or 1.0
    for points, label in ((others, OTHERS), (used, HELD)):
        if points is not None and len(points) and level.column in points:
            shares = np.log(points["time_s"].to_numpy(float) / times.min()) / span
            colours = between(shares, COLOURS[: max(2, times.nunique())])
            parts.append(_points(points, "temperature_C", level.column, label, colours, level))
    title, drawn = subject.title(level.title), curves[level.column]
    return _diagram(
        name,
        title,
        Axis(level.over),
        Axis(f"{level.words} ({unit})", log=level.log, ticks_125=level.log),
        parts,
        f"{sentence(subject.calibrated)}. {BANDS}. {GENERIC} Points are coloured by time.",
        f"{title} against temperature, {subject.calibrated}; from {drawn.min():.3g} to "
        f"{drawn.max():.3g} {unit}.",
    )


def cct_figure(name: str, subject: Subject, cooled: pd.DataFrame, start_C: float) -> Figure:
    """Return temperature against time on cooling at constant rates, with bands and cooling lines.

    Parameters
    ----------
    cooled
        Output of `cct.cooling_table`, with or without rows.
    start_C
        Temperature from which cooling is counted.
    """
    title, parts = subject.title("CCT diagram"), list[Part]()
    what = f"Cooling at constant rates from {start_C:.0f} °C, by Scheil's rule from the TTT curves"
    if cooled.empty:
        nothing = f"{what}: cooling at {SLOWEST_K_S:g} K/s or faster transforms nothing."
        empty = replace(LOG_TIME, ends=(1.0, 1e6)), replace(CELSIUS, ends=(0, 1e3))
        return Figure(name, title, *empty, parts, nothing, f"{title}: {nothing}", height=430)
    shown = cooled["time_s"][cooled["time_s"] > 0]
    first, last = float(shown.min()) / 3, float(shown.max()) * 3
    lowest = float(cooled["low_90_C"].min())
    rates = cooled["cooling_rate_K_s"][cooled["time_s"].notna()]
    # below the curves, where the rates are written
    bottom = lowest - ROOM * (start_C - lowest)
    for power in range(
        int(np.floor(np.log10(rates.min()))), int(np.ceil(np.log10(rates.max()))) + 1
    ):
        rate = 10.0**power
        down = (start_C - bottom) / rate
        if down > first:
            times = np.geomspace(first, down, 60)
            named = BESIDE * first < down < last
            parts.append(_cooling_line(times, start_C - rate * times, rate, named))
    for (fraction, own), colour in zip(cooled.groupby("fraction"), COLOURS, strict=False):
        label, speed = f"{100 * float(fraction):g} %", own["cooling_rate_K_s"].to_numpy(float)
        ends = own[["low_90_C", "high_90_C"]].to_numpy(float)
        told = (
            f"{label} transformed<br>at %{{customdata[0]:.3g}} K/s: %{{y:.0f}} °C "
            "[%{customdata[1]:.0f}, %{customdata[2]:.0f}]<br>after %{x:.3g} s"
        )
        # each end lies on the cooling line of its rate
        band = _around((start_C - ends) / speed[:, None]), _around(ends)
        rows = np.column_stack([speed, ends])
        parts += _curve(own["time_s"], own["temperature_C"], band, label, colour, told, rows)
    return _diagram(
        name,
        title,
        replace(LOG_TIME, ends=(first, last)),
        CELSIUS,
        parts,
        f"{what}: where it reaches {_percent(cooled)}. {sentence(subject.calibrated)}. {BANDS}, "
        "along the cooling lines (grey).",
        f"{title}: temperature at which cooling from {start_C:.0f} °C at {rates.min():.3g} to "
        f"{rates.max():.3g} K/s transforms {_percent(cooled)}.",
    )


def _cooling_line(times: np.ndarray, temperature: np.ndarray, rate: float, named: bool) -> Series:
    return Series(
        times,
        temperature,
        f"cooling at {rate:g} K/s",
        GREY,
        width=0.7,
        end_label=f"{rate:g} K/s" if named else "",
        in_legend=False,
        in_table=False,
        hover=Hover(f"cooling at {rate:g} K/s<extra></extra>"),
    )


def curves_figure(
    name: str,
    subject: Subject,
    table: pd.DataFrame,
    points: pd.DataFrame,
    across: Quantity,
    up: Quantity,
) -> Figure:
    """Return curves over what was varied, or of runs over their time, with bands and observations.

    Parameters
    ----------
    table
        Output of `curves.curve_table` or `curves.run_table`.
    points
        Observations that the alloy was calibrated from.
    """
    parts: list[Part] = []
    for number, (label, block) in enumerate(table.groupby("curve", sort=False)):
        colour = CURVE_COLOURS[number % len(CURVE_COLOURS)]
        x, label = across.of(block), str(label) or "calibrated"
        ends = block[["low_90", "high_90"]].to_numpy(float) - up.offset
        told = f"{label}<br>%{{x:.4g}}: %{{y:.4g}} [%{{customdata[0]:.4g}}, %{{customdata[1]:.4g}}]"
        band = _around(np.stack([x, x], 1)), _around(ends)
        parts += _curve(x, up.of(block), band, label, colour, told, ends)
        own = points[_belongs(points, block)]
        parts.append(
            Series(
                across.of(own),
                up.of(own),
                f"{label}, observed",
                colour,
                "circle",
                size=10,
                outlined=True,
                in_legend=False,
                hover=Hover(f"{label}, observed<br>%{{x:.4g}}: %{{y:.4g}}<extra></extra>"),
            )
        )
    what = sentence(up.title.split(" (")[0])
    note = f"{sentence(subject.calibrated)}. {BANDS}. Circles: observed."
    summary = f"{subject.title(what)} against {across.title}, {subject.calibrated}."
    return _diagram(name, subject.title(what), across.axis, up.axis, parts, note, summary)


def _belongs(points: pd.DataFrame, block: pd.DataFrame) -> pd.Series:
    """Return which observations are a curve's: those that agree in all that is constant on it."""
    inside = pd.Series(data=True, index=points.index)
    for name in ("start_temperature_K", *SHOWN):
        if name in block and name in points and len(set(block[name])) == 1:
            inside &= points[name] == block[name].iloc[0]
    return inside


def _around(ends: np.ndarray) -> np.ndarray:
    """Return lower ends and then, backwards, upper ones, of [n, 2]: the line around a band."""
    return np.r_[ends[:, 0], ends[::-1, 1]]


def _curve(
    x: Values,
    y: Values,
    band: tuple[np.ndarray, np.ndarray],
    label: str,
    colour: str,
    told: str,
    rows: np.ndarray,
) -> list[Part]:
    """Return a curve on its band; a page tells of points by `told` with the numbers of `rows`."""
    hover = Hover(f"{told}<extra></extra>", rows.tolist())
    return [
        Band(*band, f"{label}, 90 % band", colour),
        Series(x, y, label, colour, width=2.5, hover=hover),
    ]


def _diagram(
    name: str, title: str, x: Axis, y: Axis, parts: list[Part], note: str, summary: str
) -> Figure:
    return Figure(name, title, x, y, parts, note, summary, legend=True, height=430, digits=DIGITS)


def _least_squares(curves: pd.DataFrame, key: str, x: str, y: str) -> list[Part]:
    """Return the generic fit's curves, drawn above the others, which may hide them."""
    parts: list[Part] = []
    for _, own in curves.groupby(key):
        line = Series(own[x], own[y], "least squares", GREY, width=1.5, dash="dash")
        parts.append(replace(line, in_legend=not parts))
    return parts


def _points(
    points: pd.DataFrame,
    x: str,
    y: str,
    label: str,
    colours: str | Sequence[str],
    level: Level | None = None,
) -> Series:
    """Return observations: the used ones large, others small and faint."""
    if "temperature_C" not in points:
        points = points.assign(temperature_C=points["temperature_K"] - ZERO_CELSIUS)
    used = label == HELD
    rows = [
        (f"{row['time_s']:.4g}", f"{row['temperature_C']:.0f}", _observed(row, level))
        for row in points.to_dict("records")
    ]
    return Series(
        points[x],
        points[y],
        label,
        colours,
        "circle",
        size=11 if used else 5,
        opacity=1 if used else 0.5,
        outlined=used,
        labels=[row[2] for row in rows],
        hover=Hover(
            f"{label}<br>%{{customdata[2]}}<br>%{{customdata[0]}} s at %{{customdata[1]}} °C"
            "<extra></extra>",
            rows,
        ),
    )


def _observed(row: dict, level: Level | None) -> str:
    """Return what an observation says."""
    if level is not None:
        return f"{level.words} {row[level.column]:.4g} {level.shown_unit}"
    for column in ("fraction", "fraction_transformed", "ttt_fraction"):
        if column in row and not pd.isna(row[column]):
            return f"{100 * row[column]:.3g} % transformed"
    return ""


def _percent(curves: pd.DataFrame) -> str:
    values = [f"{100 * fraction:g}" for fraction in sorted(curves["fraction"].unique())]
    return f"{', '.join(values[:-1])} and {values[-1]} %" if len(values) > 1 else f"{values[0]} %"


def _nose(curves: pd.DataFrame) -> str:
    """Return in words where transformation is fastest."""
    middle = min(curves["fraction"].unique(), key=lambda value: abs(value - 0.5))
    own = curves[(curves["fraction"] == middle) & np.isfinite(curves["time_s"])]
    if own.empty:
        return ""
    best = own.loc[own["time_s"].idxmin()]
    return (
        f"Transformation to {100 * middle:g} % is fastest at {best['temperature_C']:.0f} °C and "
        f"takes {best['time_s']:.3g} s there."
    )
