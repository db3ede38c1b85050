"""What opens with a row of the shortlist: why a candidate ranks there, and what is known nearby."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matml.core.text.words import listed
from matml.report.html.markup import (
    Cell,
    chance,
    count,
    escape,
    formula,
    interval,
    number,
    table,
    text_cell,
)
from matml.report.html.wording import (
    FORMATION_ENERGY,
    HULL,
    ordinal,
    property_title,
    sentence,
    split_unit,
    unit_text,
)
from matml.report.sections.screening.given import beyond_given, improvement
from matml.screening.objectives import WANTED
from matml.structures.elements import ELECTRONEGATIVITY

FACTS = {
    "common_name": "family",
    "prototype": "prototype",
    "space_group_number": "space group number",
    "oxidation_states": "oxidation states",
    "tolerance_factor": "tolerance factor",
    "octahedral_factor": "octahedral factor",
    "bartel_tau": "tolerance factor τ of Bartel",
    "lattice_parameter_angstrom": "guessed lattice parameter (Å)",
    "volume_per_atom_A3": "volume per atom (Å³)",
    "known_value": "known value of the first property",
}

GAPS = "unknown: gaps"
STABLE = ("below the hull", "near the hull")
"""Within the 90 % interval not above the hull, of which no entries are known to be missing."""
CHARGE = re.compile(r"(?<=[A-Za-z])([+-])(\d+)(?![\d.])")
RAISED = str.maketrans("0123456789+-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻")


@dataclass(frozen=True)
class Predicted:
    """A predicted property of the shortlist: its words, unit, and the columns that hold it."""

    name: str
    unit: str
    columns: tuple[str, str, str]

    @property
    def title(self) -> str:
        """Name and unit for a heading."""
        return sentence(property_title(self.name)) + unit_text(self.unit)


def candidate_template(
    row: dict[str, Any],
    predicted: Sequence[Predicted],
    explained: dict[str, Any] | None,
    summary: dict[str, Any],
) -> str:
    """Return the hidden parts of one candidate, which the page's script shows when it is opened."""
    objectives = (explained or {}).get("objectives", [])
    title = f"{int(row['rank'])}. {formula(row['formula'])}"
    return (
        f'<template id="candidate-{int(row["rank"])}"><div class="title">{title}</div>'
        f'<div class="why"><h3>Why it ranks here</h3>{_standing(row, summary)}'
        f"{_predictions(row, predicted, objectives, summary)}{_stability(row)}"
        f"{_warnings(row, predicted, summary)}</div>"
        f'<div class="rest">{_nearest(row, predicted, explained)}{_facts(row)}</div></template>'
    )


def trust_words(row: dict[str, Any]) -> str:
    """Return why a prediction lies outside the model's domain, or that it does not."""
    if row["in_domain"]:
        return "inside"
    reasons = ["far from the data"] if row["distance"] > 1 else []
    rare = row.get("rare_elements")
    if isinstance(rare, str) and rare:
        reasons.append(f"rare: {', '.join(rare.split())}")
    if row.get("beyond_labels") is True:
        reasons.append("beyond all values")
    return ", ".join(reasons) or (row["outside"] if _given(row, "outside") else "outside")


def stability_words(row: dict[str, Any]) -> str:
    """Return in few words what the known entries say of a candidate's stability."""
    if not _given(row, HULL):
        return "not looked up"
    # compounds that are missing there could only bring the hull down
    if row.get(f"{HULL}_low", row[HULL]) > 0:
        return "above the hull"
    if _given(row, "hull_missing"):
        return GAPS
    return "below the hull" if row.get(f"{HULL}_high", row[HULL]) <= 0 else "near the hull"


def absent_words(missing: str) -> str:
    """Return what a hull lacks, from `hull_missing`, as `no binary compound of Cd–O or Cd–Ru`.

    The less electronegative element of a pair stands first, as in a formula.
    """
    systems = [
        sorted(each.split("-"), key=ELECTRONEGATIVITY.__getitem__) for each in missing.split()
    ]
    told = []
    for size, kind in ((2, "binary compound"), (1, "compound")):
        names = ["–".join(system) for system in systems if len(system) == size]
        if names:
            told.append(f"no {kind} of {listed(names, 'or')}")
    return " and ".join(told)


def charged(ions: str) -> str:
    """Return ions such as `Pb+2 O-2` as they are usually written, `Pb²⁺ O²⁻`."""
    return CHARGE.sub(
        lambda found: (
            ("" if found[2] == "1" else found[2]).translate(RAISED) + found[1].translate(RAISED)
        ),
        ions,
    )


def _given(row: dict[str, Any], name: str) -> bool:
    """Return whether a row tells something under a name."""
    value = row.get(name)
    return value is not None and value == value and value != ""


