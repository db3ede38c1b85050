"""Diagrams of a calibrated alloy: TTT and CCT with bands, hardness, grain size."""

import math
from typing import Any

import numpy as np
import pandas as pd

from matml.report.figures import figure as drawing
from matml.report.figures.figure import Drawing
from matml.report.figures.plotly import BLUE, GREEN, GREY, ORANGE, axis, faint
from matml.report.html.markup import count
from matml.report.html.results import Results

TTT_COLUMNS = {"fraction", "temperature_C", "time_s", "low_90_s", "high_90_s"}
CCT_COLUMNS = ("fraction", "cooling_rate_K_s", "time_s", "temperature_C", "low_90_C", "high_90_C")
ZERO_CELSIUS = 273.15
COLOURS = (BLUE, GREEN, ORANGE)
LEVELS = {
    "hardness_HRC": ("hardness", "HRC", "Hardness after tempering", "tempering temperature (°C)"),
    "grain_size_um": ("grain size", "um", "Grain size after annealing", "temperature (°C)"),
}
"""Column of a level: its name, the unit in its files, what a diagram shows, and over what."""
OBSERVED = ("fraction", "fraction_transformed", "ttt_fraction", *LEVELS)


def rounded(values: Any) -> list[float | None]:
    """Return plain floats with the digits of the files, for times that span decades."""
    return drawing.rounded(values, 7)


def alloy_drawings(
    results: Results, dataset: str, place: str, record: dict[str, Any], simulated: bool
) -> list[Drawing]:
    """Return the diagrams of one calibrated alloy that its files allow.

    Parameters
    ----------
    place
        Folder of the calibration, relative to the results.
    record
        Of `calibration.json`.
    """
    curves = results.table(f"{place}/ttt.csv", ("temperature_C",))
    if curves is None:
        curves = results.table(f"{place}/hardness.csv", ("temperature_C",))
    alloy = str(record.get("alloy", place.rsplit("/", 1)[1]))
    used, rest = _points(results, place), _not_used(results, dataset, alloy, place)
    number_used = record.get("observations")
    told = f" from {count(number_used)} observations" if isinstance(number_used, int) else ""
    bands = "Bands: 90 % credible. Dashed: least squares from a generic start."
    kind = " Simulated data." if simulated else ""
    name = f"{dataset}-{place.rsplit('/', 1)[1]}"
    drawings = []
    if curves is not None and set(curves) >= TTT_COLUMNS:
        drawings.append(
            Drawing(
                f"ttt-{name}",
                _ttt(curves, used, rest),
                f"<b>TTT</b>: time to transform {_percent(curves)}, calibrated{told}. {bands}"
                f"{kind}",
                f"TTT diagram of {alloy}, calibrated{told}: time to transform {_percent(curves)} "
                f"against temperature. {_nose(curves)}{kind}",
                height=430,
            )
        )
    for column, (words, unit, title, over) in LEVELS.items():
        if curves is None or not {column, "time_s", f"low_90_{unit}"} <= set(curves):
            continue
        drawings.append(
            Drawing(
                f"{words.replace(' ', '-')}-{name}",
                _levels(curves, used, rest, column, words, unit, over),
                f"<b>{title}</b> for {curves['time_s'].nunique()} times, calibrated{told}. "
                f"{bands}{kind}",
                f"{title} of {alloy} against temperature, calibrated{told}; from "
                f"{curves[column].min():.3g} to {curves[column].max():.3g} {_unit(unit)}.{kind}",
                height=430,
            )
        )
    cooled = results.table(f"{place}/cct.csv", CCT_COLUMNS)
    if cooled is not None and len(cooled):
        start = _start(cooled)
        drawings.append(
            Drawing(
                f"cct-{name}",
                _cct(cooled, start),
                f"<b>CCT</b>: cooling at constant rates from {start:.0f} °C, by Scheil's rule "
                f"from the TTT curves. Bands: 90 % credible. Grey: cooling lines.{kind}",
                f"CCT diagram of {alloy}: temperature at which cooling from {start:.0f} °C at "
                f"{cooled['cooling_rate_K_s'].min():.3g} to "
                f"{cooled['cooling_rate_K_s'].max():.3g} K/s transforms {_percent(cooled)}.{kind}",
                height=430,
            )
        )
    return drawings


def kinetics_drawings(results: Results) -> list[Drawing]:
    """Return the diagrams of all calibrated alloys."""
    drawings = []
    for name in results.names("kinetics/*/calibration/*/calibration.json"):
        place, dataset = name.rsplit("/", 1)[0], name.split("/")[1]
        summary = results.json(f"kinetics/{dataset}/summary.json") or {}
        simulated = bool(summary.get("simulated", True))
        drawings += alloy_drawings(results, dataset, place, results.json(name), simulated)
    return drawings


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
        f"{100 * middle:g} % come fastest at {best['temperature_C']:.0f} °C, in "
        f"{best['time_s']:.3g} s."
    )


