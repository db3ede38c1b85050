"""The first screen of the page: what was found, in plain words."""

from typing import Any

import pandas as pd

from matml.core.statistics import FEWEST_TASKS, Reduction
from matml.core.text.words import listed, plural
from matml.kinetics.evaluation.methods import LEAST_SQUARES, method_title
from matml.report.html.markup import (
    Cell,
    count,
    escape,
    formula,
    interval,
    missing,
    number,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import HULL, property_title, sentence, title_of, unit_text
from matml.report.sections.kinetics.overview import MEAN_OVER, badge, kinetics_headlines
from matml.report.sections.properties.scores import (
    CLEARLY,
    Scores,
    few_shot_table,
    findings,
    percent_note,
    percent_of,
)
from matml.report.sections.screening.candidate import STABLE, stability_words
from matml.report.sections.screening.given import beyond_given
from matml.report.sections.screening.shortlist import (
    best_new,
    predicted_properties,
    prediction_cell,
    read_shortlist,
)
from matml.screening.objectives import objective_words, parse_objective

FIRST = 5
STABILITY = (
    " Stability: energy above the hull of the known entries, a lower bound; “near”: "
    "the 90 % interval includes 0; “gaps”: the hull holds no binary compound of two of its "
    "elements, or none at all of one, so it says little."
)
OUTSIDE = " “Outside the domain”: unlike what the model learned from; the whole list says why."
MOST_PROPERTIES = 2
"""Columns that there is room for; the list below has all."""


def overview(results: Results) -> str:
    """Return the section's markup: three answers, and the tables behind them."""
    scores, headlines = Scores.read(results), kinetics_headlines(results)
    answers = [_candidates(results), _predictors(scores), _kinetics(headlines)]
    answers = [answer for answer in answers if answer]
    if not answers:
        return missing("This run holds no scores yet.")
    parts = [f'<div class="answers">{"".join(answers)}</div>', _size(results)]
    if scores is not None:
        parts.append("<h3>Error on families that were never seen, by number of labels</h3>")
        parts += [findings(scores), few_shot_table(scores)]
    return "\n".join(parts)


def _answer(title: str, lead: str, rest: str, link: str, words: str) -> str:
    """Return one of the answers, with a link to its section."""
    return (
        f'<article><h3>{title}</h3><p class="lead">{lead}</p>{rest}'
        f'<p><a href="#{link}">{words}</a></p></article>'
    )


def _unmet(summary: dict) -> str:
    """Return what is to be said first where no candidate meets the windows."""
    kinds = [parse_objective(text).kind for text in summary.get("objectives", [])]
    if "window" not in kinds or summary.get("n_meet_all_windows", 1):
        return ""
    return (
        "<b>No candidate</b> inside the model's domain is predicted to meet "
        f"{'all windows' if kinds.count('window') > 1 else 'the window'}. "
    )


def _candidates(results: Results) -> str:
    """Return the best new candidates with prediction, interval and stability."""
    rows = read_shortlist(results)
    if rows is None:
        return ""
    new = best_new(rows, FIRST)
    if new.empty:
        return _answer(
            "Candidates",
            "The compositions of all candidates are in these data already.",
            "",
            "shortlist",
            "The whole list",
        )
    summary = results.json("screening/summary.json") or {}
    predicted = predicted_properties(rows, summary)[:MOST_PROPERTIES]
    first, leading = new.iloc[0].to_dict(), predicted[0]
    unit = f" {leading.unit}" if leading.unit not in ("", "1") else ""
    total = summary.get("n_ranked", len(rows))
    wanted = "; ".join(objective_words(text) for text in summary.get("objectives", []))
    beyond = beyond_given(first[leading.columns[0]], leading.name, summary)
    known_hull = HULL in new and new[HULL].notna().any()
    head = ["candidate", *(escape(item.title) for item in predicted)]
    body = []
    for row in new.to_dict("records"):
        cells = [_named(row)]
        cells += [prediction_cell(row, item.columns, new) for item in predicted]
        body.append([*cells, _stable(row)] if known_hull else cells)
    return _answer(
        "Candidates",
        _unmet(summary) + f"Of {count(total)} candidates, the best by score whose composition is "
        f"not in these data is <b>{formula(first['formula'])}</b>: "
        f"{escape(property_title(leading.name))} <b>{number(first['prediction'])}{escape(unit)}"
        f"</b>, 90 % interval {interval(first['low'], first['high'])}{_checked(summary)}"
        f"{beyond and ', ' + beyond}."
        f"{'' if first['in_domain'] else ' It lies outside the model’s domain.'}",
        table(
            [*head, "stability, eV/atom above the hull"] if known_hull else head,
            body,
            caption="The best candidates whose composition is not in these data",
            note=f"{'Wanted: ' + escape(wanted) + '. ' if wanted else ''}Predicted; for this list "
            f"nothing was calculated or made.{'' if new['in_domain'].all() else OUTSIDE}"
            f"{STABILITY if known_hull else ''}",
        ),
        "shortlist",
        "All candidates: sort, filter, turn the crystals",
    )


def _checked(summary: dict[str, Any]) -> str:
    """Return how many known values of held-out families lie inside such intervals."""
    check = summary.get("check_on_known") or {"n": 0}
    if not check["n"] or not check["held_out"]:
        return ""
    inside = round(check["n"] * check["share_inside_90_percent_interval"])
    return (
        f" (such intervals hold {count(inside)} of {count(check['n'])} known "
        f"{plural('value', check['n'])} of candidates that the model was not given)"
    )


def _named(row: dict[str, Any]) -> Cell:
    """Return a candidate's formula, and whether the model knows nothing like it."""
    shown = formula(row["formula"])
    if row["in_domain"]:
        return Cell(shown, row["formula"], "name")
    return Cell(f"{shown}<br>outside the domain", row["formula"], "name far")


def _stable(row: dict[str, Any]) -> Cell:
    """Return what can be said of a candidate's stability, in few words."""
    words, value = stability_words(row), row[HULL]
    if pd.isna(value):
        return text_cell(words)
    ends = interval(row.get(f"{HULL}_low"), row.get(f"{HULL}_high"))
    shown = f'{words}<br>{number(value)} <span class="interval">{ends}</span>'
    return Cell(shown, value, "" if words in STABLE else "far")


def _predictors(scores: Scores | None) -> str:
    """Return how the chosen method compares with the best simple one on unseen families."""
    if scores is None:
        return ""
    rows: list[list[Cell]] = []
    told: dict[int | None, list[str]] = {}
    compared = False
    for name in scores.properties:
        used = scores.used(name)
        if used.empty:
            continue
        shots = scores.shown_shots(name)
        simple, title = scores.best_simple(name, shots), property_title(name)
        now = used[used["shots"] == shots].iloc[0]
        families = text_cell(count(now["n_families"]) if "n_families" in now else "–", "num")
        cells = [
            Cell(
                f"{escape(sentence(title) + unit_text(scores.unit(name)))}<br>"
                f'<span class="which">{shots} labels</span>',
                title,
            ),
            _error(now, scores.is_logarithmic(name)),
        ]
        if simple is None:
            rows.append([*cells, text_cell("–", "num"), families])
            continue
        compared, found = True, scores.against(simple)
        if found is not None:
            by = f"{number(abs(found.percent), 2)} % with " if found.sign else ""
            told.setdefault(found.sign, []).append(f"{title} ({by}{shots})")
        rows.append([*cells, _beside(simple, found, scores.titles[simple["method"]]), families])
    if not rows:
        return ""
    return _answer(
        "Predictor",
        _compared(told, percent_note(scores))
        if compared
        else "No simple method was tested beside it.",
        table(
            ["property", "error", "best simple method", "families"],
            rows,
            caption="Errors of the predictor and of the best simple method",
            note="Mean absolute error over unseen families [95 % interval, where there are at "
            f"least {FEWEST_TASKS}]. “Simple”: without a neural network; the one with the lowest "
            "error at that number of labels is picked afterwards, which favours it. Below "
            "its error: how much larger (or, with a minus, smaller) it is than the predictor’s, "
            f"paired over families. {CLEARLY}",
        ),
        "predictors",
        "Learning curves, parity, coverage of the intervals",
    )


def _beside(beside: pd.Series, found: Reduction | None, title: str) -> Cell:
    """Return the cell of another method: its error, and how it differs from the chosen one's."""
    words = f"{number(beside['value'])}<br>"
    if found is not None:
        ends, plus = interval(found.low, found.high), "+" if found.value > 0 else ""
        words += f'<span class="interval">{plus}{number(found.value)} {ends}</span><br>'
    words += f'<span class="which">{escape(title)}</span>'
    return Cell(words, float(beside["value"]), "num")


def _compared(told: dict[int | None, list[str]], note: str) -> str:
    """Return what the paired differences to the best simple method show, and no more.

    Parameters
    ----------
    note
        Output of `percent_note`.
    """
    if not told:
        return "For each property, its error beside that of the best simple method."
    verdicts = (
        (1, "Its error on families never seen is clearly lower than the best simple method’s for"),
        (0, "No clear difference for"),
        (-1, "Its error is clearly higher for"),
        (None, "Too few families to say for"),
    )
    parts = []
    for verdict, words in verdicts:
        if names := told.get(verdict):
            listed = escape("; ".join(names))
            parts.append(f"{words} {f'<b>{listed}</b>' if verdict else listed}.")
    size = f"by how much{note}, and " if told.keys() & {1, -1} else ""
    return f"{' '.join(parts)} In brackets: {size}how many labels (known values) were given."


def _error(row: pd.Series, logarithmic: bool = False) -> Cell:
    """Return a cell with an error and its interval; of a decadic logarithm in percent, too."""
    ends = interval(row["low"], row["high"])
    percent = f" ({number(percent_of(row['value']), 2)}\u00a0%)" if logarithmic else ""
    return Cell(
        f'{number(row["value"])}{percent}<br><span class="interval">{ends}</span>',
        float(row["value"]),
        "num",
    )


def _kinetics(headlines: list[dict[str, Any]]) -> str:
    """Return how calibrated kinetics compare with least squares on unseen alloys."""
    if not headlines:
        return ""
    rows = []
    for item in headlines:
        ours, plain = item["default"], item["generic"]
        unit = f" ({item['unit']})" if item["unit"] else ""
        name = title_of(item["dataset"])
        shown = f"{escape(name)}{escape(unit)}<br>{badge(item['simulated'])}"
        cells = [Cell(shown, name), _error(ours), _error(plain)]
        if (other := item["other"]) is None:
            rows.append([*cells, text_cell("–", "num")])
        else:
            rows.append([*cells, _beside(other, item["beside"], method_title(other["method"]))])
    return _answer(
        "Kinetics",
        "Calibrated from a few observations of a new alloy, the equation predicts its others "
        f"{_against(headlines)}.{_against_others(headlines)}",
        table(
            ["data set", "error", method_title(LEAST_SQUARES), "best other method"],
            rows,
            caption="Errors on the other observations of unseen alloys",
            note=f"Root-mean-square error, {MEAN_OVER}. Method: "
            f"{escape(method_title(headlines[0]['default']['method']))}. "
            f"{sentence(method_title(LEAST_SQUARES))}: without knowledge of other alloys. The best "
            "other method is picked afterwards, which favours it. Below its error: how much larger "
            "(or, with a minus, smaller) it is, paired.",
        ),
        "kinetics",
        "Diagrams with bands, all methods",
    )


def _against(headlines: list[dict[str, Any]]) -> str:
    """Return how the errors compare with those of least squares, data set by data set."""
    told = []
    for item in headlines:
        found = item["reduction"]
        percent = "" if found is None else f"<b>{number(abs(found.percent), 2)} %"
        words = {
            1: f"with {percent} lower error</b> than {LEAST_SQUARES}",
            -1: f"with {percent} higher error</b> than {LEAST_SQUARES}",
            0: f"without a clear difference from {LEAST_SQUARES}",
            None: "(see the table; too few groups of similar composition to compare)",
        }[None if found is None else found.sign]
        given = f"from {item['shots']} {plural('observation', item['shots'])}"
        told.append(f"{words} ({escape(title_of(item['dataset']))}, {given})")
    return listed(told)


def _against_others(headlines: list[dict[str, Any]]) -> str:
    """Return how the errors compare with those of the best other methods, where there are any."""
    told = []
    for item in headlines:
        if (found := item["beside"]) is not None:
            percent = f"{number(abs(found.percent), 2)} %"
            words = {
                1: f"{percent} lower",
                -1: f"<b>{percent} higher</b>",
                0: "no clear difference",
                None: "too few groups of similar composition to say",
            }[found.sign]
            told.append(f"{words} ({escape(title_of(item['dataset']))})")
    return f" Against the best other method: {listed(told)}." if told else ""


def _size(results: Results) -> str:
    """Return the few numbers that tell the size of the run."""
    cards = []
    structures = results.json("structures/summary.json")
    if structures is not None:
        distinct = structures["accepted"] - structures.get("duplicates", 0)
        own = f"entries read and checked ({count(distinct)} distinct crystals)"
        cards.append((count(structures["accepted"]), own))
        cards.append((count(structures["families"]), "families of similar structure"))
    summary = results.json("properties/evaluation/summary.json")
    if summary is not None and summary.get("test_families"):
        cards.append((count(len(summary["test_families"])), "families kept aside for the test"))
    items = "".join(f"<div><b>{value}</b><span>{text}</span></div>" for value, text in cards)
    return f'<div class="cards">{items}</div>' if cards else ""
