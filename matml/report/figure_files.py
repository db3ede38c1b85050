"""The page's figures as files for papers: PNG, SVG, and a CSV of the numbers drawn."""

import shutil
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from matml.core.files import write_table
from matml.report.figures.figure import PLAIN_DIGITS, Drawing
from matml.report.html.markup import bare
from matml.report.html.results import Results
from matml.report.sections.kinetics.overview import error_drawings
from matml.report.sections.kinetics.transformations import kinetics_drawings
from matml.report.sections.properties.benchmark import benchmark_drawings
from matml.report.sections.properties.calibration import calibration_drawings
from matml.report.sections.properties.learning_curves import curve_drawings, training_drawings
from matml.report.sections.properties.parity import parity_drawings, read_predictions
from matml.report.sections.properties.scores import Scores
from matml.report.sections.screening.chemistry import family_maps
from matml.report.sections.screening.pareto import candidate_map_drawings, pareto_drawings

SHAPES = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
}
DASHES = {"dash": (0, (4, 3)), "dot": (0, (1, 2))}
SETTINGS = {"font.size": 9, "svg.hashsalt": "matml", "svg.fonttype": "path", "axes.titlesize": 9}
DPI = 200
MOST_LEGEND = 14


def all_drawings(results: Results) -> list[Drawing]:
    """Return all figures that a folder of results allows."""
    drawings: list[Drawing] = []
    scores = Scores.read(results)
    if scores is not None:
        drawings += curve_drawings(scores)
        rows = read_predictions(results)
        if rows is not None:
            drawings += parity_drawings(rows, scores)
            drawings += calibration_drawings(rows, scores)
            drawings += family_maps(rows, scores)
        drawings += training_drawings(results)
    drawings += pareto_drawings(results) + candidate_map_drawings(results)
    drawings += benchmark_drawings(results)
    return drawings + error_drawings(results) + kinetics_drawings(results)


def write_figures(results: Results, folder: Path) -> int:
    """Write all figures to a folder, which is replaced whole; return their number.

    Each as `<name>.png`, `<name>.svg` and `<name>.csv`.
    """
    folder = Path(folder)
    drawings = all_drawings(results)
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for drawing in drawings:
            write_table(unfinished / f"{drawing.name}.csv", numbers_of(drawing))
            # SVG ids are salted and dates left out, so that the same run writes the same file
            with mpl.rc_context(SETTINGS):
                figure = render(drawing)
                figure.savefig(unfinished / f"{drawing.name}.png", dpi=DPI)
                figure.savefig(unfinished / f"{drawing.name}.svg", metadata={"Date": None})
        unfinished.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(drawings)


def numbers_of(drawing: Drawing) -> pd.DataFrame:
    """Return the numbers of a figure, a row a point or cell; all menus' choices, with their keys.

    Columns series, the menus' keys, the axes' titles, `minus` and `plus` (length of the bar to
    either side) where there are bars, and `about` (what a hover tells first).
    """
    layout = drawing.spec["layout"]
    names = [_title(layout, key) or key for key in ("xaxis", "yaxis")]
    parts = []
    for trace in drawing.spec["data"]:
        if trace.get("mode") == "text" or trace.get("name") == "equality":
            continue
        if trace["type"] == "scatter" and set(trace["x"]) == {None}:
            continue  # for the legend only
        table = _cells(trace, names) if trace["type"] == "heatmap" else _point_table(trace, names)
        for key, value in reversed(trace.get("meta", {}).items()):
            words = ", ".join(map(str, value)) if isinstance(value, list) else value
            table.insert(0, key, words)
        table.insert(0, "series", _plain(trace.get("name", "")))
        parts.append(table)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _title(layout: dict[str, Any], key: str) -> str:
    text = str(layout.get(key, {}).get("title", {}).get("text", ""))
    return _plain(text.replace("<br>", ", " if "wanted" in text else " "))


def _plain(text: object) -> str:
    """Return a text of the page without its markup."""
    return bare(str(text)).translate(PLAIN_DIGITS)


def _point_table(trace: dict[str, Any], names: list[str]) -> pd.DataFrame:
    table = pd.DataFrame({names[0]: _texts(trace["x"]), names[1]: _texts(trace["y"])})
    bar = trace.get("error_y") or trace.get("error_x")
    if bar:
        table["minus"], table["plus"] = bar["arrayminus"], bar["array"]
    told = trace.get("customdata")
    if told and isinstance(told[0][0], str):
        table["about"] = [_plain(row[0]) for row in told]
    return table


def _cells(trace: dict[str, Any], names: list[str]) -> pd.DataFrame:
    told = trace["customdata"]
    return pd.DataFrame(
        {
            "group": _texts(trace["y"]),
            names[0]: trace["x"],
            _plain(trace["colorbar"]["title"]["text"]): trace["z"],
            "crystals": [row[0] for row in told],
            "about": [_plain(row[3]) for row in told],
        }
    )


