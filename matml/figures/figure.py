"""A figure as plain values: axes, series and words; two renderers draw the same numbers.

`matml.figures.plotly` draws it for a page, `matml.figures.static` for files. A series whose
`choice` names, say, a method and a number of labels is drawn only where these are chosen: by menus
on a page, by `Figure.chosen` and `Figure.panels` in a file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

# Okabe and Ito (2008), told apart by people with colour-blindness; readable on light and dark
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, GREY = "#56B4E9", "#E69F00", "#8A8A8A"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
DASHES = ("solid", "dash", "dot")

Values: TypeAlias = Sequence[Any] | np.ndarray | pd.Series
"""Numbers, or names."""
Choice: TypeAlias = Mapping[str, Any]
"""Key of a menu to a value, or to several of them."""


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes
    ----------
    title
        With its unit.
    wanted
        Second line of the title.
    log
        Whether it is logarithmic; `ticks_125` puts ticks at 1, 2 and 5 of each decade.
    ends
        First and last value drawn; by default all that there is.
    categories
        Names in their order (from the top, on a vertical axis); values are names then.
    ticks
        Places to words.
    zero_line
        Whether zero is marked.
    marks
        Values at which a thin line crosses the figure.
    """

    title: str = ""
    wanted: str = ""
    log: bool = False
    ticks_125: bool = False
    ends: tuple[float, float] | None = None
    from_zero: bool = False
    categories: Sequence[str] = ()
    ticks: Mapping[float, str] = field(default_factory=dict)
    zero_line: bool = False
    marks: Sequence[float] = ()


@dataclass(frozen=True)
class Hover:
    """What a page tells of a point under the mouse: a plotly template and a row for each point.

    Texts in it are markup; names of people, files and crystals must have been escaped.
    """

    template: str
    rows: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True)
