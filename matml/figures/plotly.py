"""Figures for a page, as plotly specifications (plain dictionaries); its script adds the theme."""

import html
from typing import Any

import numpy as np

from matml.figures.figure import (
    BLUE,
    GREY,
    Axis,
    Band,
    Cells,
    Choice,
    Columns,
    Figure,
    Hover,
    Note,
    Part,
    Series,
    is_named,
    matches,
    rounded,
)

LONG_NAME = 30
"""Letters beyond which a name would leave no room for its bar on a phone."""
SHORT_NAME = 26
"""Letters of a row of a map that leave room for the map on a phone."""
NOTE_LINE = 15
"""Height of a line of a note in px."""


def specification(figure: Figure) -> dict[str, Any]:
    """Return a plotly figure (`data`, `layout`) whose traces carry their choice as `meta`."""
    data = []
    for part in figure.parts:
        trace = _trace(part, figure)
        if part.choice:
            trace["meta"] = _plain_choice(part.choice)
            trace["visible"] = matches(part.choice, figure.chosen)
        data.append(trace)
    layout: dict[str, Any] = {
        "xaxis": _axis(figure.x, "x"),
        "yaxis": _axis(figure.y, "y"),
        "showlegend": figure.legend,
        "uirevision": "kept",
    }
    if shapes := [*_marks(figure.x, "x"), *_marks(figure.y, "y")]:
        layout["shapes"] = shapes
    if figure.legend:
        layout["legend"] = {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0}
    if lines := max((len(p.lines) for p in figure.parts if isinstance(p, Note)), default=0):
        layout["margin"] = {"l": 8, "r": 8, "t": 12 + NOTE_LINE * lines, "b": 8}
    if any(isinstance(part, Columns) for part in figure.parts):
        layout["bargap"] = 0.25
        layout["yaxis"]["ticktext"] = [_broken(name) for name in figure.y.categories]
    return {"data": data, "layout": layout}


def _marks(axis: Axis, letter: str) -> list[dict[str, Any]]:
    """Return the lines that cross a figure at an axis's marks."""
    other = "y" if letter == "x" else "x"
    ends = {f"{other}ref": "paper", f"{other}0": 0, f"{other}1": 1}
    line = {"color": GREY, "width": 1, "dash": "dot"}
    return [
        {"type": "line", f"{letter}0": at, f"{letter}1": at, "line": line} | ends
        for at in axis.marks
    ]


def _plain_choice(choice: Choice) -> dict[str, Any]:
    return {key: list(v) if isinstance(v, tuple) else v for key, v in choice.items()}


def escape(text: object) -> str:
    """Return text that plotly, which knows some tags, draws as it is."""
    return html.escape(str(text), quote=True)


