"""What the candidates offer in two objectives at once: the Pareto front, and their chemistry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.words import interval_text, number_text, plural
from matml.figures.figure import (
    BLUE,
    GREY,
    ORANGE,
    SKY,
    Axis,
    Choice,
    Figure,
    Hover,
    Part,
    Series,
    subscripts,
)
from matml.report.html.figure_set import Figures, FigureSet, Menu
from matml.report.html.markup import count, escape
from matml.report.html.results import Results
from matml.report.html.wording import HULL, property_title, sentence, split_unit, unit_text
from matml.report.sections.properties.chemistry import candidate_maps, candidates_words
from matml.report.sections.screening.candidate import absent_words
from matml.report.sections.screening.shortlist import (
    filled,
    is_known,
    predicted_properties,
    read_shortlist,
)
from matml.screening.objectives import Objective, parse_objectives

MOST_POINTS = 1500
"""Dominated candidates drawn at most; the front is always drawn whole."""
FEW_POINTS = 100
"""Candidates that are drawn larger and less faint, since they do not hide each other."""
DISTANCE = "distance"
NAMES = {
    "known": "candidates of well-known systems",
    "inside": "other trusted candidates",
    "all": "candidates not trusted",
}
TRUST = {
    "known": "trusted, of well-known systems",
    "inside": "trusted",
    "all": "all",
}
"""Which candidates are drawn, the fewest first.

