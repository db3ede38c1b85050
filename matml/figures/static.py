"""Figures as files for papers (PNG, SVG) and as tables of the numbers drawn; with matplotlib."""

import logging
import math
import re
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Sheet
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from matml.core.files import atomic
from matml.figures.figure import (
    BLUE,
    Axis,
    Band,
    Cells,
    Choice,
    Columns,
    Figure,
    Note,
    Panels,
    Part,
    Series,
    Values,
    is_named,
    matches,
    rounded,
)

log = logging.getLogger(__name__)
GLYPH = re.compile(r"Glyph .* missing from")
SHAPES = dict(
    zip(
        ("circle", "square", "diamond", "triangle-up", "cross", "x", "star"), "osD^PX*", strict=True
    )
)
LINES: dict[str, Any] = {"solid": "-", "dash": (0, (4, 3)), "dot": (0, (1, 2))}
# SVG ids are salted and dates left out, so that the same run writes the same file
SETTINGS: Any = {
    "font.size": 9,
    "svg.hashsalt": "matml",
    "svg.fonttype": "path",
    "axes.titlesize": 9,
}
PLAIN: Any = {"text.usetex": False}
"""Names of alloys may hold what TeX takes for commands."""
DPI = 200
POINT = 0.62
"""Of a marker's size in points, from px on a page."""
MOST_LEGEND = 14
"""Entries above which a legend tells less than it hides."""
TITLE, NOTE, LEGEND = 9.5, 7.5, 7.5
"""Sizes of letters in points."""


def write(figure: Figure | Panels, paths: Sequence[Path]) -> None:
    """Write a figure to files, PNG or SVG by their endings."""
    with mpl.rc_context(SETTINGS), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        drawn = render_panels(figure) if isinstance(figure, Panels) else render(figure)
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            with atomic(path) as unfinished:
                drawn.savefig(unfinished, dpi=DPI, format=path.suffix[1:], metadata=metadata)
    said = [str(one.message) for one in caught]
    if any(GLYPH.match(text) for text in said):
        log.warning("%s: the font lacks letters of it, which are drawn as boxes", paths[0])
    for one, text in zip(caught, said, strict=True):
        if not GLYPH.match(text):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def plain(text: str) -> str:
    """Return text that is drawn as it is: a dollar would begin a formula."""
    return text.replace("$", r"\$")


@mpl.rc_context(PLAIN)
def render(figure: Figure) -> Sheet:
    """Return a drawn figure under its title and note; the values of `panels` stand side by side."""
    found = {part.choice[figure.panels] for part in figure.parts if figure.panels in part.choice}
    values: list[Any] = sorted(found) or [None]
    several = len(values) > 1
    if figure.x.categories and figure.y.categories:
        width, height = 2.6 + 0.19 * len(figure.x.categories), 1.1 + 0.26 * len(figure.y.categories)
    else:
        width = 1.2 + 3.0 * len(values) if several else 6.4
        height = max(0.3 + figure.height / 95, 0.0 if figure.y.categories else 3.6)
    sheet = Sheet(figsize=(width, height), layout="constrained")
    panels = np.atleast_1d(sheet.subplots(1, len(values), sharey=several))
    for value, axes in zip(values, panels, strict=True):
        chosen = dict(figure.chosen) | ({} if value is None else {figure.panels: value})
        _draw_parts(axes, figure, chosen)
        if told := _chosen_labels(chosen):
            axes.set_title(told, loc="left")
        axes.label_outer()
    _legend(sheet, panels)
    _head(sheet, figure.title, figure.note)
    return sheet


