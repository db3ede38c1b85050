"""How many values lie inside intervals of a nominal level: the intervals' calibration."""

import numpy as np
import pandas as pd

from matml.core.statistics import FEWEST_TASKS, bootstrap_interval
from matml.figures.figure import GREY, Axis, Figure, Hover, Part, Series, style_of
from matml.properties.stack.conformal import LEVEL, LEVELS, normal_ratio
from matml.report.html.figure_set import FigureSet, labels_menu
from matml.report.html.wording import property_title, sentence
from matml.report.sections.properties.parity import (
    first_method,
    method_menu,
    roles,
    subject_menu,
    usual_shots,
)
from matml.report.sections.properties.scores import Scores


def distances(rows: pd.DataFrame, logarithmic: bool) -> np.ndarray:
    """Return |calculated - predicted| in half widths of the kept interval, [n].

    On the scale on which the property is learned, where intervals are symmetric.
    """
    scale = np.log10 if logarithmic else np.asarray
    truth, prediction, low, high = (
        scale(rows[column].to_numpy(float)) for column in ("truth", "prediction", "low", "high")
    )
    return np.abs(truth - prediction) / (0.5 * (high - low))


def coverage(rows: pd.DataFrame, logarithmic: bool) -> pd.DataFrame:
    """Return the share of values inside intervals of each level, mean over families.

    Files keep the 90 % interval; others follow from its half width as for a normal distribution,
    which is how the intervals of the default method come about.

    Returns
    -------
    table
        level, value, low, high (95 % bootstrap interval over families; NaN for fewer than
        `FEWEST_TASKS`), n_families, n_crystals.
    """
    rows = rows[rows["low"].notna() & rows["high"].notna()]
    reach = pd.Series(distances(rows, logarithmic), rows.index)
    records = []
    for level in LEVELS:
        edge = normal_ratio(level)
        # a value on the edge of its interval is inside, however its ends were rounded
        inside = (reach <= edge * (1 + 1e-9)).groupby(rows["family"]).mean().to_numpy()
        low, high = bootstrap_interval(inside) if len(inside) >= FEWEST_TASKS else (np.nan, np.nan)
        value = inside.mean() if len(inside) else np.nan
        records.append((level, value, low, high, len(inside), len(rows)))
    columns = ["level", "value", "low", "high", "n_families", "n_crystals"]
    return pd.DataFrame(records, columns=columns)


def scored(scores: Scores, name: str) -> dict[tuple[str, int], pd.DataFrame]:
    """Return the coverage of the chosen method by labels as the evaluation has measured it.

    Over all draws of labels, so that it replaces that of the single predictions, which are of one
    draw. Empty for results whose evaluation did not measure all levels.
    """
    levels = {f"coverage_{100 * level:.0f}": level for level in LEVELS}
    if "n_families" not in scores.rows:
        return {}
    own = scores.rows[(scores.rows["property"] == name) & scores.rows["metric"].isin(levels)]
    tables = {}
    for shots, group in own.groupby("shots"):
        table = group.assign(level=group["metric"].map(levels)).sort_values("level")
        if len(table) < len(levels):
            continue
        few = table["n_families"] < FEWEST_TASKS
        table[["low", "high"]] = table[["low", "high"]].mask(few)
        columns = ["level", "value", "low", "high", "n_families"]
        tables[("chosen", int(shots))] = table[columns].assign(n_crystals=np.nan)
    return tables


def calibration_note() -> str:
    """Return what the figures show, as markup."""
    return (
        '<p class="note">How many of the values lie inside intervals of a nominal level, mean over '
        "unseen families. A bar that ends below the dashed line says that they are too narrow, one "
        "that begins above it too wide; one that crosses it says neither. "
        "Predictions come with the 90 % interval; the other levels follow from its width as for a "
        "normal distribution. Bars: 95 % interval over families, where there are "
        f"at least {FEWEST_TASKS}.</p>"
    )


def calibration_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a figure a property, with menus of labels, property and method."""
    figures = calibration_figures(rows, scores)
    shots = [int(k) for k in rows["shots"].unique()]
    menus = (
        labels_menu(shots, usual_shots(rows), everything=True),
        subject_menu(figures),
        method_menu(scores, rows),
    )
    return FigureSet(figures, menus)


def calibration_figures(rows: pd.DataFrame, scores: Scores) -> list[Figure]:
    """Return observed against nominal coverage of every property that has intervals."""
    figures = []
    for name in scores.properties:
        own = rows[(rows["property"] == name) & rows["low"].notna() & rows["high"].notna()]
        if own.empty:
            continue
        method = first_method(scores, own, name)
        own = own.assign(role=roles(own, method))
        tables = {
            (str(role), int(shots)): coverage(group, scores.is_logarithmic(name))
            for (role, shots), group in own.groupby(["role", "shots"])
        } | scored(scores, name)
        title = sentence(property_title(name))
        kept = {
            shots: 100 * float(table.loc[table["level"] == LEVEL, "value"].iloc[0])
            for (role, shots), table in tables.items()
            if role == "chosen"
        }
        told = ", ".join(f"{value:.0f} % after {shots} labels" for shots, value in kept.items())
        figures.append(
            Figure(
                f"calibration-{name}",
                f"{title}: coverage of the intervals on unseen families",
                Axis("nominal coverage (%)", ends=(47, 99)),
                Axis("observed coverage (%)", ends=(_floor(tables), 103)),
                _parts(tables),
                f"{sentence(scores.titles.get(method, method))}. Inside the 90 % interval: {told}.",
                f"{title}, observed against nominal coverage of intervals; inside the 90 % "
                f"interval are {told}.",
                legend=True,
                height=360,
                subject=name,
                chosen={"method": "chosen"},
            )
        )
    return figures


def _parts(tables: dict[tuple[str, int], pd.DataFrame]) -> list[Part]:
    """Return the figure of one property: a line for each method and number of labels."""
    shots = sorted({k for _, k in tables})
    ends = [100 * LEVELS[0], 100 * LEVELS[-1]]
    equality = Series(ends, ends, "", GREY, width=1, dash="dash", in_legend=False, in_table=False)
    parts: list[Part] = [equality]
    for (role, k), table in tables.items():
        position = shots.index(k)
        colour, symbol, _ = style_of(position)
        # side by side, so that bars can be told apart
        shift = 0.5 * (position - (len(shots) - 1) / 2)
        told = [(f"{100 * row.level:g}", _span(row), _size(row)) for row in table.itertuples()]
        parts.append(
            Series(
                100 * table["level"] + shift,
                100 * table["value"],
                f"{k} label{'' if k == 1 else 's'}",
                colour,
                symbol,
                width=1.8,
                low=100 * table["low"],
                high=100 * table["high"],
                hover=Hover(
                    f"<b>{k} labels</b><br>nominal %{{customdata[0]}} %<br>"
                    "observed %{y:.0f} %%{customdata[1]}<br>%{customdata[2]}<extra></extra>",
                    told,
                ),
                choice={"method": role, "shots": k},
            )
        )
    return parts


def _span(row) -> str:
    return "" if np.isnan(row.low) else f" [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def _size(row) -> str:
    """Return what stands behind a share."""
    if np.isnan(row.n_crystals):
        return f"{row.n_families} families, all draws of labels"
    return f"{row.n_crystals} crystals of {row.n_families} families"


def _floor(tables: dict[tuple[str, int], pd.DataFrame]) -> float:
    """Return the lower end of the axis: 45 %, or as low as a value or bar reaches."""
    lowest = min(np.nanmin(table[["value", "low"]].to_numpy(float)) for table in tables.values())
    return float(min(45, 100 * lowest - 3))
