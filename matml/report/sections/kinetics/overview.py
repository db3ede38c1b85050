"""The part of the page about kinetics: scores by number of observations, calibrated alloys."""

from typing import Any

import pandas as pd

from matml.core.statistics import Reduction
from matml.core.text.words import plural
from matml.figures.figure import Figure
from matml.kinetics.data.columns import alloys_of, counted
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.evaluation.findings import (
    ERROR,
    LOWER,
    difference,
    lower_than_default,
    reduction,
)
from matml.kinetics.evaluation.methods import DEFAULT, LEAST_SQUARES, method_title
from matml.report.html.figure_set import Figures
from matml.report.html.markup import (
    Cell,
    bare,
    bullets,
    count,
    count_cell,
    escape,
    interval,
    missing,
    number,
    number_cell,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import clearly, title_of, unit_text
from matml.report.sections.compare import (
    alike,
    error_curves,
    error_table,
    joined_note,
    legend,
    methods_of,
)
from matml.report.sections.kinetics.transformations import alloy_figures, is_simulated

MEAN_OVER = (
    "mean over alloys (over series where an alloy has several) "
    "[95 % interval over groups of similar composition]"
)
COLUMNS = ("method", "is_default", "shots", "metric", "value", "low", "high", "n_tasks")
VERDICTS = {
    None: "too few groups to say",
    1: "clearly lower",
    0: "no clear difference",
    -1: "clearly higher",
}
EQUATIONS = {
    "jmak": "JMAK: the fraction transformed at constant temperature, with an Arrhenius rate",
    "c_curve": "C-curve JMAK: the time to a fraction, fastest at the nose temperature",
    "softening": "softening: hardness after tempering",
}


def datasets(results: Results) -> list[str]:
    """Return the data sets that a run has results for."""
    names = results.names("kinetics/*/scores.csv")
    names += results.names("kinetics/*/calibration/*/calibration.json")
    return list(dict.fromkeys(name.split("/")[1] for name in names))


def error_rows(results: Results, dataset: str) -> pd.DataFrame:
    """Return the mean errors of all methods on a data set."""
    scores = _scores(results, dataset)
    return scores[scores["metric"] == ERROR]


def _scores(results: Results, dataset: str) -> pd.DataFrame:
    """Return all scores of a data set, without rows where there are none."""
    scores = results.table(f"kinetics/{dataset}/scores.csv", COLUMNS)
    return pd.DataFrame(columns=COLUMNS) if scores is None else scores


def kinetics_headlines(results: Results) -> list[dict[str, Any]]:
    """Return for each data set the errors of the default and of generic least squares.

    At the number of observations nearest to five: dataset, simulated, shots, unit, default and
    generic (rows of the scores), reduction (of the error; None where it is not known), and of the
    best other method other (None where there is none) and beside (its reduction).
    """
    found = []
    for dataset in datasets(results):
        rows = error_rows(results, dataset)
        default = rows[rows["is_default"].astype(bool)]
        generic = rows[rows["method"] == LEAST_SQUARES]
        both = sorted(set(default["shots"]) & set(generic["shots"]), key=lambda k: abs(k - 5))
        if not both:
            continue
        chosen, plain = (table[table["shots"] == both[0]].iloc[0] for table in (default, generic))
        found.append(
            {
                "dataset": dataset,
                "simulated": is_simulated(results, dataset),
                "shots": int(both[0]),
                "unit": "" if "unit" not in chosen or pd.isna(chosen["unit"]) else chosen["unit"],
                "default": chosen,
                "generic": plain,
                "reduction": _reduction(results, dataset, LEAST_SQUARES, int(both[0])),
                **_best_other(results, dataset, rows, both[0]),
            }
        )
    return found


def _best_other(
    results: Results, dataset: str, rows: pd.DataFrame, shots: int
) -> dict[str, pd.Series | Reduction | None]:
    """Return the best method but the default and those that equal it."""
    own, same = methods_of(rows), alike(rows, methods_of(rows))[0]
    left = [method for method in own if method not in same]
    others = rows[rows["method"].isin(left) & (rows["shots"] == shots)]
    if others.empty:
        return {"other": None, "beside": None}
    best = others.loc[others["value"].idxmin()]
    return {"other": best, "beside": _reduction(results, dataset, best["method"], shots)}


def _reduction(results: Results, dataset: str, method: str, shots: int) -> Reduction | None:
    """Return how much lower the default's error is than another method's."""
    scores, groups = _scores(results, dataset), _groups(results, dataset)
    return reduction(scores, method, shots, groups or int(scores["n_tasks"].max()))


def _groups(results: Results, dataset: str) -> int:
    """Return how many groups of similar composition a data set has, 0 where it is not told."""
    summary = results.json(f"kinetics/{dataset}/summary.json") or {}
    return int(summary.get("composition_groups") or 0)


def kinetics_section(results: Results, figures: Figures) -> str:
    """Return the section's markup."""
    names = datasets(results)
    if not names:
        return missing("This run has calibrated no kinetic equation.")
    parts = []
    if not results.place:
        parts.append(
            "<p>The question: how well does a kinetic equation, calibrated from a few observations "
            "of a <em>new</em> alloy, predict that alloy's other observations? A <dfn>learned "
            "prior</dfn> is what the other alloys say about likely parameters; <dfn>least "
            "squares</dfn> from a generic start makes no use of them.</p>"
        )
    for dataset in names:
        parts.append(_dataset(results, figures, dataset))
    return "\n".join(parts)


def badge(simulated: bool) -> str:
    """Return a label that tells simulated from measured data."""
    kind, word = ("simulated", "simulated data") if simulated else ("measured", "measured data")
    return f'<span class="badge {kind}">{word}</span>'


def _dataset(results: Results, figures: Figures, dataset: str) -> str:
    """Return scores and calibrated alloys of one data set."""
    summary = results.json(f"kinetics/{dataset}/summary.json") or {}
    simulated = is_simulated(results, dataset)
    rows = error_rows(results, dataset)
    title = escape(title_of(dataset))
    parts = [f"<h3>{title} {badge(simulated)}</h3>", _described(results, summary, dataset)]
    if rows.empty:
        parts += [] if results.place else [missing("This data set has no scores.")]
    else:
        methods = methods_of(rows)
        titles = {method: method_title(method) for method in methods}
        parts.append(legend(rows, methods, titles))
        parts.append(figures.add(error_figure(results, dataset, rows, simulated)))
        unit = unit_text(rows["unit"].iloc[0]) if "unit" in rows else ""
        note = f"Root-mean-square error{unit}, {MEAN_OVER}.{joined_note(rows, methods)}"
        parts.append(error_table(rows, methods, titles, "observation", note))
        parts.append(_compared(results, dataset, rows))
    parts += _alloys(results, figures, dataset, simulated)
    return "\n".join(part for part in parts if part)


def _compared(results: Results, dataset: str, rows: pd.DataFrame) -> str:
    """Return the table of the default against least squares, and of what is lower than it."""
    scores, groups = _scores(results, dataset), _groups(results, dataset)
    groups = groups or int(scores["n_tasks"].max())
    errors = rows.set_index(["shots", "method"])["value"]
    lines = []
    for shots in sorted(map(int, rows.loc[rows["method"] == DEFAULT, "shots"])):
        against = _reduction(results, dataset, LEAST_SQUARES, shots)
        if against is None:
            continue
        lines.append(
            [
                count_cell(shots),
                number_cell(float(errors[shots, DEFAULT])),
                number_cell(float(errors[shots, LEAST_SQUARES])),
                text_cell(difference(against).replace("-", "−")),
                text_cell(VERDICTS[against.sign]),
                text_cell(lower_than_default(scores, shots, groups).removeprefix(LOWER) or "–"),
            ]
        )
    if not lines:
        return ""
    note = (
        f"The default against least squares from a generic start, over {count(groups)} composition "
        f"groups. {clearly('composition groups')} The default was not changed after seeing what is "
        "lower."
    )
    head = ["observations", "default", "least squares", "the default is", "which is"]
    head.append("lower than the default")
    return table(head, lines, note=note)


def error_figure(results: Results, dataset: str, rows: pd.DataFrame, simulated: bool) -> Figure:
    """Return the errors of all methods by number of observations.

    Parameters
    ----------
    rows
        Output of `error_rows`, not empty.
    """
    methods = methods_of(rows)
    unit = unit_text(rows["unit"].iloc[0]) if "unit" in rows else ""
    marked = " (simulated data)" if simulated and "simulated" not in dataset else ""
    default = rows[rows["is_default"].astype(bool)].sort_values("shots")
    told = ", ".join(
        f"{bare(number(row.value))} from {row.shots} {plural('observation', row.shots)}"
        for row in default.itertuples()
    )
    return error_curves(
        rows,
        methods,
        {method: method_title(method) for method in methods},
        ("observations of the new alloy", f"root-mean-square error{unit}"),
        "observation",
        shown=methods,
        log=True,
        name=f"errors-{dataset}",
        title=f"{title_of(dataset)}: error on new alloys by number of observations{marked}",
        note="Root-mean-square error on the other observations of "
        f"{_tasks(results, dataset, rows)}, each held out, with 95 % intervals over groups of "
        "similar composition; logarithmic axis. The thick line is the default method.",
        summary=f"{title_of(dataset)}, error by number of observations{unit}; the default: {told}.",
    )


def error_figures(results: Results) -> list[Figure]:
    """Return the error curves of all data sets."""
    found = [(dataset, error_rows(results, dataset)) for dataset in datasets(results)]
    return [
        error_figure(results, dataset, rows, is_simulated(results, dataset))
        for dataset, rows in found
        if not rows.empty
    ]


def _series(results: Results, dataset: str) -> list[str]:
    """Return the names of a data set's series of observations, empty where none were kept."""
    observations = results.table(f"kinetics/{dataset}/observations.csv", ("alloy",))
    return [] if observations is None else list(observations["alloy"].unique())


def _tasks(results: Results, dataset: str, rows: pd.DataFrame) -> str:
    """Return how many alloys were tested, or series where several are of one alloy."""
    low, high = int(rows["n_tasks"].min()), int(rows["n_tasks"].max())
    number_of = f"{low}" if low == high else f"{low} to {high}"
    series = _series(results, dataset)
    alloys = len(alloys_of(series))
    return f"{number_of} {'' if alloys == len(series) else f'series of {alloys} '}alloys"


def _described(results: Results, summary: dict[str, Any], dataset: str) -> str:
    """Return what the data set is: equation, size, and noise where it was simulated."""
    scores = _scores(results, dataset)
    equation = summary.get("equation")
    if equation is None and "equation" in scores and len(scores):
        equation = scores["equation"].iloc[0]
    text = []
    if equation is not None:
        described = EQUATIONS.get(str(equation), summary.get("title", equation))
        text.append(f"Equation: {escape(described)}.")
    observations = results.table(f"kinetics/{dataset}/observations.csv", ("alloy",))
    if observations is not None:
        own = f"{count(len(observations))} observations: {counted(observations['alloy'])}"
        groups = _groups(results, dataset)
        words = f" in {count(groups)} {plural('group', groups)} of similar composition"
        text.append(f"{own}{words if groups else ''}.")
    return f"<p>{' '.join(text)}</p>" if text else ""


def _alloys(results: Results, figures: Figures, dataset: str, simulated: bool) -> list[str]:
    """Return diagram and parameters of every calibrated alloy."""
    folder = f"kinetics/{dataset}/calibration"
    parts = []
    for name in results.names(f"{folder}/*/calibration.json"):
        place = name.rsplit("/", 1)[0]
        record = results.json(name)
        alloy = record.get("alloy", place.rsplit("/", 1)[1])
        found = alloy_figures(results, dataset, place, record, simulated)
        drawn = "".join(map(figures.add, found)) or missing("No diagram was made for this alloy.")
        parameters = results.table(
            f"{place}/parameters.csv", ("parameter", "unit", "median", "low_90", "high_90")
        )
        body = (
            ""
            if parameters is None
            else _parameters(parameters, record.get("reference_temperature_K"))
        )
        notes = bullets(record.get("notes", []), "note")
        parts.append(
            f"<section class='alloy'><h4>{escape(alloy)}</h4>"
            f"<div class='pair'><div>{drawn}</div>"
            f"<div>{body}{_held_out(record)}{notes}</div></div></section>"
        )
    return parts


def _held_out(record: dict[str, Any]) -> str:
    """Return the errors on the observations that the calibration has not seen."""
    scores = record.get("other_points")
    if not isinstance(scores, dict) or "rmse" not in scores:
        return ""
    return (
        f"<p>On its {count(scores['other_observations'])} other observations the error is "
        f"{number(scores['rmse'])} {escape(scores.get('unit', ''))} (least squares from a generic "
        f"start: {number(scores['rmse_least_squares_generic_start'])}); "
        f"{number(100 * scores['coverage_90'], 2)} % of them lie inside the 90 % band.</p>"
    )


def _without_unit(parameter: str, unit: str) -> str:
    """Return a parameter's name without the unit at its end, which stands beside the value."""
    return parameter.removesuffix("_" + unit.replace("/", "_")) if unit else parameter


def _parameters(parameters: pd.DataFrame, reference_K: float | None) -> str:
    """Return the calibrated parameters with units and intervals.

    Those of the reference temperature, by their description, are told with it.
    """
    rows = []
    for row in parameters.to_dict("records"):
        unit = "" if pd.isna(row["unit"]) else str(row["unit"])
        name = escape(_without_unit(row["parameter"], unit)).replace("_", " ")
        values = [float(row[column]) for column in ("median", "low_90", "high_90")]
        if unit == "K" and name.endswith("temperature"):
            # as the diagram beside it; widths and depths are differences, and stay in K
            unit, values = "°C", [value - ZERO_CELSIUS for value in values]
        name = name.replace("avrami", "Avrami")
        if reference_K is not None and "reference temperature" in str(row.get("description")):
            name += f" at {reference_K - ZERO_CELSIUS:.0f} °C"
        rows.append(
            [
                Cell(
                    name,
                    row["parameter"],
                    "",
                ),
                Cell(f"{number(values[0])} {escape(unit)}", values[0], "num"),
                Cell(interval(values[1], values[2]), None, "num interval"),
                text_cell(row.get("determined_by", "–")),
            ]
        )
    return table(
        ["parameter", "estimate", "90 % interval", "determined by"],
        rows,
        note="“Data”, “prior” or both: what made the interval as narrow as it is.",
    )