def draw_on(axes: Axes, figure: Figure) -> None:
    """Draw a figure on axes that are there, with its title, note and a legend."""
    with mpl.rc_context(PLAIN):
        _draw_parts(axes, figure, figure.chosen)
        points = axes.bbox.width / axes.figure.dpi * 72
        lines = textwrap.wrap(figure.note, max(24, int(points / (NOTE * 0.54))))
        axes.set_title(plain(figure.title), pad=6 + 1.35 * NOTE * len(lines), usetex=False)
        axes.annotate(
            plain("\n".join(lines)),
            (0.5, 1),
            xytext=(0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=NOTE,
            annotation_clip=False,
        )
        _legend_on(axes)


def _legend_on(axes: Axes) -> None:
    if 1 < len(axes.get_legend_handles_labels()[1]) <= MOST_LEGEND:
        axes.legend(frameon=False, fontsize=LEGEND)


@mpl.rc_context(PLAIN)
def render_panels(panels: Panels) -> Sheet:
    """Return several drawn figures under one title and note; one legend serves all."""
    across = max(len(row) for row in panels.rows)
    size = across * panels.width, len(panels.rows) * panels.height
    sheet = Sheet(figsize=size, layout="constrained")
    grid = sheet.subplots(len(panels.rows), across, squeeze=False)
    for places, row in zip(grid, panels.rows, strict=True):
        for axes, figure in zip(places, row, strict=False):
            _draw_parts(axes, figure, figure.chosen)
            told = "\n".join(filter(None, (figure.title, figure.note)))
            axes.set_title(plain(told), loc="left")
            if not (figure.x.log or figure.x.ticks or figure.x.categories):
                axes.locator_params(axis="x", nbins=5)
        for axes in places[len(row) :]:
            axes.set_visible(False)
    _legend(sheet, grid.ravel())
    _head(sheet, panels.title, panels.note)
    return sheet


def _draw_parts(axes: Axes, figure: Figure, chosen: Choice) -> None:
    """Draw what is chosen of a figure, and its axes."""
    for part in figure.parts:
        if matches(part.choice, chosen):
            _draw(axes, part, figure)
    _dress(axes, figure.x, "x")
    _dress(axes, figure.y, "y")
    if not any(isinstance(part, Cells) for part in figure.parts):
        axes.set_axisbelow(True)
        axes.grid(True, color="0.9", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)


def _chosen_labels(chosen: Choice) -> str:
    """Return how many labels a panel is of, where that is a choice."""
    shots = str(chosen.get("shots", ""))
    return f"{shots} label{'' if shots == '1' else 's'}" if shots else ""


def _head(sheet: Sheet, title: str, note: str) -> None:
    """Put title and note above what is drawn; the sheet grows by their height."""
    width, height = sheet.get_size_inches()
    top, lines = 0.06, []
    for text, size, weight in ((title, TITLE, "bold"), (note, NOTE, "normal")):
        # a letter is about half as wide as it is high, in points of 1/72 inch
        fitting = max(24, int((width - 0.2) * 72 / (size * (0.62 if weight == "bold" else 0.54))))
        for line in textwrap.wrap(text, fitting):
            lines.append((line, size, weight, top))
            top += 1.35 * size / 72
    top += 0.08
    sheet.set_size_inches(width, height + top)
    for line, size, weight, at in lines:
        place = 1 - at / (height + top)
        sheet.text(0.1 / width, place, plain(line), size=size, weight=weight, va="top")
    engine = sheet.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, 0, 1, height / (height + top)))  # type: ignore[call-arg]


def _legend(sheet: Sheet, panels: Sequence[Axes] | np.ndarray) -> None:
    """Put one legend of all panels below them."""
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if not 1 < len(named) <= MOST_LEGEND:
        return
    width, height = sheet.get_size_inches()
    letter = 0.5 * LEGEND / 72
    labels = [textwrap.fill(label, max(24, int((width - 1) / letter))) for label in named]
    widest = 0.45 + letter * max(len(line) for label in labels for line in label.split("\n"))
    # filled by columns, in order: as many rows as are needed, evenly
    rows = math.ceil(len(named) / max(1, int(width / widest)))
    across = math.ceil(len(named) / rows)
    lines = rows + sum(label.count("\n") for label in labels)
    sheet.set_size_inches(width, height + 1.9 * LEGEND / 72 * (lines - 1))
    sheet.legend(
        list(named.values()),
        labels,
        loc="outside lower center",
        ncols=across,
        frameon=False,
        fontsize=LEGEND,
        handlelength=2.5,
    )