def _standing(row: dict[str, Any], summary: dict[str, Any]) -> str:
    """Return the sentences on rank, score and front."""
    told = []
    if _given(row, "score_rank") and int(row["score_rank"]) != int(row["rank"]):
        trusted = ""
        if row["in_domain"] and summary.get("n_in_domain"):
            trusted = f" of the {count(summary['n_in_domain'])} trusted candidates"
        moved = "up" if row["rank"] < row["score_rank"] else "down"
        told.append(
            f"By score alone it is {ordinal(row['score_rank'])}{trusted}; it was moved {moved} so "
            "that the first candidates are both good and varied."
        )
    elif _given(row, "score_rank"):
        told.append(
            "It also ranks first by score."
            if row["score_rank"] == 1
            else f"It also ranks {ordinal(row['score_rank'])} by score."
        )
    if _given(row, "pareto_front"):
        front = int(row["pareto_front"])
        told.append(
            "No candidate is better in all objectives at once (first Pareto front)."
            if front == 1
            else f"It is on Pareto front {front}: some candidates are better in all objectives."
        )
    if not row["in_domain"]:
        told.append("Candidates outside the model's domain are ranked last.")
    return f"<p>{' '.join(told)}</p>" if told else ""


def _predictions(
    row: dict[str, Any],
    predicted: Sequence[Predicted],
    objectives: list[dict[str, Any]],
    summary: dict[str, Any],
) -> str:
    """Return a table of what each objective says."""
    names = {item.name: item for item in predicted}
    asked: list[tuple[str, str, Predicted | None, dict[str, Any]]] = [
        (entry["property"], _wish(entry["objective"]), names.get(entry["property"]), entry)
        for entry in objectives
    ]
    told = {name for name, *_ in asked}
    if FORMATION_ENERGY not in told and _given(row, FORMATION_ENERGY):
        asked.append((FORMATION_ENERGY, "", None, {}))
    asked += [(item.name, "", item, {}) for item in predicted if item.name not in told]
    rows = []
    for name, wish, item, entry in asked:
        columns = item.columns if item else (name, f"{name}_low", f"{name}_high")
        value, low, high = (row.get(column) for column in columns)
        title = (
            item.title if item else sentence(property_title(name)) + unit_text(split_unit(name)[1])
        )
        probability = entry.get("probability")
        place = f"{ordinal(entry['place'])} of {count(entry['of'])}" if entry else "–"
        rows.append(
            [
                text_cell(title),
                text_cell(wish or "–"),
                Cell(
                    f'{number(value)} <span class="interval">{interval(low, high)}</span>',
                    value,
                    "num",
                ),
                Cell("–" if probability is None else chance(probability), probability, "num"),
                text_cell(place, "num"),
            ]
        )
    head = [
        "property",
        "wanted",
        "predicted [90 %]",
        "chance",
        "rank by this alone, trusted or not",
    ]
    note = []
    if _given(row, "probability"):
        note.append(f"Chance to meet all windows at once: {chance(row['probability'])}.")
    if _given(row, "expected_improvement"):
        note.append(improvement(float(row["expected_improvement"]), summary))
    if _given(row, "score"):
        note.append(f"Score (defined under Methods): {number(row['score'])}.")
    if not objectives:
        # what is wanted stands above the list
        rows, head = [[cells[0], cells[2]] for cells in rows], [head[0], head[2]]
        note.append(
            "Ranks by one property alone and the phases of the hull are worked out for the first "
            "candidates only."
        )
    return table(head, rows, note=" ".join(note), caption="Predictions of this candidate")


def _wish(objective: str) -> str:
    """Return what is wanted of a property, without its name."""
    words = [word for word in objective.split() if not word.isidentifier() or word[-3:] == "ise"]
    between = len(words) == 4  # low <= name <= high
    text = f"{words[0]} to {words[3]}" if between else " ".join(WANTED.get(w, w) for w in words)
    return text.replace(">=", "≥").replace("<=", "≤").replace("= ", "near ")


def _stability(row: dict[str, Any]) -> str:
    """Return the paragraph on stability."""
    if not _given(row, HULL):
        return ""
    ends = interval(row.get(f"{HULL}_low"), row.get(f"{HULL}_high"))
    side = "below" if row[HULL] < 0 else "above"
    told = [
        f"<b>{number(abs(row[HULL]))} eV/atom {side}</b> the hull of the known entries (energy "
        f"above the hull: {number(row[HULL])} {ends}, a lower bound, since unknown phases can only "
        "make it less stable)."
    ]
    if _given(row, "decomposes_into"):
        told.append(_most_stable(row["decomposes_into"]))
    if _given(row, "hull_entries"):
        told.append(f"Compounds in the hull of this system: {count(row['hull_entries'])}.")
    if _given(row, "hull_missing"):
        judged = (
            "those missing could only make it less stable"
            if stability_words(row) != GAPS
            else "stability cannot be judged from this hull"
        )
        told.append(
            f"<strong class='far'>The hull holds {escape(absent_words(row['hull_missing']))} "
            f"(these data give no formation energy of one): {judged}.</strong>"
        )
    return f"<h3>Stability</h3><p>{' '.join(told)}</p>"


