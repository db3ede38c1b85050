"""The section on the benchmark of the properties, which is there when that was run."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.report.figures.figure import Drawing, FigureSet, labels_menu, rounded, show_only
from matml.report.figures.plotly import GREEN, GREY, ORANGE, axis, error_bars, span_words
from matml.report.html.markup import (
    Cell,
    Figures,
    details,
    escape,
    interval,
    missing,
    number,
    preformatted,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import sentence, split_unit, title_of, unit_text
from matml.report.sections.properties.scores import FEWEST_FAMILIES

FOLDER = "properties-benchmark"
SETTINGS = {
    "A": "New families, the same property",
    "B": "A new property from its first labels",
    "C": "Energies relative to others of a kind",
}
ERROR = "mae_(.*_)?family_mean"
REDUCTION = "^mae_reduction_against_"
USUAL_SHOTS = 10
ROUNDING = 1e-9
"""A difference below this share of the largest one, or interval's end, is one of rounding."""

COLUMNS = ("setting", "method", "is_default", "shots", "metric", "value", "low", "high", "n_tasks")


def has_benchmark(results: Results) -> bool:
    """Return whether any setting of the benchmark was run."""
    return bool(results.names(f"{FOLDER}/?.json"))


def read_records(results: Results, setting: str) -> pd.DataFrame | None:
    """Return the records of one setting of the benchmark, or None.

    Raises
    ------
    MatmlError
        Where a column is missing.
    """
    name = f"{FOLDER}/{setting}.json"
    records = results.json(name)
    if records is None:
        return None
    found = pd.DataFrame(records)
    if lacking := [column for column in COLUMNS if column not in found]:
        raise MatmlError(
            f"{results.folder / name}: its records lack {lacking[0]!r}; make the file again "
            "with `matml properties benchmark --json`"
        )
    return found


def benchmark_section(results: Results, figures: Figures) -> str:
    """Return the section's markup: paired differences, errors, and all that was printed."""
    parts = []
    for setting, title in SETTINGS.items():
        found = read_records(results, setting)
        if found is None:
            continue
        parts.append(f"<h3>{escape(title)}</h3>")
        # a menu for each series of numbers of labels, so that no choice leaves a figure empty
        alike: dict[tuple[int, ...], list[Drawing]] = {}
        for drawing in difference_drawings(found):
            shots = tuple(trace["meta"]["shots"] for trace in drawing.spec["data"])
            alike.setdefault(shots, []).append(drawing)
        for shots, drawings in alike.items():
            menus = (labels_menu(shots, nearest(shots)),)
            parts.append(FigureSet(drawings, menus).markup(figures))
        errors = found[found["metric"].str.fullmatch("mae(_.*)?_family_mean")]
        for own_setting, own in errors.groupby("setting", sort=False):
            parts.append(_errors(str(own_setting), own))
        if printed := results.text(f"{FOLDER}/{setting}.txt"):
            parts.append(details("All tables of this setting", preformatted(printed, "All tables")))
    return "".join(parts) or missing("The benchmark has not been run.")


def benchmark_drawings(results: Results) -> list[Drawing]:
    """Return the figures of all settings that were run."""
    tables = [read_records(results, setting) for setting in SETTINGS]
    return [item for table in tables if table is not None for item in difference_drawings(table)]


def nearest(shots: Sequence[int]) -> int:
    """Return the number of labels that is shown first."""
    return min(shots, key=lambda k: abs(k - USUAL_SHOTS))


def difference_drawings(found: pd.DataFrame) -> list[Drawing]:
    """Return for each property how much the default's error is below that of each other method.

    Paired: means over the same tasks, with the 95 % bootstrap interval over tasks.
    """
    paired = found[found["metric"].str.match(REDUCTION)]
    drawings = []
    for setting, own in paired.groupby("setting", sort=False):
        # against itself with fewer labels is another question
        own = own[~own["metric"].str.endswith("_shots")]
        own = own.assign(other=own["metric"].str.replace(REDUCTION, "", regex=True))
        if own.empty:
            continue
        errors = found[(found["setting"] == setting) & found["metric"].str.fullmatch(ERROR)]
        unit = errors["metric"].iloc[0] if len(errors) else ""
        unit = unit.removeprefix("mae_").removesuffix("family_mean").rstrip("_")
        drawings.append(_differences(str(setting), own, unit))
    return drawings