def _texts(values: list) -> list:
    return [_plain(value) if isinstance(value, str) else value for value in values]


def render(drawing: Drawing) -> Figure:
    """Return a figure drawn from the numbers of the page's one.

    What the page lets one choose stands side by side (`panels`), or as it is at first.
    """
    traces, layout = drawing.spec["data"], drawing.spec["layout"]
    key = drawing.panels
    values = list(dict.fromkeys(t["meta"][key] for t in traces if key in t.get("meta", {})))
    values = sorted(values) if key else []
    first = {k: v for t in traces if t.get("visible") for k, v in t.get("meta", {}).items()}
    columns = max(1, len(values))
    maps = [t for t in traces if t["type"] == "heatmap"]
    size = (
        tuple(
            start + each * len(layout[key]["categoryarray"])
            for key, start, each in (("xaxis", 2.6, 0.19), ("yaxis", 1.1, 0.26))
        )
        if maps
        else (1.2 + 3.0 * columns, 0.4 + drawing.height / 95)
        if columns > 1
        else (6.0, 4.2)
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, columns, sharey=columns > 1))
    for value, axes in zip(values or [None], panels, strict=True):
        for trace in traces:
            meta = trace.get("meta", {})
            seen = (
                trace.get("visible", True)
                if key not in meta
                else meta[key] == value
                and all(meta[k] == first.get(k) for k in meta if k not in (key, "family"))
            )
            if seen:
                _draw_map(axes, trace, layout) if maps else _draw(axes, trace)
        if maps:
            _explain(axes, drawing)
            continue
        named = _dress(axes, layout, named=columns == 1)
        if value is not None:
            axes.set_title(f"{value} label{'' if value == 1 else 's'}", loc="left")
            axes.label_outer()
        elif not named:
            _explain(axes, drawing)
    if columns > 1 and drawing.name.startswith("parity"):
        _shared_legend(figure, panels)
    return figure


def _explain(axes: Axes, drawing: Drawing) -> None:
    """Put above a figure without a legend what the page says below it; the figure grows by that."""
    width, height = axes.figure.get_size_inches()
    # about 14 letters an inch, beside labels and colour bar
    lines = textwrap.wrap(_plain(drawing.caption), max(24, int(14 * (width - 1.5))))
    axes.set_title("\n".join(lines), loc="left", fontsize=8)
    axes.figure.set_size_inches(width, height + 0.14 * len(lines))


def _shared_legend(figure: Figure, panels: np.ndarray) -> None:
    """Put one legend of all panels below them."""
    named = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    if named:
        figure.legend(
            named.values(), named, loc="outside lower center", ncols=5, frameon=False, fontsize=7.5
        )


def _floats(values: list) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)


def _draw(axes: Axes, trace: dict[str, Any]) -> None:
    """Draw one trace."""
    x, y = (
        [_plain(value) for value in trace[key]]
        if trace[key] and isinstance(trace[key][0], str)
        else _floats(trace[key])
        for key in ("x", "y")
    )
    line, marker, mode = trace.get("line", {}), trace.get("marker", {}), trace["mode"]
    if mode == "text":
        text = trace["text"][0].replace("<br>", "\n")
        ground = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
        axes.annotate(
            text, (0.03, 0.97), xycoords="axes fraction", fontsize=7.5, va="top", bbox=ground
        )
        return
    if trace.get("fill") == "toself":
        axes.fill(x, y, color=line.get("color"), alpha=0.18, linewidth=0)
        return
    label = _plain(trace.get("name", "")) if trace.get("showlegend", True) else ""
    label = "_" if label in ("", "equality") else label
    colour = marker.get("color", line.get("color"))
    for name in ("error_x", "error_y"):
        bar = trace.get(name)
        if bar:
            ends = np.stack([_floats(bar["arrayminus"]), _floats(bar["array"])])
            axes.errorbar(
                x,
                y,
                **{name.replace("error_", "") + "err": np.nan_to_num(np.abs(ends))},
                fmt="none",
                ecolor="0.6" if isinstance(colour, list) else colour,
                elinewidth=0.8,
                alpha=0.5,
                capsize=0,
                zorder=1,
            )
    if "lines" in mode:
        look = {
            "color": line.get("color"),
            "linewidth": 0.6 * line.get("width", 2),
            "linestyle": DASHES.get(line.get("dash", "solid"), "-"),
        }
        if "markers" in mode:
            # both in the legend: two methods may differ by the dashes alone
            symbol = marker.get("symbol", "circle")
            symbol = symbol[0] if isinstance(symbol, list) else symbol
            shape = SHAPES.get(symbol.removesuffix("-open"), "o")
            size = 0.62 * marker.get("size", 6)
            axes.plot([], [], **look, marker=shape, markersize=size, markeredgewidth=0, label=label)
            label = "_"
        axes.plot(x, y, **look, label=label, alpha=trace.get("opacity", 1))
    if mode == "lines+text":
        for place in zip(x, y, trace["text"], strict=True):
            if place[2]:
                axes.annotate(
                    place[2],
                    place[:2],
                    xytext=(-5, 1),
                    textcoords="offset points",
                    fontsize=7,
                    color="0.4",
                    ha="right",
                )
    if "markers" in mode:
        _draw_marks(axes, x, y, trace, label)


