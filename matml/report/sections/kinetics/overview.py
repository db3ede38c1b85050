"""The part of the page about kinetics: scores by number of observations, calibrated alloys."""

from typing import Any

import pandas as pd

from matml.report.figures.figure import Drawing
from matml.report.figures.plotly import learning_curves, legend_button
from matml.report.html.markup import (
    Cell,
    Figures,
    bare,
    count,
    escape,
    interval,
    missing,
    number,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import title_of, unit_text
from matml.report.sections.kinetics.transformations import alloy_drawings
from matml.report.sections.properties.scores import methods_of

ERROR = "rmse_mean"
COLUMNS = ("method", "is_default", "shots", "metric", "value", "low", "high", "n_tasks")
GENERIC = "least squares, generic start"
METHOD_WORDS = {
    "mean of the training alloys": "mean of the training alloys, no adaptation",
    "maml": "MAML",
    "meta_sgd": "Meta-SGD",
    "hierarchical map": "Gaussian prior, most probable parameters",
    "hierarchical map, in window": "Gaussian prior, cut to the measured range",
    "hierarchical posterior": "Gaussian prior, posterior mean",
    "heavy-tailed posterior, no window": "heavy-tailed prior, posterior mean",
    "heavy-tailed posterior": "heavy-tailed prior, cut to the measured range",
    "conditioned posterior": "heavy-tailed prior given composition",
}
EQUATIONS = {
    "jmak": "JMAK: the fraction transformed at constant temperature, with an Arrhenius rate",
    "c_curve": "C-curve JMAK: the time to a fraction, fastest at the nose temperature",
    "softening": "softening: hardness after tempering",
}


def datasets(results: Results) -> list[str]:
    """Return the data sets that a run has results for."""
    return [name.split("/")[1] for name in results.names("kinetics/*/scores.csv")]


def error_rows(results: Results, dataset: str) -> pd.DataFrame:
    """Return the mean errors of all methods on a data set."""
    scores = results.table(f"kinetics/{dataset}/scores.csv", COLUMNS)
    if scores is None:
        return pd.DataFrame(columns=COLUMNS)
    return scores[scores["metric"] == ERROR]


def is_simulated(results: Results, dataset: str) -> bool:
    """Return whether a data set's observations were simulated; what is not told counts as so."""
    summary = results.json(f"kinetics/{dataset}/summary.json") or {}
    return bool(summary.get("simulated", True))


def kinetics_headlines(results: Results) -> list[dict[str, Any]]:
    """Return for each data set the errors of the default and of generic least squares.

    At the number of observations nearest to five: dataset, simulated, shots, unit, method,
    default and generic (rows of the scores).
    """
    found = []
    for dataset in datasets(results):
        rows = error_rows(results, dataset)
        default = rows[rows["is_default"].astype(bool)]
        generic = rows[rows["method"] == GENERIC]
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
            }
        )
    return found


def kinetics_section(results: Results, figures: Figures) -> str:
    """Return the section's markup."""
    names = datasets(results)
    if not names:
        return missing("This run has calibrated no kinetic equation.")
    parts = [
        "<p>The question: how well does a kinetic equation, calibrated from a few observations of "
        "a <em>new</em> alloy, predict that alloy's other observations? A <dfn>learned prior</dfn> "
        "is what the other alloys tell about likely parameters; <dfn>least squares</dfn> from a "
        "generic start knows nothing of them.</p>"
    ]
    for dataset in names:
        parts.append(_dataset(results, figures, dataset))
    return "\n".join(parts)


def badge(simulated: bool) -> str:
    """Return a label that tells simulated from measured data."""
    kind, word = ("simulated", "simulated data") if simulated else ("measured", "measured data")
    return f'<span class="badge {kind}">{word}</span>'


def method_words(method: str) -> str:
    """Return a method's name for people."""
    return METHOD_WORDS.get(method, method)


def _dataset(results: Results, figures: Figures, dataset: str) -> str:
    """Return scores and calibrated alloys of one data set."""
    summary = results.json(f"kinetics/{dataset}/summary.json") or {}
    simulated = is_simulated(results, dataset)
    rows = error_rows(results, dataset)
    title = escape(title_of(dataset))
    parts = [f"<h3>{title} {badge(simulated)}</h3>", _described(results, summary, dataset)]
    if rows.empty:
        parts.append(missing("This data set has no scores."))
    else:
        methods = methods_of(rows)
        words = {method: method_words(method) for method in methods}
        legend = "".join(
            legend_button(method, words[method], position)
            for position, method in enumerate(methods)
        )
        parts.append(f'<div class="legend">{legend}</div>')
        curve = error_drawing(dataset, rows)
        parts.append(figures.add(curve.spec, curve.caption, summary=curve.summary))
        unit = unit_text(rows["unit"].iloc[0]) if "unit" in rows else ""
        parts.append(_score_table(rows, methods, words, unit))
    if summary.get("findings"):
        told = "".join(f"<li>{escape(_in_words(text))}</li>" for text in summary["findings"])
        parts.append(f"<ul class='findings'>{told}</ul>")
    parts += _alloys(results, figures, dataset, simulated)
    return "\n".join(part for part in parts if part)


