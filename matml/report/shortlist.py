"""The part of the page about screening: the ranked candidates, and their crystals to turn."""

from typing import Any

import pandas as pd

from matml.config import ReportSection
from matml.report.markup import (
    Cell,
    count,
    count_cell,
    escape,
    formula,
    interval,
    missing,
    number,
    number_cell,
    script_json,
    table,
    text_cell,
)
from matml.report.results import Results
from matml.report.words import property_title, unit_text

SHORTLIST = "screening/shortlist.csv"
COLUMNS = ("rank", "id", "formula", "prediction", "low", "high", "unit", "distance", "in_domain")


def read_shortlist(results: Results) -> pd.DataFrame | None:
    """Return the shortlist of a run with at least one row, or None."""
    rows = results.table(SHORTLIST, COLUMNS)
    return None if rows is None or rows.empty else rows.sort_values("rank")


def shortlist_section(results: Results, settings: ReportSection) -> str:
    """Return the section's markup."""
    rows = read_shortlist(results)
    if rows is None:
        return missing("This run has screened no candidates.")
    summary = results.json("screening/summary.json") or {}
    made = results.json("candidates/summary.json")
    parts = []
    if made is not None:
        parts.append(
            f"<p>{count(made['n_candidates'])} candidates of the family "
            f"<b>{escape(made['family'])}</b> were made by exchanging ions in its prototype, "
            "keeping those that are neutral and whose ions fit by size. That they can be made in "
            "the laboratory is not known.</p>"
        )
    if summary.get("notes"):
        notes = "".join(f"<li>{escape(note)}</li>" for note in summary["notes"])
        parts.append(f'<ul class="findings">{notes}</ul>')
    name = str(rows["property"].iloc[0]) if "property" in rows else "prediction"
    parts.append(_viewer(results, rows, settings.crystals_shown))
    parts.append(_table(rows.head(settings.candidates_shown), name, len(rows)))
    return "\n".join(parts)


def candidate_headline(results: Results) -> tuple[str, str] | None:
    """Return (formula, prediction with interval) of the best candidate not known before."""
    rows = read_shortlist(results)
    if rows is None:
        return None
    known = rows.get("known_composition")
    new = rows if known is None else rows[~known.astype(bool)]
    if new.empty:
        return None
    best = new.iloc[0]
    name = str(best["property"]) if "property" in rows else "prediction"
    unit = "" if pd.isna(best["unit"]) or best["unit"] in ("", "1") else f" {best['unit']}"
    return (
        formula(best["formula"]),
        f"{escape(property_title(name))} {number(best['prediction'])}{escape(unit)} "
        f"{interval(best['low'], best['high'])}",
    )


def _table(rows: pd.DataFrame, name: str, total: int) -> str:
    """Return the sortable shortlist."""
    unit = rows["unit"].iloc[0]
    extra = [
        (column, title)
        for column, title in (
            ("tolerance_factor", "tolerance factor"),
            ("known_value", "known value"),
        )
        if column in rows and rows[column].notna().any()
    ]
    body = []
    for row in rows.to_dict("records"):
        body.append(
            [
                count_cell(row["rank"]),
                Cell(formula(row["formula"]), row["formula"]),
                number_cell(row["prediction"]),
                Cell(interval(row["low"], row["high"]), row["low"], "num interval"),
                number_cell(row["distance"], 2),
                text_cell(_trust(row), "" if row["in_domain"] else "far"),
                *(number_cell(row[column]) for column, _ in extra),
                text_cell(_status(row)),
            ]
        )
    head = [
        "rank",
        "formula",
        f"{escape(property_title(name))}{unit_text(unit)}",
        "90 % interval",
        "distance",
        "trust",
        *(title for _, title in extra),
        "known?",
    ]
    return table(
        head,
        body,
        sortable=True,
        tall=len(body) > 15,
        note=f"The first {count(len(rows))} of {count(total)}; a click on a title sorts. "
        "<dfn>Distance</dfn> is how far a candidate lies from all crystals that the model has "
        "learned from: 1 is a distance that 95 % of crystals of families left out in training "
        "stay below. “Trust” tells when a prediction lies outside of what the model knows: far "
        "from the data, with elements that hardly any labelled crystal holds, or beyond all known "
        "values. “Known?” tells whether the data already hold this crystal.",
    )


def _trust(row: dict[str, Any]) -> str:
    """Return why a prediction lies outside of what the model knows, or that it does not."""
    if row["in_domain"]:
        return "inside"
    reasons = ["far from the data"] if row["distance"] > 1 else []
    rare = row.get("rare_elements")
    if isinstance(rare, str) and rare:
        reasons.append(f"rare: {rare}")
    if row.get("beyond_labels") is True:
        reasons.append("beyond all values")
    return ", ".join(reasons) or "outside"


def _status(row: dict[str, Any]) -> str:
    """Return in words whether a candidate is known."""
    if row.get("in_support") is True:
        return "one of the given labels"
    duplicate = row.get("duplicate_of")
    if isinstance(duplicate, str) and duplicate:
        return f"equals {duplicate}"
    return "same composition" if row.get("known_composition") is True else "new"


def _viewer(results: Results, rows: pd.DataFrame, most: int) -> str:
    """Return a viewer of the first candidates that have a CIF file."""
    named = rows["cif"] if "cif" in rows else pd.Series("", index=rows.index)
    crystals = []
    for file, row in zip(named, rows.to_dict("records"), strict=True):
        if len(crystals) == most:
            break
        if not isinstance(file, str) or not file:
            continue
        text = results.text(f"screening/candidates/{file}")
        if text is not None:
            crystals.append({"rank": int(row["rank"]), "formula": row["formula"], "cif": text})
    if not crystals:
        return "" if most == 0 else missing("No candidate's crystal was kept to be looked at.")
    buttons = "".join(
        f'<button type="button" data-crystal="{position}" '
        f'aria-pressed="{"true" if position == 0 else "false"}">'
        f"{crystal['rank']}. {formula(crystal['formula'])}</button>"
        for position, crystal in enumerate(crystals)
    )
    return (
        f'<div class="viewer"><div class="choices">{buttons}</div>'
        '<div id="crystal" role="img" aria-label="Crystal structure, to be turned by dragging">'
        "</div><p class='note'>Drag to turn, scroll or pinch to zoom: two unit cells along each "
        "direction. Colours tell elements apart: <span id='elements'></span></p>"
        f'<script type="application/json" id="crystal-data">{script_json(crystals)}</script></div>'
    )