class Series:
    """Points, joined by a line or not.

    Attributes
    ----------
    x, y
        Numbers, or categories of the axis.
    colour, symbol
        Of all points, or of each; without a symbol there is a line alone.
    width
        Of the line in px; zero for points that are not joined.
    low, high
        Ends of the bars through the points, along `bars`.
    labels
        What each point is, for a table of the numbers.
    end_label
        Words at the last point.
    in_table
        Whether a table of the numbers holds it; guides are left out.
    """

    x: Values
    y: Values
    name: str = ""
    colour: str | Sequence[str] = BLUE
    symbol: str | Sequence[str] = ""
    size: float = 7
    opacity: float = 1
    outlined: bool = False
    width: float = 0
    dash: str = "solid"
    low: Values | None = None
    high: Values | None = None
    bars: Literal["x", "y"] = "y"
    bar_opacity: float = 1
    labels: Sequence[str] = ()
    hover: Hover | None = None
    end_label: str = ""
    in_legend: bool = True
    in_table: bool = True
    choice: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class Band:
    """An area inside a closed line, such as the 90 % band of a curve."""

    x: Values
    y: Values
    name: str
    colour: str
    choice: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Horizontal bars from zero, the first on top."""

    names: Sequence[str]
    values: Values
    choice: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class Cells:
    """Coloured cells of a table; where there is none nothing is drawn.

    Attributes
    ----------
    x, y
        Categories of the axes, one of each for a cell.
    values
        Numbers that give the colours; `title` names them, with their unit.
    colours
        A colour map of plotly, which matplotlib has in lower case.
    table
        Further columns of a table of the numbers.
    """

    x: Sequence[str]
    y: Sequence[str]
    values: Values
    title: str
    colours: str = "Viridis"
    table: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    hover: Hover | None = None
    choice: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class Note:
    """Lines of text above what is drawn, which change with the choice."""

    lines: Sequence[str]
    choice: Choice = field(default_factory=dict)


Part: TypeAlias = Series | Band | Columns | Cells | Note


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes
    ----------
    name
        Of its files, without ending.
    title
        What is drawn, and of what: property, alloy or families, and that data are simulated where
        they are.
    note
        How to read it.
    summary
        What is to be seen, in plain words, for those who do not see it.
    legend
        Whether it has a legend of its own on a page; a file always has one.
    height
        On a page, in px.
    subject
        What it is of, for a menu that picks one of several figures.
    chosen
        What is drawn at first: key to a value, or several; "" for any.
    panels
        Key of `choice` whose values stand side by side in a file.
    least_width
        In px, below which the figure scrolls sideways on a page instead of shrinking; 0 for none.
    digits
        Significant ones of the numbers on a page: five are more than a screen shows.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    parts: Sequence[Part]
    note: str = ""
    summary: str = ""
    legend: bool = False
    height: int = 340
    subject: str = ""
    chosen: Choice = field(default_factory=dict)
    panels: str = ""
    least_width: int = 0
    digits: int = 5


@dataclass(frozen=True)
class Panels:
    """Several figures in one file, in rows; each one's title and note stand above its axes.

    Attributes
    ----------
    width, height
        Of a panel, in inches.
    """

    title: str
    rows: Sequence[Sequence[Figure]]
    note: str = ""
    width: float = 4.2
    height: float = 3.2


def with_common_y(figures: Sequence[Figure]) -> list[Figure]:
    """Return the figures with one range on their vertical axes, which shows all their points."""
    given = [
        np.asarray(values, dtype=float)
        for figure in figures
        for part in figure.parts
        if isinstance(part, Series)
        for values in (part.y, part.low, part.high)
        if values is not None and part.bars == "y"
    ]
    values = np.concatenate(given) if given else np.zeros(0)
    log = all(figure.y.log for figure in figures)
    values = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(values):
        return list(figures)
    low, high = float(values.min()), float(values.max())
    space = 0.05 * (high - low) or 1.0
    ends = (low / 1.1, high * 1.1) if log else (low - space, high + space)
    return [replace(figure, y=replace(figure.y, ends=ends)) for figure in figures]


def columns(
    name: str, title: str, names: Values, values: Values, unit: str, note: str = ""
) -> Figure:
    """Return a figure of horizontal bars, the first on top."""
    given = [str(one) for one in names]
    return Figure(
        name,
        title,
        Axis(unit, from_zero=True),
        Axis(categories=given),
        [Columns(given, values)],
        note,
        height=80 + 24 * len(given),
    )


def matches(choice: Choice, chosen: Choice) -> bool:
    """Return whether no key of a part's choice differs from what is chosen ("" for any)."""
    for key, value in chosen.items():
        wanted = _texts(value)
        own = _texts(choice.get(key, ""))
        if wanted != {""} and own != {""} and not wanted & own:
            return False
    return True


def _texts(value: Any) -> set[str]:
    return {str(one) for one in (value if isinstance(value, list | tuple) else [value])}


def style_of(position: int) -> tuple[str, str, str]:
    """Return colour, marker and dash of the series at a position; 21 differ."""
    # where no line joins them, points of one colour are told apart by their markers
    return *mark_of(position), DASHES[position // len(CYCLE) % len(DASHES)]


def mark_of(position: int) -> tuple[str, str]:
    """Return colour and marker of the group at a position; 49 differ."""
    turn, place = divmod(position, len(CYCLE))
    return CYCLE[place], SYMBOLS[(place + turn) % len(SYMBOLS)]


def between(shares: Values, colours: Sequence[str]) -> list[str]:
    """Return a colour for each share, from the first colour (0) to the last (1)."""
    stops = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in colours], dtype=float)
    places = np.clip(np.nan_to_num(np.asarray(shares, dtype=float)), 0, 1) * (len(colours) - 1)
    mixed = [np.interp(places, np.arange(len(colours)), channel) for channel in stops.T]
    return ["#" + "".join(f"{round(part):02x}" for part in row) for row in zip(*mixed, strict=True)]


def rounded(values: Values, digits: int) -> list[float | None]:
    """Return plain floats of so many significant digits; what is not finite becomes None."""
    return [
        float(f"{value:.{digits}g}") if math.isfinite(value) else None
        for value in np.asarray(values, dtype=float).tolist()
    ]


def is_named(values: Values) -> bool:
    """Return whether the values of an axis are categories."""
    return isinstance(next(iter(values), 0.0), str)


SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def subscripts(formula: object) -> str:
    """Return a formula with low digits."""
    return str(formula).translate(SUBSCRIPTS)