def _points(results: Results, place: str) -> pd.DataFrame | None:
    """Return the observations that an alloy was calibrated from."""
    for name in ("observations.csv", "points.csv", "residuals.csv"):
        points = results.table(f"{place}/{name}")
        if points is not None and {"temperature_K", "time_s"} <= set(points):
            return _in_celsius(points)
    return None


def _in_celsius(points: pd.DataFrame) -> pd.DataFrame:
    if "temperature_C" in points:
        return points
    return points.assign(temperature_C=points["temperature_K"] - ZERO_CELSIUS)


def _not_used(results: Results, dataset: str, alloy: str, place: str) -> pd.DataFrame | None:
    """Return the alloy's observations that the calibration has not seen, or None."""
    whole = results.table(f"kinetics/{dataset}/observations.csv")
    if whole is None or not {"alloy", "time_s"} <= set(whole):
        return None
    if not {"temperature_C", "temperature_K"} & set(whole):
        return None
    own = _in_celsius(whole[whole["alloy"].astype(str) == alloy])
    used = _points(results, place)
    if used is None or own.empty:
        return None
    # the same point: equal time and temperature as far as the files tell
    taken = {_key(row) for row in used.to_dict("records")}
    fresh = [_key(row) not in taken for row in own.to_dict("records")]
    return own[fresh]


def _key(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['time_s']:.4g}", f"{row['temperature_C']:.1f}"


def _observed(row: dict[str, Any]) -> str:
    """Return what an observation says, for a hover."""
    for column in OBSERVED:
        if column not in row or pd.isna(row[column]):
            continue
        if column in LEVELS:
            words, unit, *_ = LEVELS[column]
            return f"{words} {row[column]:.4g} {_unit(unit)}"
        return f"{100 * row[column]:.3g} % transformed"
    return ""


def _unit(unit: str) -> str:
    return "µm" if unit == "um" else unit


def _marks(points: pd.DataFrame, x: str, y: str, name: str) -> dict[str, Any]:
    """Return observations: the used ones as open circles, others small and grey."""
    used = name == "used"
    marker = (
        {"symbol": "circle-open", "size": 11, "line": {"width": 2}, "color": GREY}
        if used
        else {"symbol": "circle", "size": 4, "color": GREY, "opacity": 0.6}
    )
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "observed, used" if used else "observed, not used",
        "x": rounded(points[x]),
        "y": rounded(points[y]),
        "marker": marker,
        "customdata": [
            [f"{row['time_s']:.4g}", f"{row['temperature_C']:.0f}", _observed(row)]
            for row in points.to_dict("records")
        ],
        "hovertemplate": f"observed, {'used' if used else 'not used'}<br>%{{customdata[2]}}<br>"
        "%{customdata[0]} s at %{customdata[1]} °C<extra></extra>",
    }