def _most_stable(text: str) -> str:
    """Return the sentence on the hull's phases, from `0.60 PbO2 + 0.40 Pt` or `1.00 AgSbO3`."""
    phases = []
    for part in text.split(" + "):
        share, _, name = part.partition(" ")
        phases.append(f"{escape(share)} {formula(name)}" if name else formula(share))
    if len(phases) == 1:
        return f"Most stable at this composition is the known phase {formula(name or share)}."
    return f"The most stable known mixture, in fractions of atoms, is {' + '.join(phases)}."


def _warnings(row: dict[str, Any], predicted: Sequence[Predicted], summary: dict[str, Any]) -> str:
    """Return what speaks against trusting the prediction."""
    notes = []
    if not row["in_domain"]:
        why = row["outside"] if _given(row, "outside") else trust_words(row)
        notes.append(f"Outside the model's domain: {why}.")
    for item in predicted:
        if beyond := beyond_given(row[item.columns[0]], item.name, summary):
            notes.append(f"{sentence(property_title(item.name))} predicted {beyond}.")
    if row.get("disordered") is True:
        notes.append(
            "A virtual crystal: the mean over the atoms that share its sites, which does not know "
            "of any order among them."
        )
    if _given(row, "extrapolated_radii"):
        notes.append(f"Ionic radius extrapolated: {charged(row['extrapolated_radii'])}.")
    if row.get("in_support") is True:
        notes.append("One of the labels that the model was given.")
    elif _given(row, "duplicate_of"):
        notes.append(f"Equal to the known crystal {row['duplicate_of']}.")
    elif _given(row, "strained_copy_of"):
        notes.append(f"Equal to the known crystal {row['strained_copy_of']} but for its volume.")
    elif row.get("known_composition") is True:
        notes.append("A crystal of this composition is known; its structure or volume differs.")
    if _given(row, "notes"):
        notes.append(f"As it was read: {row['notes']}.")
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<h3>Cautions</h3><ul class="warnings">{items}</ul>' if notes else ""


def _nearest(
    row: dict[str, Any], predicted: Sequence[Predicted], explained: dict[str, Any] | None
) -> str:
    """Return the table of the nearest known crystals, or the one that the shortlist names."""
    heading = "<h3>Nearest known crystals</h3>"
    near = (explained or {}).get("nearest", [])
    if not near:
        if not _given(row, "nearest_known"):
            return ""
        changed = number(100 * row["changed_atoms"], 2) if _given(row, "changed_atoms") else "–"
        return (
            f"{heading}<p>{escape(row['nearest_known'])}: {changed} % of the atoms would have to "
            "be exchanged.</p>"
        )
    wanted = [item.name for item in predicted]
    others = dict.fromkeys(name for entry in near for name in entry["values"])
    names = [name for name in (*wanted, *others) if name in others]
    names = list(dict.fromkeys(names))
    rows = [
        [
            Cell(formula(entry["formula"]), entry["formula"]),
            text_cell(entry["family"] + (" (same prototype)" if entry["same_prototype"] else "")),
            Cell(f"{number(100 * entry['changed_atoms'], 2)} %", entry["changed_atoms"], "num"),
            *(
                Cell(number(entry["values"].get(name)), entry["values"].get(name), "num")
                for name in names
            ),
            text_cell(entry["id"], "code"),
        ]
        for entry in near
    ]
    titles = [
        escape(sentence(property_title(name)) + unit_text(split_unit(name)[1])) for name in names
    ]
    return heading + table(
        ["formula", "family", "atoms to exchange", *titles, "id"],
        rows,
        sortable=True,
        caption="Known crystals nearest in composition",
        note="Known values, calculated as published. First those of any family that need the "
        "fewest atoms exchanged, then the nearest of the same prototype.",
    )


def _facts(row: dict[str, Any]) -> str:
    """Return what else is known of a candidate."""
    items = []
    for name, title in FACTS.items():
        if not _given(row, name):
            continue
        value = row[name]
        shown = number(value) if isinstance(value, float) else escape(value)
        if name == "oxidation_states":
            shown = escape(charged(str(value)))
        items.append(f"<div><dt>{title}</dt><dd>{shown}</dd></div>")
    if _given(row, "distance"):
        items.append(
            f"<div><dt>distance to training</dt><dd>{number(row['distance'], 2)}</dd></div>"
        )
    return f'<h3>The crystal</h3><dl class="facts">{"".join(items)}</dl>' if items else ""