def _draw(axes: Axes, part: Part, figure: Figure) -> None:
    match part:
        case Series():
            _draw_series(axes, part, _places(part.x, figure.x), _places(part.y, figure.y))
        case Band():
            axes.fill(part.x, part.y, color=part.colour, alpha=0.18, linewidth=0)
        case Columns():
            axes.barh(_places(part.names, figure.y), _places(part.values, figure.x), color=BLUE)
        case Cells():
            _draw_cells(axes, part, figure)
        case Note():
            axes.set_title(plain("\n".join(part.lines)), loc="right", fontsize=6.5)


def _places(values: Values, axis: Axis) -> np.ndarray:
    """Return where values stand: numbers as they are, categories by their position."""
    given = list(values)
    return np.array([axis.categories.index(v) for v in given] if is_named(given) else given, float)


def _draw_series(axes: Axes, part: Series, x: np.ndarray, y: np.ndarray) -> None:
    label = plain(part.name) if part.name and part.in_legend else "_"
    if label.startswith("_") and len(label) > 1:
        # which matplotlib would leave out of a legend
        label = f" {label}"
    first = part.colour if isinstance(part.colour, str) else next(iter(part.colour), BLUE)
    if part.low is not None and part.high is not None:
        middle = x if part.bars == "x" else y
        ends = np.stack([middle - np.asarray(part.low), np.asarray(part.high) - middle])
        axes.errorbar(
            x,
            y,
            **{f"{part.bars}err": np.abs(np.nan_to_num(ends.astype(float)))},
            fmt="none",
            ecolor=part.colour if isinstance(part.colour, str) else "0.6",
            elinewidth=0.8,
            alpha=0.5,
            capsize=0,
            zorder=1,
        )
    if part.width:
        symbol = part.symbol if isinstance(part.symbol, str) else part.symbol[0]
        axes.plot(
            x,
            y,
            color=first,
            linewidth=POINT * part.width,
            linestyle=LINES[part.dash],
            label=label,
        )
        if symbol:
            # both in the legend: two methods may differ by the dashes alone
            shape = SHAPES[symbol.removesuffix("-open")]
            axes.lines[-1].set_label("_")
            axes.plot(
                [],
                [],
                color=first,
                linewidth=POINT * part.width,
                linestyle=LINES[part.dash],
                marker=shape,
                markersize=POINT * part.size,
                markeredgewidth=0,
                label=label,
            )
            label = "_"
    if part.end_label:
        axes.annotate(
            plain(part.end_label),
            (x[-1], y[-1]),
            xytext=(-4, 2),
            textcoords="offset points",
            fontsize=7,
            color="0.4",
            ha="right",
            annotation_clip=True,
        )
    if part.symbol:
        _draw_points(axes, x, y, part, label)


def _draw_points(axes: Axes, x: np.ndarray, y: np.ndarray, part: Series, label: str) -> None:
    """Draw points, one call for each kind of marker."""
    n = len(x)
    colours = np.array([part.colour] * n if isinstance(part.colour, str) else part.colour)
    symbols = np.array([part.symbol] * n if isinstance(part.symbol, str) else part.symbol)
    for symbol in dict.fromkeys(symbols):
        rows = symbols == symbol
        hollow = symbol.endswith("-open")
        axes.scatter(
            x[rows],
            y[rows],
            s=(POINT * part.size) ** 2,
            marker=SHAPES[symbol.removesuffix("-open")],
            facecolors="none" if hollow else colours[rows],
            edgecolors=colours[rows] if hollow else "black" if part.outlined else "none",
            linewidths=1.2 if hollow else 0.8 if part.outlined else 0,
            alpha=part.opacity,
            label=label,
            zorder=3 if part.width or part.outlined else 2,
        )
        label = "_"