A system is well known where the hull holds a compound of each element and binary system: without,
the energy above the hull is no more than the formation energy from what is left.
"""
LOOKS = {"known": (BLUE, "circle"), "inside": (SKY, "circle"), "all": (GREY, "x")}
GROUPS = {
    "known": "trusted candidates of well-known systems (the hull holds a compound of each element "
    "and binary system)",
    "inside": "trusted candidates (inside the model's domain)",
    "all": "candidates",
}
FEWEST = 10
"""Candidates below which a narrower choice is not shown first."""


@dataclass(frozen=True)
class Aim:
    """One axis: a column of the shortlist, its words, and which way is better.

    Attributes
    ----------
    worth
        Of each candidate, [n]; larger is better.
    """

    column: str
    title: str
    wanted: str
    worth: np.ndarray


def candidate_figures(results: Results, figures: Figures) -> str:
    """Return the figures of the candidates: Pareto fronts and maps of chemistry."""
    rows = read_shortlist(results)
    if rows is None:
        return ""
    fronts, maps = pareto_figures(results), candidate_map_figures(results)
    parts = []
    if fronts:
        subjects = {item.subject: item.subject for item in fronts}
        kept = circles(rows[~is_known(rows)])
        known = int(is_known(rows).sum())
        left_out = f"<p>Left out: {count(known)} equal to a known crystal.</p>" if known else ""
        menus = (
            Menu("subject", "Against", subjects, fronts[0].subject),
            Menu("trust", "Candidates", {name: TRUST[name] for name in kept}, first_choice(kept)),
        )
        parts += [
            f"<h3>Trade-offs between objectives</h3>{left_out}",
            FigureSet(fronts, menus, wide=True).markup(figures),
        ]
    if maps:
        parts += ["<h3>Elements of the candidates</h3>"]
        subjects = {item.subject: sentence(property_title(item.subject)) for item in maps}
        menu = Menu("subject", "Property", subjects, maps[0].subject)
        parts.append(FigureSet(maps, (menu,), wide=True).markup(figures))
    return "".join(parts)


def candidate_map_figures(results: Results) -> list[Figure]:
    """Return the maps of the candidates by element, one a predicted property."""
    rows = read_shortlist(results)
    if rows is None:
        return []
    summary = results.json("screening/summary.json") or {}
    predicted = predicted_properties(rows, summary)
    names = [(item.name, item.unit, item.columns[0]) for item in predicted]
    return candidate_maps(rows, names, _after(summary))


def aims(rows: pd.DataFrame, summary: dict) -> list[Aim]:
    """Return the objectives of a screening as axes; with only one, also what it is weighed against.

    That is the energy above the hull where it is known, and the distance to the training data.
    """
    leading = str(rows["property"].iloc[0]) if "property" in rows else "prediction"
    texts = summary.get("objectives") or [f"{leading} {summary.get('goal', 'maximise')}"]
    try:
        objectives = parse_objectives(texts, summary.get("logarithmic", ()))
    except MatmlError:
        # of a property that this version does not know
        objectives = []
    made = (_aim(rows, objective, leading, summary) for objective in objectives)
    found = [aim for aim in made if aim is not None]
    if len(found) < 2:
        known = {aim.column for aim in found}
        for column, title in (
            (HULL, "energy above the hull of known phases (eV/atom)"),
            (DISTANCE, "distance to the training data (1: far)"),
        ):
            if column in rows and column not in known and rows[column].notna().any():
                found.append(Aim(column, title, "low", -rows[column].to_numpy(float)))
    return found


def _aim(rows: pd.DataFrame, objective: Objective, leading: str, summary: dict) -> Aim | None:
    name = objective.property
    column = "prediction" if name == leading else name
    if column not in rows or rows[column].isna().all():
        return None
    values = rows[column].to_numpy(float)
    words, unit = split_unit(name)
    unit = (summary.get("properties") or {}).get(name, unit)
    wanted = {
        "maximise": "high",
        "minimise": "low",
        "target": f"near {objective.low:g}",
        "window": _window(objective),
    }[objective.kind]
    worth = _worth(objective, values)
    return Aim(column, f"{words}{unit_text(unit)}", wanted, worth)


def _window(objective: Objective) -> str:
    if np.isinf(objective.high):
        return f"at least {objective.low:g}"
    if np.isinf(objective.low):
        return f"at most {objective.high:g}"
    return f"{objective.low:g} to {objective.high:g}"


def _worth(objective: Objective, values: np.ndarray) -> np.ndarray:
    """Return how well values serve an objective, larger is better; all in a window are equal."""
    scaled = objective.to_scale(values)
    return -objective.gap(scaled) if objective.kind == "window" else objective.utility(scaled)


def front_of(first: Aim, second: Aim, rows: np.ndarray) -> np.ndarray:
    """Return the rows (of `rows`, positions) that no other row beats in both aims, [f]."""
    criteria = np.stack([first.worth[rows], second.worth[rows]], axis=1)
    whole = np.isfinite(criteria).all(1)
    rows, (one, other) = rows[whole], criteria[whole].T
    # the best first; of those as good in one aim only the best in the other, if better than all
    # that are better in the first
    order = np.lexsort((-other, -one))
    one, other = one[order], other[order]
    starts = np.append(True, one[1:] != one[:-1])[: len(one)]
    best = other[starts]
    before = np.append(-np.inf, np.maximum.accumulate(best)[:-1])[: len(best)]
    group = np.cumsum(starts) - 1
    return np.sort(rows[order[(other == best[group]) & (other > before[group])]])


def pareto_figures(results: Results) -> list[Figure]:
    """Return the leading objective against each other one, or against stability and distance.

    Candidates that equal a known crystal are left out: their values need no prediction.
    """
    rows = read_shortlist(results)
    if rows is None:
        return []
    rows = rows[~is_known(rows)].reset_index(drop=True)
    if rows.empty:
        return []
    summary = results.json("screening/summary.json") or {}
    found, after = aims(rows, summary), _after(summary)
    return [_pareto(rows, found[0], other, after) for other in found[1:]]


def _after(summary: dict) -> str:
    """Return from how many labels the candidates were predicted, a sentence."""
    shots = summary.get("n_support")
    return f"Predicted after {count(shots)} {plural('label', shots)}." if shots else ""


def circles(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the candidates (mask) of each entry of `TRUST` that narrows the choice."""
    inside = rows["in_domain"].to_numpy(bool)
    found = {"inside": inside, "all": np.ones(len(rows), bool)}
    if HULL in rows:
        complete = ~filled(rows, "hull_missing").to_numpy()
        found = {"known": inside & complete & rows[HULL].notna().to_numpy()} | found
    return {name: mask for name, mask in found.items() if mask.any()}