def error_drawing(dataset: str, rows: pd.DataFrame) -> Drawing:
    """Return the errors of all methods by number of observations.

    Parameters
    ----------
    rows
        Output of `error_rows`, not empty.
    """
    methods = methods_of(rows)
    words = {method: method_words(method) for method in methods}
    unit = unit_text(rows["unit"].iloc[0]) if "unit" in rows else ""
    title = f"root-mean-square error{unit}"
    spec = learning_curves(rows, methods, words, methods, title, log_y=True)
    spec["layout"]["xaxis"]["title"]["text"] = "observations of the new alloy"
    for trace in spec["data"]:
        trace["hovertemplate"] = trace["hovertemplate"].replace("labels", "observations")
    default = rows[rows["is_default"].astype(bool)].sort_values("shots")
    told = ", ".join(
        f"{bare(number(row.value))} from {row.shots} observations" for row in default.itertuples()
    )
    return Drawing(
        f"errors-{dataset}",
        spec,
        f"Error (root mean square) on the other observations of {_tasks(rows)} held-out "
        "alloys, with 95 % intervals over alloys; logarithmic axis. The thick line is the "
        "default method.",
        f"{title_of(dataset)}, error by number of observations{unit}; the default: {told}.",
    )


def error_drawings(results: Results) -> list[Drawing]:
    """Return the error curves of all data sets."""
    found = [(dataset, error_rows(results, dataset)) for dataset in datasets(results)]
    return [error_drawing(dataset, rows) for dataset, rows in found if not rows.empty]


def _in_words(text: str) -> str:
    """Return a sentence of a summary with the methods' names for people."""
    for method, words in METHOD_WORDS.items():
        text = text.replace(method, words)
    return text


def _tasks(rows: pd.DataFrame) -> str:
    """Return how many alloys were tested."""
    low, high = int(rows["n_tasks"].min()), int(rows["n_tasks"].max())
    return str(low) if low == high else f"{low} to {high}"


def _described(results: Results, summary: dict[str, Any], dataset: str) -> str:
    """Return what the data set is: equation, size, and noise where it was simulated."""
    scores = results.table(f"kinetics/{dataset}/scores.csv", COLUMNS)
    equation = summary.get("equation")
    if equation is None and scores is not None and "equation" in scores and len(scores):
        equation = scores["equation"].iloc[0]
    text = []
    if equation is not None:
        text.append(f"Equation: {escape(EQUATIONS.get(str(equation), equation))}.")
    observations = results.table(f"kinetics/{dataset}/observations.csv", ("alloy",))
    if observations is not None:
        text.append(
            f"{count(len(observations))} observations of "
            f"{count(observations['alloy'].nunique())} alloys."
        )
    return f"<p>{' '.join(text)}</p>" if text else ""


def _score_table(rows: pd.DataFrame, methods: list[str], words: dict[str, str], unit: str) -> str:
    """Return the errors of all methods by number of observations; the best is bold."""
    shots = sorted(rows["shots"].unique())
    best = rows.groupby("shots")["value"].min()
    body = []
    for method in methods:
        own = rows[rows["method"] == method].set_index("shots")
        star = " ★" if own["is_default"].astype(bool).any() else ""
        cells = []
        for k in shots:
            if k not in own.index:
                cells.append(text_cell("–", "num"))
                continue
            row = own.loc[k]
            ends = interval(row["low"], row["high"])
            kind = "num best" if row["value"] == best[k] else "num"
            shown = f'{number(row["value"])} <span class="interval">{ends}</span>'
            cells.append(Cell(shown, float(row["value"]), kind))
        body.append([text_cell(words[method] + star), *cells])
    plural = {1: "1 observation"}
    head = ["method", *(plural.get(int(k), f"{int(k)} observations") for k in shots)]
    return table(head, body, note=f"Root-mean-square error{unit}. ★ the default.")


def _alloys(results: Results, figures: Figures, dataset: str, simulated: bool) -> list[str]:
    """Return diagram and parameters of every calibrated alloy."""
    folder = f"kinetics/{dataset}/calibration"
    parts = []
    for name in results.names(f"{folder}/*/calibration.json"):
        place = name.rsplit("/", 1)[0]
        record = results.json(name)
        alloy = record.get("alloy", place.rsplit("/", 1)[1])
        drawings = alloy_drawings(results, dataset, place, record, simulated)
        drawn = "".join(
            figures.add(item.spec, item.caption, item.height, summary=item.summary)
            for item in drawings
        ) or missing("No diagram was made for this alloy that this page knows.")
        parameters = results.table(
            f"{place}/parameters.csv", ("parameter", "unit", "median", "low_90", "high_90")
        )
        body = "" if parameters is None else _parameters(parameters)
        notes = "".join(f"<li>{escape(note)}</li>" for note in record.get("notes", []))
        notes = f"<ul class='note'>{notes}</ul>" if notes else ""
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


def _parameters(parameters: pd.DataFrame) -> str:
    """Return the calibrated parameters with units and intervals."""
    rows = []
    for row in parameters.to_dict("records"):
        unit = "" if pd.isna(row["unit"]) else str(row["unit"])
        rows.append(
            [
                Cell(
                    escape(_without_unit(row["parameter"], unit)).replace("_", " "),
                    row["parameter"],
                    "",
                ),
                Cell(f"{number(row['median'])} {escape(unit)}", float(row["median"]), "num"),
                Cell(interval(row["low_90"], row["high_90"]), None, "num interval"),
                text_cell(row.get("determined_by", "–")),
            ]
        )
    return table(
        ["parameter", "estimate", "90 % interval", "determined by"],
        rows,
        note="“Data”, “prior” or both: what made the interval as narrow as it is.",
    )
