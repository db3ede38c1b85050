"""Figures as plotly specifications (plain dictionaries); the page's script adds the theme."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from matml.report.html.markup import escape

# Okabe and Ito (2008), told apart by people with colour-blindness; readable on light and dark
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, GREY = "#56B4E9", "#E69F00", "#8A8A8A"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")


def legend_button(method: str, title: str, position: int) -> str:
    """Return the button that shows or hides the series at a position, drawn as its line is."""
    colour, _, dash = style_of(position)
    border = {"dash": "dashed", "dot": "dotted"}.get(dash, dash)
    return (
        f'<button type="button" data-method="{escape(method)}" '
        f'style="--colour:{colour};--dash:{border}"><i></i>{escape(title)}</button>'
    )


def faint(colour: str, opacity: float = 0.18) -> str:
    """Return a colour as `rgba(…)` for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, **more}


LONG_NAME = 30
"""Letters beyond which a name would leave no room for its bar on a phone."""


def bars(names: Sequence[str], values: Sequence[float], title: str) -> dict[str, Any]:
    """Return horizontal bars, the first on top; a long name breaks at its last hyphen."""
    names = ["-<br>".join(n.rsplit("-", 1)) if len(n) > LONG_NAME else n for n in names]
    return {
        "data": [
            {
                "type": "bar",
                "orientation": "h",
                "y": names,
                "x": list(values),
                "marker": {"color": BLUE},
                "hovertemplate": "%{y}: %{x}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": axis(title),
            "yaxis": {"autorange": "reversed", "automargin": True, "ticks": ""},
            "bargap": 0.25,
        },
    }


def style_of(position: int) -> tuple[str, str, str]:
    """Return colour, marker and dash of the series at a position; 14 differ."""
    turn = position // len(CYCLE)
    place = position % len(CYCLE)
    return CYCLE[place], SYMBOLS[place], ("solid", "dash", "dot")[turn % 3]


def error_bars(value: pd.Series, low: pd.Series, high: pd.Series, **more: Any) -> dict[str, Any]:
    """Return the bars from `low` to `high` about `value`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": _plain(high.astype(float) - value),
        "arrayminus": _plain(value - low.astype(float)),
        **more,
    }


def span_words(low: float | None, high: float | None) -> str:
    """Return `[0.1, 0.2]`, nothing where there is no interval."""
    known = low is not None and high is not None and not (math.isnan(low) or math.isnan(high))
    return f"[{low:.3g}, {high:.3g}]" if known else ""


def _plain(values: pd.Series) -> list[float | None]:
    """Return floats with None for what is missing, as JSON has it."""
    return [None if math.isnan(value) else value for value in values.astype(float)]


def _broken_where_families_change(own: pd.DataFrame) -> pd.DataFrame:
    """Return the points with an empty one between those that are means over other families.

    A line from one to the other would show a trend where only the families differ.
    """
    if "n_families" not in own:
        return own
    changed = own["n_families"].ne(own["n_families"].shift()).cumsum()
    gap = pd.DataFrame([{"shots": math.nan, "value": math.nan, "low": math.nan, "high": math.nan}])
    columns = ["shots", "value", "low", "high"]
    parts = [part for _, group in own.groupby(changed) for part in (group[columns], gap)]
    return pd.concat(parts[:-1], ignore_index=True)


def learning_curves(
    scores: pd.DataFrame,
    order: Sequence[str],
    titles: dict[str, str],
    shown: Sequence[str],
    y_title: str,
    *,
    log_y: bool = False,
) -> dict[str, Any]:
    """Return error against the number of labels, one line per method with its 95 % interval.

    Parameters
    ----------
    scores
        Columns method, shots, value, low, high, is_default; one property, one metric.
    order
        All methods of the page, so that a method has one colour everywhere.
    titles
        Method to words.
    shown
        Methods drawn at first; the others appear with a click on the legend.
    """
    data: list[dict[str, Any]] = []
    present = [method for method in order if method in set(scores["method"])]
    shots = sorted(scores["shots"].unique())
    # categories as positions, so that 0 labels has a place beside 5, 10, 20
    place = {value: position for position, value in enumerate(shots)}
    for rank, method in enumerate(present):
        own = scores[scores["method"] == method].sort_values("shots")
        colour, symbol, dash = style_of(list(order).index(method))
        default = bool(own["is_default"].iloc[0])
        shift = 0.05 * (rank - (len(present) - 1) / 2)
        own = _broken_where_families_change(own)
        value, low, high = (own[name].astype(float) for name in ("value", "low", "high"))
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": titles.get(method, method) + (" (default)" if default else ""),
                "x": [None if math.isnan(k) else place[k] + shift for k in own["shots"]],
                "y": _plain(value),
                "error_y": error_bars(value, low, high, thickness=1.2, width=3),
                "line": {"color": colour, "width": 3.5 if default else 1.6, "dash": dash},
                "marker": {"color": colour, "symbol": symbol, "size": 9 if default else 7},
                "customdata": [
                    [k, span_words(low_, high_)]
                    for k, low_, high_ in zip(
                        _plain(own["shots"]), _plain(low), _plain(high), strict=True
                    )
                ],
                "hovertemplate": "%{fullData.name}<br>%{customdata[0]} labels: %{y:.3g} "
                "%{customdata[1]}<extra></extra>",
                "visible": method in shown,
                "meta": {"method": method},
            }
        )
    return {
        "data": data,
        "layout": {
            "xaxis": axis(
                "labels of the new family",
                tickvals=list(place.values()),
                ticktext=[str(int(k)) for k in shots],
                zeroline=False,
            ),
            "yaxis": axis(
                y_title,
                # without a format 0.5 and 0.05 are both written as 5
                **(
                    {"type": "log", "dtick": "D2", "tickformat": "~g"}
                    if log_y
                    else {"rangemode": "tozero"}
                ),
            ),
            "showlegend": False,
        },
    }


def lines(
    series: Sequence[tuple[str, Sequence[float], Sequence[float], int, str]],
    x_title: str,
    y_title: str,
    *,
    log_y: bool = False,
) -> dict[str, Any]:
    """Return plain curves: (name, x, y, position of the colour, dash)."""
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": list(x),
                "y": list(y),
                "line": {"color": style_of(position)[0], "width": 1.8, "dash": dash},
            }
            for name, x, y, position, dash in series
        ],
        "layout": {
            "xaxis": axis(x_title),
            "yaxis": axis(y_title, **({"type": "log"} if log_y else {})),
            "showlegend": len(series) > 1,
        },
    }