def _differences(setting: str, own: pd.DataFrame, unit: str) -> Drawing:
    """Return the figure of one property: a bar with its interval for each other method."""
    words = ", ".join(sentence(split_unit(part)[0]) for part in setting.split(", ")[1:])
    others = list(dict.fromkeys(own["other"]))
    shots = sorted(int(k) for k in own["shots"].unique())
    ends = own[["value", "low", "high"]].astype(float)
    largest = float(np.nanmax(ends.abs().to_numpy()))
    # methods that can only say the same, as with one label, differ by rounding
    ends = ends.where(ends.isna() | (ends.abs() > ROUNDING * max(largest, 1e-6)), 0.0)
    ends.loc[own["n_tasks"] < FEWEST_FAMILIES, ["low", "high"]] = np.nan
    own = own.assign(**ends)
    # one range of all numbers of labels, so that they can be compared
    left, right = min(0.0, float(ends.min(axis=None))), max(0.0, float(ends.max(axis=None)))
    margin = 0.05 * (right - left) or 1.0
    data = []
    for k in shots:
        part = own[own["shots"] == k]
        low, high = part["low"], part["high"]
        # by the interval, so that colour is not all that tells
        kinds = [
            (GREEN, "circle", "better")
            if a > 0
            else (ORANGE, "x", "worse")
            if b < 0
            else (GREY, "circle-open", "too few tasks" if np.isnan(a) else "no clear difference")
            for a, b in zip(low, high, strict=True)
        ]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{k} labels",
                "x": rounded(part["value"]),
                "y": [escape(title_of(other)) for other in part["other"]],
                "error_x": error_bars(part["value"], low, high, color=GREY, thickness=1.4, width=3),
                "marker": {
                    "size": 9,
                    "color": [kind[0] for kind in kinds],
                    "symbol": [kind[1] for kind in kinds],
                },
                "customdata": [
                    [span_words(a, b), int(n), kind[2]]
                    for a, b, n, kind in zip(low, high, part["n_tasks"], kinds, strict=True)
                ],
                "hovertemplate": "<b>%{y}</b><br>the default's error is lower by %{x:.3g} "
                f"%{{customdata[0]}} {escape(unit)}<br>"
                f"{k} labels, %{{customdata[1]}} tasks: %{{customdata[2]}}<extra></extra>",
                "meta": {"shots": k},
            }
        )
    first = nearest(shots)
    show_only(data, {"shots": str(first)})
    shown = own[own["shots"] == first]
    clear = int((shown["low"].astype(float) > 0).sum())
    return Drawing(
        f"benchmark-{re.sub('[^A-Za-z0-9]+', '-', setting).strip('-')}",
        {
            "data": data,
            "layout": {
                "xaxis": axis(
                    f"error above the default's<br>{unit_text(unit).strip()}",
                    range=[left - margin, right + margin],
                    zeroline=True,
                    zerolinewidth=2,
                ),
                "yaxis": axis(
                    "",
                    type="category",
                    categoryorder="array",
                    categoryarray=[escape(title_of(other)) for other in others],
                    autorange="reversed",
                ),
                "showlegend": False,
                "uirevision": "kept",
            },
        },
        f"<b>{escape(words)}</b>: error of each method less the default's on the same tasks, with "
        "95 % intervals over tasks. Right of zero the default is better; open circles: no clear "
        f"difference, or fewer than {FEWEST_FAMILIES} tasks.",
        f"{words}: the default against {len(others)} other methods at {first} labels; clearly "
        f"better than {clear} of {len(shown)}.",
        height=110 + 30 * len(others),
        subject=setting,
        panels="shots",
    )


def _errors(setting: str, own: pd.DataFrame) -> str:
    """Return the table of one property's errors, methods by numbers of labels."""
    words = [sentence(split_unit(part)[0]) for part in setting.split(", ")[1:]]
    unit = own["metric"].iloc[0].removeprefix("mae_").removesuffix("family_mean").rstrip("_")
    shots = sorted(own["shots"].unique())
    cells = {(row.method, row.shots): row for row in own.itertuples()}
    rows = []
    for method in dict.fromkeys(own["method"]):
        mine = own[own["method"] == method]
        kind = "best" if mine["is_default"].any() else ""
        row = [text_cell(title_of(method), kind)]
        for k in shots:
            one = cells.get((method, k))
            if one is None:
                row.append(Cell("–", None, "num"))
                continue
            span = interval(one.low, one.high)
            shown = f'{number(one.value)} <span class="interval">{span}</span>'
            row.append(Cell(shown, float(one.value), f"num {kind}".strip()))
        rows.append(row)
    counts = own.groupby("shots")["n_tasks"].max()
    head = ["method", *(f"{k} labels" for k in shots)]
    note = (
        f"Mean absolute error{f', {escape(unit)}' if unit else ''}, with its 95 % interval "
        f"(bootstrap). Tested on {', '.join(f'{counts[k]} at {k}' for k in shots)}."
    )
    return f"<h4>{escape(', '.join(words))}</h4>" + table(head, rows, sortable=True, note=note)
