"""Errors of several methods by number of labels or observations: one table, one curve a method."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from matml.core.text.words import interval_text, plural
from matml.figures.figure import Axis, Figure, Hover, Part, Series, style_of
from matml.report.html.figure_set import methods_legend
from matml.report.html.markup import Cell, interval, number, table, text_cell

SAME = 1e-9
"""Relative difference below which two errors are the same number."""


def methods_of(rows: pd.DataFrame) -> list[str]:
    """Return the methods of a table, the default first: its colour is no other method's."""
    default = rows[rows["is_default"].astype(bool)]["method"]
    return list(dict.fromkeys([*default, *rows["method"]]))


def alike(rows: pd.DataFrame, order: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the methods in order; those that gave the same errors throughout are one entry.

    Parameters
    ----------
    rows
        Columns method, shots, value and perhaps property, of one metric.
    """
    keys = [key for key in ("property", "shots") if key in rows]
    wide = rows.pivot_table(index=keys, columns="method", values="value")
    groups: list[list[str]] = []
    for method in (method for method in order if method in wide):
        for group in groups:
            if np.allclose(wide[method], wide[group[0]], rtol=SAME, atol=0, equal_nan=True):
                group.append(method)
                break
        else:
            groups.append([method])
    return [tuple(group) for group in groups]


def joint_title(group: Sequence[str], titles: Mapping[str, str]) -> str:
    """Return the titles of methods that gave the same numbers."""
    return " = ".join(titles.get(method, method) for method in group)


def joined_note(rows: pd.DataFrame, order: Sequence[str]) -> str:
    """Return what “=” between methods means, nothing where none are joined."""
    joined = any(len(group) > 1 for group in alike(rows, order))
    return " Methods joined by “=” gave the same numbers." if joined else ""


def legend(rows: pd.DataFrame, order: Sequence[str], titles: Mapping[str, str]) -> str:
    """Return the legend of the methods, one entry for those that gave the same errors."""
    entries = {group[0]: joint_title(group, titles) for group in alike(rows, order)}
    return methods_legend(order, entries)


def score_cell(row: pd.Series, kind: str = "") -> Cell:
    """Return a cell with a score and its interval."""
    ends = interval(row["low"], row["high"])
    shown = number(row["value"]) + (f'<br><span class="interval">{ends}</span>' if ends else "")
    return Cell(shown, float(row["value"]), f"num {kind}".strip())


def error_table(
    rows: pd.DataFrame, order: Sequence[str], titles: Mapping[str, str], what: str, note: str = ""
) -> str:
    """Return the errors of one property or data set, a row a method; the best of each is bold.

    Parameters
    ----------
    what
        Is counted in the columns, in the singular: `label`, `observation`.
    """
    shots = sorted(int(k) for k in rows["shots"].unique())
    best = rows.groupby("shots")["value"].min()
    body = []
    for group in alike(rows, order):
        own = rows[rows["method"] == group[0]].set_index("shots")
        star = " ★" if rows[rows["method"].isin(group)]["is_default"].astype(bool).any() else ""
        cells = [
            score_cell(own.loc[k], "best" if own.loc[k, "value"] == best[k] else "")
            if k in own.index
            else text_cell("–", "num")
            for k in shots
        ]
        body.append([text_cell(joint_title(group, titles) + star), *cells])
    head = ["method", *(f"{k} {plural(what, k)}" for k in shots)]
    return table(head, body, sortable=True, note=f"{note} ★ the default.".strip())


def error_curves(
    rows: pd.DataFrame,
    order: Sequence[str],
    titles: Mapping[str, str],
    axes: tuple[str, str],
    what: str,
    *,
    shown: Sequence[str],
    log: bool = False,
    **figure: Any,
) -> Figure:
    """Return error against the number of labels, a line a method with its 95 % interval.

    Parameters
    ----------
    rows
        Columns method, shots, value, low, high, is_default; one property, one metric.
    order
        All methods of the page, so that a method has one colour everywhere.
    shown
        Methods drawn at first; the others appear with a click on the legend.
    figure
        Further attributes of the figure.
    """
    shots = sorted(rows["shots"].unique())
    # categories as positions, so that 0 labels has a place beside 5, 10, 20
    place = {value: position for position, value in enumerate(shots)}
    groups = alike(rows, order)
    parts: list[Part] = []
    for rank, group in enumerate(groups):
        own = rows[rows["method"] == group[0]].sort_values("shots")
        default = bool(rows[rows["method"].isin(group)]["is_default"].any())
        colour, symbol, dash = style_of(list(order).index(group[0]))
        shift = 0.02 * (rank - (len(groups) - 1) / 2)
        own = _broken_where_families_change(own)
        told = [
            (None if math.isnan(row.shots) else row.shots, span_words(row.low, row.high))
            for row in own.itertuples()
        ]
        parts.append(
            Series(
                [math.nan if math.isnan(k) else place[k] + shift for k in own["shots"]],
                own["value"],
                joint_title(group, titles) + (" (default)" if default else ""),
                colour,
                symbol,
                size=9 if default else 7,
                width=3.5 if default else 1.6,
                dash=dash,
                low=own["low"],
                high=own["high"],
                hover=Hover(
                    f"%{{fullData.name}}<br>%{{customdata[0]}} {what}s: %{{y:.3g}} "
                    "%{customdata[1]}<extra></extra>",
                    told,
                ),
                choice={"method": group if len(group) > 1 else group[0]},
            )
        )
    x, y = axes
    return Figure(
        x=Axis(x, ticks={place[k]: str(int(k)) for k in shots}),
        y=Axis(y, log=log, ticks_125=log, from_zero=not log),
        parts=parts,
        chosen={"method": tuple(shown)},
        digits=7,
        **figure,
    )


def span_words(low: float, high: float) -> str:
    """Return `[0.1, 0.2]`, nothing where there is no interval."""
    return "" if math.isnan(low) or math.isnan(high) else interval_text(low, high)


def _broken_where_families_change(own: pd.DataFrame) -> pd.DataFrame:
    """Return the points with an empty one between those that are means over other families.

    A line from one to the other would show a trend where only the families differ.
    """
    columns = ["shots", "value", "low", "high"]
    own = own.assign(**own[columns].astype(float))
    if "n_families" not in own:
        return own
    changed = own["n_families"].ne(own["n_families"].shift()).cumsum()
    gap = pd.DataFrame([dict.fromkeys(columns, math.nan)])
    parts = [part for _, group in own.groupby(changed) for part in (group[columns], gap)]
    return pd.concat(parts[:-1], ignore_index=True)