def _draw_marks(axes: Axes, x: Any, y: Any, trace: dict[str, Any], label: str) -> None:
    """Draw points; one call for each kind of marker."""
    marker = trace["marker"]
    colour, symbol = marker.get("color"), marker.get("symbol", "circle")
    colours = colour if isinstance(colour, list) else [colour] * len(x)
    symbols = symbol if isinstance(symbol, list) else [symbol] * len(x)
    kinds = pd.DataFrame({"colour": colours, "symbol": symbols})
    line = trace.get("line", {})
    for position, ((own, shape), rows) in enumerate(
        kinds.groupby(["colour", "symbol"]).groups.items()
    ):
        is_open = shape.endswith("-open")
        axes.plot(
            np.asarray(x)[rows],
            np.asarray(y)[rows],
            linestyle="none",
            marker=SHAPES.get(shape.removesuffix("-open"), "o"),
            markersize=0.62 * marker.get("size", 6),
            markerfacecolor="none" if is_open else own,
            markeredgecolor=own if is_open else "none",
            markeredgewidth=1.2 if is_open else 0,
            alpha=marker.get("opacity", 1),
            label=label if position == 0 else "_",
            zorder=3 if line else 2,
        )


def _draw_map(axes: Axes, trace: dict[str, Any], layout: dict[str, Any]) -> None:
    """Draw cells; those without a crystal stay empty."""
    columns, rows = layout["xaxis"]["categoryarray"], layout["yaxis"]["categoryarray"]
    cells = np.full((len(rows), len(columns)), np.nan)
    for x, y, z in zip(trace["x"], trace["y"], _floats(trace["z"]), strict=True):
        cells[rows.index(y), columns.index(x)] = z
    drawn = axes.pcolormesh(
        np.ma.masked_invalid(cells),
        cmap=trace["colorscale"].lower(),
        edgecolors="white",
        linewidth=0.8,
    )
    title = _plain(trace["colorbar"]["title"]["text"])
    axes.figure.colorbar(drawn, ax=axes, label=title, pad=0.01)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=7)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [_plain(row) for row in rows], fontsize=8)
    axes.set(xlabel=_title(layout, "xaxis"))
    axes.invert_yaxis()
    axes.set_facecolor("0.95")
    axes.tick_params(length=0)


def _dress(axes: Axes, layout: dict[str, Any], *, named: bool) -> bool:
    """Set titles, scales, ranges, grid and legend as the page has them.

    Return whether the legend names all there is.
    """
    for key, letter in (("xaxis", "x"), ("yaxis", "y")):
        given = layout.get(key, {})
        axes.set(**{f"{letter}label": _title(layout, key)})
        logarithmic = given.get("type") == "log"
        if logarithmic:
            axes.set(**{f"{letter}scale": "log"})
            if given.get("dtick") == "D2":
                own = getattr(axes, f"{letter}axis")
                own.set_major_locator(LogLocator(subs=(1, 2, 5)))
                own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                own.set_minor_locator(NullLocator())
        if "range" in given:
            ends = [10.0**e for e in given["range"]] if logarithmic else given["range"]
            axes.set(**{f"{letter}lim": ends})
        elif given.get("rangemode") == "tozero":
            axes.set(**{f"{letter}lim": (0, None)})
        if "tickvals" in given and "ticktext" in given and given.get("type") != "category":
            axes.set(
                **{f"{letter}ticks": given["tickvals"], f"{letter}ticklabels": given["ticktext"]}
            )
        if letter == "y" and given.get("autorange") == "reversed" and not axes.yaxis_inverted():
            axes.invert_yaxis()
        if given.get("zerolinewidth"):
            axes.axvline(0, color="0.4", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.grid(True, color="0.9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    if named and 1 < len(handles) <= MOST_LEGEND:
        axes.legend(
            handles,
            labels,
            frameon=False,
            fontsize=7.5,
            handlelength=3,
            loc="upper left",
            bbox_to_anchor=(1, 1),
        )
    return len(handles) <= MOST_LEGEND
