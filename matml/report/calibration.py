"""How many values lie inside intervals of a nominal level: the intervals' calibration."""

from statistics import NormalDist

import numpy as np
import pandas as pd

from matml.properties.compare import bootstrap_interval
from matml.report.charts import GREY, axis, style_of
from matml.report.drawing import Drawing, FigureSet, labels_menu, rounded, show_only
from matml.report.markup import escape
from matml.report.parity import (
    first_method,
    is_logarithmic,
    method_menu,
    roles,
    subject_menu,
    usual_shots,
)
from matml.report.scores import FEWEST_FAMILIES, Scores
from matml.report.words import property_title, sentence

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
KEPT = 0.9
"""Level of the intervals in the files."""


def distances(name: str, rows: pd.DataFrame) -> np.ndarray:
    """Return |calculated - predicted| in half widths of the kept interval, [n].

    On the scale on which the property is learned, where intervals are symmetric.
    """
    scale = np.log10 if is_logarithmic(name) else np.asarray
    truth, prediction, low, high = (
        scale(rows[column].to_numpy(float)) for column in ("truth", "prediction", "low", "high")
    )
    return np.abs(truth - prediction) / (0.5 * (high - low))


def coverage(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the share of values inside intervals of each level, mean over families.

    Files keep the 90 % interval; others follow from its half width as of a normal distribution,
    which is how the intervals of the default method come about.

    Returns
    -------
    table
        level, value, low, high (95 % bootstrap interval over families; NaN for fewer than
        `FEWEST_FAMILIES`), n_families, n_crystals.
    """
    rows = rows[rows["low"].notna() & rows["high"].notna()]
    reach = pd.Series(distances(name, rows), rows.index)
    records = []
    for level in LEVELS:
        edge = NormalDist().inv_cdf(0.5 + level / 2) / NormalDist().inv_cdf(0.5 + KEPT / 2)
        # a value on the edge of its interval is inside, however its ends were rounded
        inside = (reach <= edge * (1 + 1e-9)).groupby(rows["family"]).mean().to_numpy()
        low, high = (
            bootstrap_interval(inside) if len(inside) >= FEWEST_FAMILIES else (np.nan, np.nan)
        )
        value = inside.mean() if len(inside) else np.nan
        records.append((level, value, low, high, len(inside), len(rows)))
    columns = ["level", "value", "low", "high", "n_families", "n_crystals"]
    return pd.DataFrame(records, columns=columns)


def calibration_note() -> str:
    """Return what the figures show, as markup."""
    return (
        '<p class="note">Of all values that were to lie inside intervals of a nominal level, how '
        "many did: mean over unseen families, after one draw of labels. Below the dashed line the "
        "intervals are too narrow, above it too wide. The files keep the 90 % interval; the other "
        "levels follow from its width as of a normal distribution. Bars: 95 % interval over "
        f"families, where there are at least {FEWEST_FAMILIES}.</p>"
    )


def calibration_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a figure a property, with menus of labels, property and method."""
    drawings = calibration_drawings(rows, scores)
    shots = [int(k) for k in rows["shots"].unique()]
    menus = (
        labels_menu(shots, usual_shots(rows), everything=True),
        subject_menu(drawings),
        method_menu(scores, rows),
    )
    return FigureSet(drawings, menus)


def calibration_drawings(rows: pd.DataFrame, scores: Scores) -> list[Drawing]:
    """Return observed against nominal coverage of every property that has intervals."""
    drawings = []
    for name in scores.properties:
        own = rows[(rows["property"] == name) & rows["low"].notna() & rows["high"].notna()]
        if own.empty:
            continue
        own = own.assign(role=roles(own, first_method(scores, own, name)))
        tables = {
            (str(role), int(shots)): coverage(name, group)
            for (role, shots), group in own.groupby(["role", "shots"])
        }
        title = sentence(property_title(name))
        kept = {
            shots: 100 * float(table.loc[table["level"] == KEPT, "value"].iloc[0])
            for (role, shots), table in tables.items()
            if role == "chosen"
        }
        told = ", ".join(f"{value:.0f} % after {shots} labels" for shots, value in kept.items())
        drawings.append(
            Drawing(
                f"calibration-{name}",
                _calibration(tables),
                f"<b>{escape(title)}</b>. Inside the 90 % interval: {told}.",
                f"{title}, observed against nominal coverage of intervals; inside the 90 % "
                f"interval are {told}.",
                height=360,
                subject=name,
            )
        )
    return drawings


def _calibration(tables: dict[tuple[str, int], pd.DataFrame]) -> dict:
    """Return the figure of one property: a line for each method and number of labels."""
    shots = sorted({k for _, k in tables})
    ends = [100 * LEVELS[0], 100 * LEVELS[-1]]
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "equality",
            "x": ends,
            "y": ends,
            "line": {"color": GREY, "width": 1, "dash": "dash"},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for (role, k), table in tables.items():
        position = shots.index(k)
        colour, symbol, _ = style_of(position)
        value, low, high = (100 * table[column] for column in ("value", "low", "high"))
        # side by side, so that bars can be told apart
        shift = 0.5 * (position - (len(shots) - 1) / 2)
        data.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{k} labels",
                "x": rounded(100 * table["level"] + shift),
                "y": rounded(value),
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": rounded(high - value),
                    "arrayminus": rounded(value - low),
                    "thickness": 1,
                    "width": 2,
                },
                "line": {"color": colour, "width": 1.8},
                "marker": {"color": colour, "symbol": symbol, "size": 7},
                "customdata": [
                    [f"{100 * row.level:g}", _span(row), row.n_crystals, row.n_families]
                    for row in table.itertuples()
                ],
                "hovertemplate": f"<b>{k} labels</b><br>nominal %{{customdata[0]}} %<br>"
                "observed %{y:.0f} %%{customdata[1]}<br>%{customdata[2]} crystals of "
                "%{customdata[3]} families<extra></extra>",
                "meta": {"method": role, "shots": k},
            }
        )
    show_only(data, {"method": "chosen"})
    return {
        "data": data,
        "layout": {
            "xaxis": axis("nominal coverage (%)", range=[47, 99], dtick=10),
            "yaxis": axis("observed coverage (%)", range=[_floor(tables), 103]),
            "showlegend": True,
            "legend": {"orientation": "h", "y": -0.22, "yanchor": "top", "x": 0},
            "uirevision": "kept",
        },
    }


def _span(row) -> str:
    return "" if np.isnan(row.low) else f" [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def _floor(tables: dict[tuple[str, int], pd.DataFrame]) -> float:
    """Return the lower end of the axis: 45 %, or as low as a value or bar reaches."""
    lowest = min(np.nanmin(table[["value", "low"]].to_numpy(float)) for table in tables.values())
    return float(min(45, 100 * lowest - 3))