def _band(x: list, y: list, colour: str, name: str) -> dict[str, Any]:
    """Return a closed band."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{name}, 90 % band",
        "x": x,
        "y": y,
        "fill": "toself",
        "fillcolor": faint(colour),
        "line": {"width": 0, "color": colour},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _line(x: Any, y: Any, name: str, colour: str, **more: Any) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": rounded(x),
        "y": rounded(y),
        "line": {"color": colour, "width": 2.5},
    } | more


def _dashed(x: Any, y: Any, name: str) -> dict[str, Any]:
    return _line(
        x,
        y,
        f"{name}, least squares",
        GREY,
        line={"color": GREY, "width": 1, "dash": "dash"},
        hoverinfo="skip",
        showlegend=False,
    )


def _dashed_in_legend() -> dict[str, Any]:
    """Return a line of no points, for what all dashed ones are."""
    return _dashed([np.nan], [np.nan], "") | {"name": "least squares", "showlegend": True}


def _ttt(
    curves: pd.DataFrame, used: pd.DataFrame | None, rest: pd.DataFrame | None
) -> dict[str, Any]:
    """Return time (logarithmic) against temperature with bands, and the observations."""
    data: list[dict[str, Any]] = []
    for (fraction, own), colour in zip(curves.groupby("fraction"), COLOURS, strict=False):
        name = f"{100 * float(fraction):g} %"
        heights = rounded(own["temperature_C"])
        ends = rounded(own["low_90_s"]) + rounded(own["high_90_s"])[::-1]
        data.append(_band(ends, heights + heights[::-1], colour, name))
        spans = zip(rounded(own["low_90_s"]), rounded(own["high_90_s"]), strict=True)
        data.append(
            _line(
                own["time_s"],
                own["temperature_C"],
                name,
                colour,
                customdata=[list(span) for span in spans],
                hovertemplate=f"{name} transformed<br>%{{x:.3g}} s [%{{customdata[0]:.3g}}, "
                "%{customdata[1]:.3g}] at %{y:.0f} °C<extra></extra>",
            )
        )
        # above the line, which may hide it
        if "least_squares_time_s" in own:
            data.append(_dashed(own["least_squares_time_s"], own["temperature_C"], name))
    if "least_squares_time_s" in curves:
        data.append(_dashed_in_legend())
    times = [curves["time_s"]]
    for points, name in ((rest, "not used"), (used, "used")):
        if points is not None and len(points):
            data.append(_marks(points, "time_s", "temperature_C", name))
            times.append(points["time_s"])
    ends = pd.concat(times)
    ends = ends[np.isfinite(ends) & (ends > 0)]
    low, high = ends.quantile(0.02), ends.quantile(0.98)
    return _figure(
        data, _log_time([math.log10(low) - 1, math.log10(high) + 1]), axis("temperature (°C)")
    )


def _figure(data: list, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """Return a figure with its legend below."""
    legend = {"orientation": "h", "y": -0.2, "yanchor": "top", "x": 0}
    layout = {"xaxis": x, "yaxis": y, "showlegend": True, "legend": legend, "uirevision": "kept"}
    return {"data": data, "layout": layout}


def _log_time(ends: list[float]) -> dict[str, Any]:
    return axis("time (s)", type="log", range=ends, dtick=1, exponentformat="power")


def _start(cooled: pd.DataFrame) -> float:
    """Return the temperature from which cooling was counted, in °C."""
    first = cooled.iloc[0]
    return float(first["temperature_C"] + first["time_s"] * first["cooling_rate_K_s"])


def _cct(cooled: pd.DataFrame, start: float) -> dict[str, Any]:
    """Return temperature against time on cooling, with bands and cooling lines."""
    data: list[dict[str, Any]] = []
    rates = cooled["cooling_rate_K_s"]
    bottom = float(cooled["low_90_C"].min())
    drop = (start - bottom) * np.logspace(-3, 0, 40)
    for power in range(math.ceil(math.log10(rates.min())), math.floor(math.log10(rates.max())) + 1):
        rate = 10.0**power
        data.append(
            _line(
                drop / rate,
                start - drop,
                f"cooling at {rate:g} K/s",
                GREY,
                line={"color": GREY, "width": 0.7},
                hovertemplate=f"cooling at {rate:g} K/s<extra></extra>",
                showlegend=False,
                mode="lines+text",
                text=[""] * (len(drop) - 1) + [f"{rate:g} K/s"],
                textposition="top left",
                textfont={"size": 10},
            )
        )
    for (fraction, own), colour in zip(cooled.groupby("fraction"), COLOURS, strict=False):
        name = f"{100 * float(fraction):g} %"
        times = rounded(own["time_s"])
        ends = rounded(own["low_90_C"]) + rounded(own["high_90_C"])[::-1]
        data.append(_band(times + times[::-1], ends, colour, name))
        told = zip(
            rounded(own["cooling_rate_K_s"]),
            rounded(own["low_90_C"]),
            rounded(own["high_90_C"]),
            strict=True,
        )
        data.append(
            _line(
                own["time_s"],
                own["temperature_C"],
                name,
                colour,
                customdata=[list(row) for row in told],
                hovertemplate=f"{name} transformed<br>at %{{customdata[0]:.3g}} K/s: %{{y:.0f}} °C "
                "[%{customdata[1]:.0f}, %{customdata[2]:.0f}]<br>after %{x:.3g} s<extra></extra>",
            )
        )
    shown = cooled["time_s"][cooled["time_s"] > 0]
    return _figure(
        data,
        _log_time([math.log10(shown.min()) - 0.5, math.log10(shown.max()) + 0.5]),
        axis("temperature (°C)"),
    )


def _levels(
    curves: pd.DataFrame,
    used: pd.DataFrame | None,
    rest: pd.DataFrame | None,
    column: str,
    words: str,
    unit: str,
    over: str,
) -> dict[str, Any]:
    """Return hardness or grain size against temperature with bands, and the observations."""
    data: list[dict[str, Any]] = []
    for (time, own), colour in zip(curves.groupby("time_s"), COLOURS, strict=False):
        name = f"{float(time):g} s"
        places = rounded(own["temperature_C"])
        low, high = rounded(own[f"low_90_{unit}"]), rounded(own[f"high_90_{unit}"])
        data.append(_band(places + places[::-1], low + high[::-1], colour, name))
        data.append(
            _line(
                own["temperature_C"],
                own[column],
                name,
                colour,
                customdata=[list(span) for span in zip(low, high, strict=True)],
                hovertemplate=f"after {name} at %{{x:.0f}} °C<br>{words} %{{y:.3g}} "
                f"[%{{customdata[0]:.3g}}, %{{customdata[1]:.3g}}] {_unit(unit)}<extra></extra>",
            )
        )
        if f"least_squares_{unit}" in own:
            data.append(_dashed(own["temperature_C"], own[f"least_squares_{unit}"], name))
    if f"least_squares_{unit}" in curves:
        data.append(_dashed_in_legend())
    for points, name in ((rest, "not used"), (used, "used")):
        if points is not None and len(points) and column in points:
            data.append(_marks(points, "temperature_C", column, name))
    # grain sizes are compared by their logarithm
    scale = {"type": "log"} if column == "grain_size_um" else {}
    return _figure(data, axis(over), axis(f"{words} ({_unit(unit)})", **scale))