def _draw_cells(axes: Axes, part: Cells, figure: Figure) -> None:
    """Draw coloured cells; those without a number stay empty."""
    columns, rows = list(figure.x.categories), list(figure.y.categories)
    cells = np.full((len(rows), len(columns)), np.nan)
    for x, y, value in zip(part.x, part.y, np.asarray(part.values, dtype=float), strict=True):
        cells[rows.index(y), columns.index(x)] = value
    drawn = axes.pcolormesh(
        np.arange(len(columns) + 1) - 0.5,
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(cells),
        cmap=part.colours.lower(),
        edgecolors="white",
        linewidth=0.8,
    )
    axes.figure.colorbar(drawn, ax=axes, label=part.title, pad=0.01)
    axes.set_facecolor("0.95")
    axes.tick_params(length=0)


def _dress(axes: Axes, axis: Axis, letter: str) -> None:
    """Set title, scale, range and ticks of an axis."""
    own = axes.xaxis if letter == "x" else axes.yaxis
    own.set_label_text(plain(axis.title + (f"\nwanted: {axis.wanted}" if axis.wanted else "")))
    set_ends = axes.set_xlim if letter == "x" else axes.set_ylim
    if axis.categories:
        small = letter == "x" or len(axis.categories) > 12
        own.set_ticks(
            range(len(axis.categories)), list(map(plain, axis.categories)), size=7 if small else 8
        )
        ends = -0.5, len(axis.categories) - 0.5
        set_ends(*(ends if letter == "x" else ends[::-1]))
    if axis.log:
        (axes.set_xscale if letter == "x" else axes.set_yscale)("log")
        if axis.ticks_125:
            own.set_major_locator(LogLocator(subs=(1, 2, 5)))
            own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            own.set_minor_locator(NullLocator())
        own.set_minor_formatter(NullFormatter())
    if axis.ticks:
        own.set_ticks(list(axis.ticks), list(map(plain, axis.ticks.values())))
    if axis.ends:
        set_ends(*axis.ends)
    elif axis.from_zero:
        set_ends(0, None)
    across = axes.axvline if letter == "x" else axes.axhline
    if axis.zero_line:
        across(0, color="0.4", linewidth=0.8, zorder=0)
    for value in axis.marks:
        across(value, color="0.6", linewidth=0.8, linestyle=LINES["dot"], zorder=0)


def table(figure: Figure) -> pd.DataFrame:
    """Return the numbers of a figure, a row a point or cell; all menus' choices, with their keys.

    Columns series, the menus' keys, the axes' titles, `minus` and `plus` (length of the bar to
    either side) where there are bars, and `about` (what a point is) where it is told.
    """
    x_title, y_title = (
        f"{axis.title}, wanted: {axis.wanted}" if axis.wanted else axis.title
        for axis in (figure.x, figure.y)
    )
    names = (x_title or "x", y_title or "y")
    tables = []
    for part in figure.parts:
        own = _numbers(part, *names)
        if own is None or own.empty:
            continue
        for key, value in reversed(list(part.choice.items())):
            several = isinstance(value, list | tuple)
            own.insert(0, key, ", ".join(map(str, value)) if several else value)
        own.insert(0, "series", getattr(part, "name", ""))
        tables.append(own)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _numbers(part: Part, x_title: str, y_title: str) -> pd.DataFrame | None:
    """Return the numbers of one part, or None where it holds none."""
    match part:
        case Series() if part.in_table:
            own = pd.DataFrame({x_title: _plain(part.x), y_title: _plain(part.y)})
            if part.low is not None and part.high is not None:
                middle = np.asarray(part.x if part.bars == "x" else part.y, dtype=float)
                own["minus"] = _plain(middle - np.asarray(part.low, dtype=float))
                own["plus"] = _plain(np.asarray(part.high, dtype=float) - middle)
            return own.assign(about=list(part.labels)) if part.labels else own
        case Band():
            return pd.DataFrame({x_title: _plain(part.x), y_title: _plain(part.y)})
        case Columns():
            return pd.DataFrame({y_title: list(part.names), x_title: _plain(part.values)})
        case Cells():
            cells = {"group": part.y, x_title: part.x, part.title: _plain(part.values)}
            return pd.DataFrame(cells | dict(part.table))
    return None


def _plain(values: Values) -> list[Any]:
    return list(values) if is_named(values) else rounded(values, 7)