def _pareto(rows: pd.DataFrame, first: Aim, second: Aim, after: str) -> Figure:
    """Return the figure of two aims: the front connected, the other candidates lighter."""
    choices = circles(rows)
    chosen = first_choice(choices)
    parts: list[Part] = []
    drawn, fronts = np.zeros(len(rows), bool), {}
    for place, (trust, mask) in enumerate(choices.items()):
        fresh, drawn = np.flatnonzero(mask & ~drawn), drawn | mask
        front = front_of(first, second, np.flatnonzero(mask))
        fronts[trust] = front[np.argsort(rows[second.column].to_numpy()[front], kind="stable")]
        colour, symbol = LOOKS[trust]
        size, opacity = (7, 0.8) if mask.sum() <= FEW_POINTS else (5, 0.45)
        if len(fresh):
            look: dict[str, Any] = {
                "colour": colour,
                "symbol": symbol,
                "size": size,
                "opacity": opacity,
            }
            # a wider choice holds the narrower ones
            choice: Choice = {"trust": list(choices)[place:]}
            points = _thinned(fresh, rows)
            parts.append(_points(rows, points, first, second, NAMES[trust], choice, **look))
    inside = rows["in_domain"].to_numpy(bool)
    for trust, front in fronts.items():
        symbols = ["diamond" if inside[i] else "diamond-open" for i in front]
        look = {"colour": ORANGE, "symbol": symbols, "size": 10, "width": 1.5}
        choice = {"trust": trust}
        parts.append(_points(rows, front, first, second, "Pareto front", choice, **look))
    front = fronts[chosen][::-1]
    names = ", ".join(str(text) for text in rows["formula"].iloc[front[:8]])
    names += " and others" if len(front) > 8 else ""
    words = (
        f"{first.title} (wanted: {first.wanted}) against {second.title} (wanted: {second.wanted})"
    )
    total = int(choices[chosen].sum())
    return Figure(
        f"pareto-{first.column}-{second.column}".replace("prediction", _name(rows)),
        f"{sentence(first.title)} of the {candidates_words(rows)} against {second.title}",
        Axis(second.title, second.wanted),
        Axis(first.title, first.wanted),
        parts,
        f"Of the {count(total)} {GROUPS[chosen]}, no other beats any of these {count(len(front))} "
        f"in both: {subscripts(names)}. {after}".rstrip(),
        f"{sentence(words)} of {count(total)} {GROUPS[chosen]}. On the Pareto front: {names}.",
        legend=True,
        height=460,
        subject=sentence(second.title),
        chosen={"trust": chosen},
    )


def first_choice(choices: dict[str, np.ndarray]) -> str:
    """Return the narrowest choice that still shows enough candidates, or the widest."""
    enough = [name for name, mask in choices.items() if mask.sum() >= FEWEST]
    return enough[0] if enough else "all"


def _name(rows: pd.DataFrame) -> str:
    return str(rows["property"].iloc[0]) if "property" in rows else "prediction"


def _thinned(places: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    """Return the dominated candidates to draw: the better ranked half, and an even choice."""
    if len(places) <= MOST_POINTS:
        return places
    places = places[np.argsort(rows["rank"].to_numpy()[places], kind="stable")]
    half = MOST_POINTS // 2
    rest = places[half:]
    picks = np.linspace(0, len(rest) - 1, MOST_POINTS - half).astype(int)
    return np.concatenate([places[:half], rest[picks]])


def _points(
    rows: pd.DataFrame,
    places: np.ndarray,
    first: Aim,
    second: Aim,
    name: str,
    choice: Choice,
    **look: Any,
) -> Series:
    """Return candidates as points, with what a hover tells of each."""
    own = rows.iloc[places]
    told = [
        (
            escape(subscripts(row["formula"])),
            int(row["rank"]),
            _with_interval(row, first.column),
            _with_interval(row, second.column),
            f"{row['distance']:.2f}",
            "" if row["in_domain"] else "<br>outside the model's domain",
            "<br>composition known" if row.get("known_composition") is True else "",
            _hull_words(row),
        )
        for row in own.to_dict("records")
    ]
    return Series(
        own[second.column],
        own[first.column],
        name,
        labels=list(own["formula"]),
        hover=Hover(
            "<b>%{customdata[0]}</b>, rank %{customdata[1]}<br>"
            f"{escape(first.title)}: %{{customdata[2]}}<br>{escape(second.title)}: "
            "%{customdata[3]}<br>distance %{customdata[4]}%{customdata[5]}%{customdata[6]}"
            "%{customdata[7]}<extra></extra>",
            told,
        ),
        choice=choice,
        **look,
    )


def _hull_words(row: dict) -> str:
    """Return what the hull below a candidate is made of, where it was looked for."""
    if pd.isna(row.get("hull_entries", float("nan"))):
        return ""
    absent = row.get("hull_missing")
    text = f"<br>hull of {int(row['hull_entries'])} known compounds"
    return f"{text}; {escape(absent_words(absent))}" if isinstance(absent, str) and absent else text


def _with_interval(row: dict, column: str) -> str:
    """Return a value with its 90 % interval where there is one."""
    low, high = ("low", "high") if column == "prediction" else (f"{column}_low", f"{column}_high")
    text = number_text(row[column])
    if low in row and pd.notna(row[low]) and pd.notna(row[high]):
        text += f" {interval_text(row[low], row[high])}"
    return text