def faint(colour: str, opacity: float = 0.18) -> str:
    """Return a colour as `rgba(…)`."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _trace(part: Part, figure: Figure) -> dict[str, Any]:
    match part:
        case Series():
            return _series(part, figure.digits)
        case Band():
            return {
                "type": "scatter",
                "mode": "lines",
                "name": escape(part.name),
                "x": rounded(part.x, figure.digits),
                "y": rounded(part.y, figure.digits),
                "fill": "toself",
                "fillcolor": faint(part.colour),
                "line": {"width": 0, "color": part.colour},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        case Columns():
            return {
                "type": "bar",
                "orientation": "h",
                "y": [escape(name) for name in part.names],
                "x": rounded(part.values, figure.digits),
                "marker": {"color": BLUE},
                "hovertemplate": "%{y}: %{x}<extra></extra>",
            }
        case Cells():
            return {
                "type": "heatmap",
                "x": [escape(name) for name in part.x],
                "y": [escape(name) for name in part.y],
                "z": rounded(part.values, figure.digits),
                "colorscale": part.colours,
                "xgap": 1,
                "ygap": 1,
                "hoverongaps": False,
                "colorbar": {"title": {"text": escape(part.title), "side": "right"}}
                | {"thickness": 12},
            } | _hover(part.hover)
        case Note():
            return _note(part, figure)


def _broken(name: str) -> str:
    """Return a long name broken at its last hyphen."""
    return "-<br>".join(escape(name).rsplit("-", 1)) if len(name) > LONG_NAME else escape(name)


def _values(values: Any, digits: int) -> list[Any]:
    return [escape(v) for v in values] if is_named(values) else rounded(values, digits)


def _hover(hover: Hover | None) -> dict[str, Any]:
    if hover is None:
        return {"hoverinfo": "skip"}
    told = {"customdata": [list(row) for row in hover.rows]} if hover.rows else {}
    return told | {"hovertemplate": hover.template}


def _series(part: Series, digits: int) -> dict[str, Any]:
    modes = [word for word, on in (("lines", part.width), ("markers", part.symbol)) if on]
    x, y = _values(part.x, digits), _values(part.y, digits)
    trace: dict[str, Any] = {"type": "scatter", "name": escape(part.name), "x": x, "y": y}
    if part.width:
        trace["line"] = {"color": part.colour, "width": part.width, "dash": part.dash}
    if part.symbol:
        several = not isinstance(part.symbol, str)
        trace["marker"] = {
            "color": part.colour,
            "symbol": list(part.symbol) if several else part.symbol,
            "size": part.size,
            "opacity": part.opacity,
        }
        if part.outlined:
            trace["marker"]["line"] = {"width": 1.5, "color": GREY}
    if part.low is not None and part.high is not None:
        middle, low, high = (
            np.asarray(v, dtype=float)
            for v in (part.y if part.bars == "y" else part.x, part.low, part.high)
        )
        colour = GREY if not isinstance(part.colour, str) else part.colour
        trace[f"error_{part.bars}"] = {
            "type": "data",
            "symmetric": False,
            "array": rounded(high - middle, digits),
            "arrayminus": rounded(middle - low, digits),
            "thickness": 1.2,
            "width": 0 if part.bar_opacity < 1 else 3,
            "color": faint(colour, part.bar_opacity) if part.bar_opacity < 1 else colour,
        }
    if part.end_label:
        modes.append("text")
        trace |= {"text": [""] * (len(x) - 1) + [escape(part.end_label)]}
        trace |= {"textposition": "top left", "textfont": {"size": 10}}
    if not part.in_legend:
        trace["showlegend"] = False
    return trace | {"mode": "+".join(modes)} | _hover(part.hover)


def _note(part: Note, figure: Figure) -> dict[str, Any]:
    """Return text above the upper left corner, outside of what is drawn; axes must have ends."""
    (left, _), (_, top) = figure.x.ends or (0.0, 1.0), figure.y.ends or (0.0, 1.0)
    return {
        "type": "scatter",
        "mode": "text",
        "x": [left],
        "y": [top],
        "text": ["<br>".join(escape(line) for line in part.lines)],
        "textposition": "top right",
        "textfont": {"size": 11},
        "cliponaxis": False,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def _axis(axis: Axis, letter: str) -> dict[str, Any]:
    title = escape(axis.title) + (f"<br>wanted: {escape(axis.wanted)}" if axis.wanted else "")
    given: dict[str, Any] = {"title": {"text": title}}
    if axis.categories:
        names = [escape(name) for name in axis.categories]
        ends = [-0.5, len(names) - 0.5]
        given |= {"type": "category", "categoryorder": "array", "categoryarray": names}
        given |= {"range": ends if letter == "x" else ends[::-1], "showgrid": False}
        given |= {"tickmode": "array", "tickvals": names, "zeroline": False}
        if letter == "x":
            given["tickangle"] = 0 if len(names) < 35 else -90
            given["tickfont"] = {"size": 10 if len(names) < 50 else 8.5}
        else:
            given["ticktext"] = [escape(_short(name)) for name in axis.categories]
    if axis.ticks:
        given |= {"tickvals": list(axis.ticks), "ticktext": list(axis.ticks.values())}
        given["zeroline"] = False
    if axis.log:
        # without a format 0.5 and 0.05 are both written as 5
        given |= {"type": "log"} | (
            {"dtick": "D2", "tickformat": "~g"}
            if axis.ticks_125
            else {"dtick": 1, "exponentformat": "power"}
        )
    if axis.ends:
        given["range"] = list(np.log10(axis.ends) if axis.log else axis.ends)
    if axis.from_zero:
        given["rangemode"] = "tozero"
    if axis.zero_line:
        given |= {"zeroline": True, "zerolinewidth": 2}
    return given


def _short(text: str) -> str:
    return text if len(text) <= SHORT_NAME else text[: SHORT_NAME - 1].rstrip() + "…"
