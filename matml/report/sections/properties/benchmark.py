"""The section on the benchmark of the properties, which is there when that was run."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.statistics import FEWEST_TASKS, WORTH_NAMING, Reduction
from matml.figures.figure import GREEN, GREY, ORANGE, Axis, Figure, Hover, Part, Series
from matml.properties.methods.registry import method_title
from matml.report.html.figure_set import Figures, FigureSet, labels_menu
from matml.report.html.markup import details, escape, missing, preformatted
from matml.report.html.results import Results
from matml.report.html.wording import sentence, split_unit, unit_text
from matml.report.sections.compare import error_table, span_words

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

KINDS = {
    1: (GREEN, "circle", "better"),
    -1: (ORANGE, "x", "worse"),
    0: (GREY, "circle-open", "no clear difference"),
    None: (GREY, "circle-open", "too few tasks"),
}
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
        alike: dict[tuple[int, ...], list[Figure]] = {}
        for figure in difference_figures(found):
            shots = tuple(part.choice["shots"] for part in figure.parts)
            alike.setdefault(shots, []).append(figure)
        for shots, drawn in alike.items():
            menus = (labels_menu(shots, nearest(shots)),)
            parts.append(FigureSet(drawn, menus).markup(figures))
        errors = found[found["metric"].str.fullmatch("mae(_.*)?_family_mean")]
        for own_setting, own in errors.groupby("setting", sort=False):
            parts.append(_errors(str(own_setting), own))
        if printed := results.text(f"{FOLDER}/{setting}.txt"):
            parts.append(details("All tables of this setting", preformatted(printed, "All tables")))
    return "".join(parts) or missing("The benchmark has not been run.")


def benchmark_figures(results: Results) -> list[Figure]:
    """Return the figures of all settings that were run."""
    tables = [read_records(results, setting) for setting in SETTINGS]
    return [item for table in tables if table is not None for item in difference_figures(table)]


def nearest(shots: Sequence[int]) -> int:
    """Return the number of labels that is shown first."""
    return min(shots, key=lambda k: abs(k - USUAL_SHOTS))


def difference_figures(found: pd.DataFrame) -> list[Figure]:
    """Return for each property how much the default's error is below that of each other method.

    Paired: means over the same tasks, with the 95 % bootstrap interval over tasks.
    """
    paired = found[found["metric"].str.match(REDUCTION)]
    figures = []
    for setting, own in paired.groupby("setting", sort=False):
        # against itself with fewer labels is another question
        own = own[~own["metric"].str.endswith("_shots")]
        own = own.assign(other=own["metric"].str.replace(REDUCTION, "", regex=True))
        if own.empty:
            continue
        errors = found[(found["setting"] == setting) & found["metric"].str.fullmatch(ERROR)]
        unit = _unit(errors["metric"].iloc[0]) if len(errors) else ""
        keys = ["method", "shots"]
        others = errors.drop_duplicates(keys).set_index(keys)["value"].rename("error")
        own = own.merge(others, "left", left_on=["other", "shots"], right_index=True)
        figures.append(_differences(str(setting), own, unit))
    return figures


def _unit(metric: str) -> str:
    return metric.removeprefix("mae_").removesuffix("family_mean").rstrip("_")


def _words(setting: str) -> str:
    """Return what a setting such as `B, within a family, bulk_modulus_GPa` is about."""
    return ", ".join(sentence(split_unit(part)[0]) for part in setting.split(", ")[1:])


def _differences(setting: str, own: pd.DataFrame, unit: str) -> Figure:
    """Return the figure of one property: a bar with its interval for each other method."""
    words = _words(setting)
    others = list(dict.fromkeys(own["other"]))
    shots = sorted(int(k) for k in own["shots"].unique())
    ends = own[["value", "low", "high"]].astype(float)
    largest = float(np.nanmax(ends.abs().to_numpy()))
    # methods that can only say the same, as with one label, differ by rounding
    ends = ends.where(ends.isna() | (ends.abs() > ROUNDING * max(largest, 1e-6)), 0.0)
    ends.loc[own["n_tasks"] < FEWEST_TASKS, ["low", "high"]] = np.nan
    own = own.assign(**ends)
    # one range of all numbers of labels, so that they can be compared
    left, right = min(0.0, float(ends.min(axis=None))), max(0.0, float(ends.max(axis=None)))
    margin = 0.05 * (right - left) or 1.0
    parts: list[Part] = []
    for k in shots:
        part = own[own["shots"] == k]
        # said in words, too, so that colour is not all that tells
        kinds = [KINDS[_reduction(row).sign] for row in part.to_dict("records")]
        told = [
            (span_words(row.low, row.high), int(row.n_tasks), kind[2])
            for row, kind in zip(part.itertuples(), kinds, strict=True)
        ]
        parts.append(
            Series(
                part["value"],
                [method_title(other) for other in part["other"]],
                f"{k} labels",
                [kind[0] for kind in kinds],
                [kind[1] for kind in kinds],
                size=9,
                low=part["low"],
                high=part["high"],
                bars="x",
                labels=[kind[2] for kind in kinds],
                hover=Hover(
                    "<b>%{y}</b><br>the default's error is lower by %{x:.3g} "
                    f"%{{customdata[0]}} {escape(unit)}<br>"
                    f"{k} labels, %{{customdata[1]}} tasks: %{{customdata[2]}}<extra></extra>",
                    told,
                ),
                choice={"shots": k},
            )
        )
    first = nearest(shots)
    shown = own[own["shots"] == first]
    clear = sum(_reduction(row).sign == 1 for row in shown.to_dict("records"))
    return Figure(
        f"benchmark-{re.sub('[^A-Za-z0-9]+', '-', setting).strip('-')}",
        f"{words}: errors of other methods above the default's",
        Axis(
            f"error above the default's{unit_text(unit)}",
            ends=(left - margin, right + margin),
            zero_line=True,
        ),
        Axis("", categories=[method_title(other) for other in others]),
        parts,
        "Error of each method less the default's on the same tasks, with 95 % intervals over "
        "tasks. Right of zero the default is better (green circles), left of it worse (orange "
        f"crosses); open circles: no clear difference (the interval holds zero, or it is below "
        f"{100 * WORTH_NAMING:.0f} % of the other’s error), or fewer than {FEWEST_TASKS} tasks.",
        f"{words}: the default against {len(others)} other methods at {first} labels; clearly "
        f"better than {clear} of {len(shown)}.",
        height=110 + 30 * len(others),
        subject=setting,
        chosen={"shots": first},
        panels="shots",
    )


def _reduction(row: dict[str, Any]) -> Reduction:
    """Return how much lower the default's error is than that of the other method of a row."""
    ends = row["value"], row["low"], row["high"]
    return Reduction(*ends, int(row["n_tasks"]), row.get("error", np.nan))


def _errors(setting: str, own: pd.DataFrame) -> str:
    """Return the table of one property's errors, methods by numbers of labels."""
    unit = _unit(own["metric"].iloc[0])
    titles = {method: method_title(method) for method in own["method"]}
    counts = own.groupby("shots")["n_tasks"].max()
    tested = ", ".join(f"{n} at {k}" for k, n in counts.items())
    note = (
        f"Mean absolute error{f', {escape(unit)}' if unit else ''}, with its 95 % interval "
        f"(bootstrap). Number of tasks by labels: {tested}."
    )
    drawn = error_table(own, list(dict.fromkeys(own["method"])), titles, "label", note)
    return f"<h4>{escape(_words(setting))}</h4>{drawn}"
