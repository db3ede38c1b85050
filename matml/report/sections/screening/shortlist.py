"""The part of the page about screening: ranked candidates to be sorted, filtered and opened."""

import csv
import io
import zipfile
from typing import Any

import pandas as pd

from matml.core.files import csv_text
from matml.report.html.markup import (
    Cell,
    bullets,
    chance,
    count,
    count_cell,
    download,
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
from matml.report.html.results import Results
from matml.report.html.wording import HULL
from matml.report.sections.screening.bonds import bonds_of
from matml.report.sections.screening.candidate import (
    STABLE,
    Predicted,
    candidate_template,
    stability_words,
    trust_words,
)
from matml.report.settings import ReportSection
from matml.screening.objectives import objective_words

SHORTLIST = "screening/shortlist.csv"
COLUMNS = ("rank", "id", "formula", "prediction", "low", "high", "unit", "distance", "in_domain")
SCORE_RANK = "score_rank"
DIVERSE = (
    "{first} were chosen to be both good and varied; the rest follow by score; a click on “by "
    "score” sorts all best first. "
)
NEW = "not in these data"
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""A fixed one, so that the same results make the same page."""


def read_shortlist(results: Results) -> pd.DataFrame | None:
    """Return the shortlist of a run with at least one row, or None."""
    rows = results.table(SHORTLIST, COLUMNS)
    return None if rows is None or rows.empty else rows.sort_values("rank")


def predicted_properties(rows: pd.DataFrame, summary: dict[str, Any]) -> list[Predicted]:
    """Return the properties that candidates were ranked by, the leading one first."""
    leading = str(rows["property"].iloc[0]) if "property" in rows else "prediction"
    unit = "" if pd.isna(rows["unit"].iloc[0]) else str(rows["unit"].iloc[0])
    found = [Predicted(leading, unit, ("prediction", "low", "high"))]
    # what was predicted for the hull alone has no objective of its own
    asked = {word for text in summary.get("objectives", []) for word in text.split()}
    for name, own in (summary.get("properties") or {}).items():
        columns = (name, f"{name}_low", f"{name}_high")
        if name != leading and name in asked and set(columns) <= set(rows):
            found.append(Predicted(name, own, columns))
    return found


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
            "keeping those that are neutral and whose ions fit by size. "
            f"{_known_words(rows, summary)}</p>"
        )
    if summary.get("objectives"):
        wanted = ", ".join(objective_words(text) for text in summary["objectives"])
        parts.append(f"<p>Wanted: <b>{escape(wanted)}</b>.</p>")
    shown = rows.head(settings.candidates_shown)
    predicted = predicted_properties(rows, summary)
    crystals = _crystals(results, shown, settings.crystals_shown)
    explained = {entry["rank"]: entry for entry in results.json("screening/explained.json") or []}
    parts += [
        _filters(shown, predicted),
        _table(shown, predicted, len(rows), len(explained)),
        _downloads(rows, shown, crystals, settings.crystals_shown),
    ]
    if summary.get("notes"):
        parts.append(f"<h3>What to know about this list</h3>{bullets(summary['notes'])}")
    parts.append(_dialog(shown, predicted, crystals, explained, summary))
    return "\n".join(parts)


def _known_words(rows: pd.DataFrame, summary: dict[str, Any]) -> str:
    """Return how many of the candidates are no new crystals, and that the others need not exist."""
    known = int(is_known(rows).sum())
    if not known:
        return "That they can be made in the laboratory is not known."
    strained = int(filled(rows, "strained_copy_of").sum())
    given = int(rows["in_support"].sum()) if "in_support" in rows else 0
    listed = "" if len(rows) == summary.get("n_ranked", len(rows)) else " listed"
    volume = f" ({count(strained)} but for its volume)" if strained else ""
    own = f", {count(given)} of them with a label that the model was given" if given else ""
    return (
        f"Of those{listed}, {count(known)} {'equals' if known == 1 else 'equal'} a known "
        f"crystal{volume}{own}. That the others can be made in the laboratory is not known."
    )


def best_new(rows: pd.DataFrame, number_of: int) -> pd.DataFrame:
    """Return the best candidates by score whose composition the data did not hold before."""
    known = rows.get("known_composition")
    new = rows if known is None else rows[~known.astype(bool)]
    return (new.sort_values("score_rank") if SCORE_RANK in new else new).head(number_of)


def reordered(rows: pd.DataFrame) -> bool:
    """Return whether the order of a list is not that by score, but was chosen to be diverse."""
    return SCORE_RANK in rows and not rows[SCORE_RANK].is_monotonic_increasing


def is_known(rows: pd.DataFrame) -> pd.Series:
    """Return which candidates equal a known crystal, if only but for their volume."""
    return filled(rows, "duplicate_of") | filled(rows, "strained_copy_of")


def filled(rows: pd.DataFrame, name: str) -> pd.Series:
    """Return which rows have text in a column, which may be absent."""
    # read as a number's column where it is empty throughout
    values = rows.get(name, pd.Series("", rows.index))
    return values.notna() & (values != "")


def bar(value: float, low: float, high: float, ends: tuple[float, float]) -> str:
    """Return a small drawing of a value and its interval on the scale from `ends`."""
    size = ends[1] - ends[0] or 1.0

    def place(at: float) -> float:
        return round(100 * min(1.0, max(0.0, (at - ends[0]) / size)), 1)

    if any(pd.isna(item) for item in (value, low, high)):
        return ""
    return (
        f'<span class="bar" aria-hidden="true" style="--low:{place(low)}%;'
        f'--high:{place(high)}%;--at:{place(value)}%"></span>'
    )


def prediction_cell(row: dict[str, Any], columns: tuple[str, str, str], rows: pd.DataFrame) -> Cell:
    """Return a cell with a prediction, its interval, and both drawn on the scale of the list."""
    value, low, high = (row[name] for name in columns)
    ends = float(rows[columns[1]].min()), float(rows[columns[2]].max())
    shown = (
        f'{number(value)} <span class="interval">{interval(low, high)}</span>'
        f"{bar(value, low, high, ends)}"
    )
    return Cell(shown, value, "num")


def _table(rows: pd.DataFrame, predicted: list[Predicted], total: int, chosen: int) -> str:
    """Return the sortable shortlist, of which the first so many were chosen to be diverse."""
    first = f"The first {count(chosen)}" if chosen else "The first"
    diverse = reordered(rows)
    windows, stable = "probability" in rows, HULL in rows and rows[HULL].notna().any()
    hull = (HULL, f"{HULL}_low", f"{HULL}_high")
    body = []
    for row in rows.to_dict("records"):
        opens = (
            f'<button type="button" class="open" data-open="{int(row["rank"])}" '
            f'aria-haspopup="dialog">{formula(row["formula"])}</button>'
        )
        cells = [count_cell(row["rank"]), Cell(opens, row["formula"], "name")]
        if diverse:
            cells.append(count_cell(row[SCORE_RANK]))
        cells += [prediction_cell(row, item.columns, rows) for item in predicted]
        if windows:
            cells.append(Cell(chance(row["probability"]), row["probability"], "num"))
        if stable:
            words = stability_words(row)
            cells.append(prediction_cell(row, hull, rows))
            cells.append(text_cell(words, "" if words in STABLE else "far"))
        cells += [
            number_cell(row["distance"], 2),
            text_cell(trust_words(row), "" if row["in_domain"] else "far"),
            text_cell(_status(row)),
        ]
        body.append(cells)
    head = ["rank", "formula", *(escape(item.title) for item in predicted)]
    keys = ["rank", "formula", *(item.name for item in predicted)]
    if diverse:
        head.insert(2, "by score")
        keys.insert(2, SCORE_RANK)
    if windows:
        head, keys = [*head, "chance to meet all windows"], [*keys, "probability"]
    if stable:
        head = [*head, "above the hull (eV/atom)", "stability"]
        keys = [*keys, HULL, "stability"]
    hull_words = (
        "“Above the hull”: energy above the most stable mixture of <em>known</em> entries, a lower "
        "bound; below zero mostly means that known entries are missing (“gaps”: the hull holds no "
        "binary compound of two of its elements, or none at all of one). “Near the hull”: the 90 % "
        "interval includes 0; “above” and “below”: it lies wholly on that side. "
        if stable
        else ""
    )
    return table(
        [*head, "distance", "trust", "known?"],
        body,
        sortable=True,
        tall=len(body) > 15,
        name="shortlist-table",
        keys=[*keys, "distance", "trust", "known"],
        sorted_by=0,
        caption="Ranked candidates; a button in each row opens the crystal and the reasons.",
        note=f"The first {count(len(rows))} of {count(total)}. "
        f"{DIVERSE.format(first=first) if diverse else ''}A formula opens the crystal, its "
        "nearest known neighbours and why it ranks there; a column’s title sorts. In brackets: "
        "90 % interval, drawn to the scale of the list. "
        f"{hull_words}"
        "<dfn>Distance</dfn> is how far a candidate lies from all crystals that the model has "
        "learned from: 1 is a distance that 95 % of crystals of families left out in training "
        "stay below. “Trust” says whether a prediction lies outside the model's domain: far "
        "from the data, with elements that hardly any labelled crystal holds, or beyond all known "
        "values. “Known?” says whether the data already contain this crystal.",
    )


def _status(row: dict[str, Any]) -> str:
    """Return in words whether a candidate is known."""
    if row.get("in_support") is True:
        return "one of the given labels"
    duplicate = row.get("duplicate_of")
    if isinstance(duplicate, str) and duplicate:
        return f"equals {duplicate}"
    strained = row.get("strained_copy_of")
    if isinstance(strained, str) and strained:
        return f"equals {strained} but for its volume"
    return "same composition" if row.get("known_composition") is True else NEW


def _filters(rows: pd.DataFrame, predicted: list[Predicted]) -> str:
    """Return the search field and the filters above the table."""
    flags = [("trust", "inside", "inside the model's domain"), ("known", NEW, NEW)]
    both: tuple[str, ...] = ("min", "max")
    numbers = [(item.name, item.title, item.columns[0], both) for item in predicted]
    if "probability" in rows:
        numbers.append(
            ("probability", "Chance to meet all windows (0 to 1)", "probability", ("min",))
        )
    if HULL in rows and rows[HULL].notna().any():
        flags.append(("stability", "|".join(STABLE), "below or near the hull, without gaps"))
        numbers.append((HULL, "Above the hull (eV/atom)", HULL, both))
    numbers.append(("distance", "Distance", "distance", ("max",)))
    boxes = "".join(
        f'<label><input type="checkbox" data-filter="equals" data-key="{key}" '
        f'value="{escape(value)}"> {escape(words)}</label>'
        for key, value, words in flags
    )
    fields = ""
    for key, title, column, kinds in numbers:
        values = rows[column].dropna()
        for kind in kinds:
            word = {"min": "at least", "max": "at most"}[kind]
            edge = values.min() if kind == "min" else values.max()
            hint = "" if values.empty else f' placeholder="{edge:.3g}"'
            fields += (
                f"<label><span>{escape(title)} {word}</span> "
                f'<input type="number" step="any" data-filter="{kind}" '
                f'data-key="{escape(key)}"{hint}></label>'
            )
    return (
        '<form class="filters" id="shortlist-filters" role="search" '
        'aria-label="Search and filter the candidates">'
        '<label class="search"><span>Search by formula or elements, such as '
        "<code>PbO3</code>, <code>Pb O</code>, <code>-Hg</code></span> "
        '<input type="search" data-filter="text" data-key="formula" autocomplete="off" '
        'spellcheck="false"></label>'
        f'<div class="flags">{boxes}</div>'
        f'<details><summary>Filter by number</summary><div class="fields">{fields}</div></details>'
        '<p class="note"><output id="shortlist-count" aria-live="polite">'
        f"{count(len(rows))} of {count(len(rows))} candidates shown.</output> "
        '<button type="reset">Clear all filters</button></p></form>'
    )


def _crystals(results: Results, rows: pd.DataFrame, most: int) -> dict[int, tuple[str, str]]:
    """Return file name and CIF of the first candidates that have one, by rank."""
    named = rows["cif"] if "cif" in rows else pd.Series("", index=rows.index)
    crystals: dict[int, tuple[str, str]] = {}
    for file, rank in zip(named, rows["rank"], strict=True):
        if len(crystals) == most:
            break
        if not isinstance(file, str) or not file:
            continue
        text = results.text(f"screening/candidates/{file}")
        if text is not None:
            crystals[int(rank)] = (file, text)
    return crystals


def _records(text: str) -> list[str]:
    """Return the records of a CSV as text; a quoted cell may hold a line break."""
    lines, start, found = text.rstrip("\n").split("\n"), 0, []
    reader = csv.reader(line + "\n" for line in lines)
    for _ in reader:
        found.append("\n".join(lines[start : reader.line_num]))
        start = reader.line_num
    return found


def _downloads(
    rows: pd.DataFrame, shown: pd.DataFrame, crystals: dict[int, tuple[str, str]], most: int
) -> str:
    """Return links to the list and its crystals, which the page itself holds."""
    links = [
        '<button type="button" class="button" data-save-csv="shown">Save the rows shown (CSV)'
        "</button>",
        '<button type="button" class="button" data-save-csv="all">'
        f"Save all {count(len(shown))} rows (CSV)</button>",
    ]
    if crystals:
        links.append(
            download(
                "candidates-cif.zip",
                "application/zip",
                _zipped(crystals),
                f"Save {len(crystals)} crystals (CIF, one zip)",
            )
        )
    elif most:
        links.append(missing("No candidate's crystal was kept to be looked at."))
    rest = len(rows) - len(shown)
    note = (
        f'<p class="note">{count(rest)} more candidates are in screening/shortlist.csv.</p>'
        if rest
        else ""
    )
    head, *lines = _records(csv_text(shown))
    held = {"head": head, "rows": dict(zip(shown["rank"].astype(int), lines, strict=True))}
    return (
        f'<p class="downloads">{" ".join(links)}</p>{note}'
        f'<script type="application/json" id="shortlist-data">{script_json(held)}</script>'
    )


def _zipped(crystals: dict[int, tuple[str, str]]) -> bytes:
    """Return a zip archive of CIF files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in crystals.values():
            archive.writestr(zipfile.ZipInfo(file, ZIP_DATE), text, zipfile.ZIP_DEFLATED)
    return written.getvalue()


def _dialog(
    rows: pd.DataFrame,
    predicted: list[Predicted],
    crystals: dict[int, tuple[str, str]],
    explained: dict[int, dict[str, Any]],
    summary: dict[str, Any],
) -> str:
    """Return the window that a row opens, with one template a candidate."""
    templates = "".join(
        candidate_template(row, predicted, explained.get(int(row["rank"])), summary)
        for row in rows.to_dict("records")
    )
    held = [
        {"rank": rank, "file": file, "cif": text, **bonds_of(text)}
        for rank, (file, text) in crystals.items()
    ]
    viewer = (
        '<div class="viewer"><div id="crystal" tabindex="0" role="application" '
        'aria-label="Crystal structure. Arrow keys turn it, plus and minus zoom." '
        'aria-describedby="crystal-words"></div>'
        '<p class="note" id="crystal-words">Drag or use the arrow keys to turn; scroll, pinch, + '
        "or − to zoom. Two unit cells along each direction. <span id='elements'></span></p>"
        '<p class="note" id="drawn-parts"><label><input type="checkbox" id="draw-bonds" checked> '
        'bonds</label> <label><input type="checkbox" id="draw-polyhedra" checked> coordination '
        "polyhedra</label></p>"
        '<p class="note" id="no-crystal" hidden>The crystal of this candidate is not on the page: '
        "it is kept for the first ones only.</p></div>"
    )
    data = (
        f'<script type="application/json" id="crystal-data">{script_json(held)}</script>'
        if held
        else ""
    )
    return (
        '<dialog id="candidate" aria-labelledby="candidate-title"><div class="bar-top">'
        '<h2 id="candidate-title" tabindex="-1"></h2><div class="buttons">'
        '<button type="button" data-step="-1">Previous</button>'
        '<button type="button" data-step="1">Next</button>'
        '<button type="button" class="button" id="save-cif">Save CIF</button>'
        '<button type="button" id="close-candidate">Close</button></div></div>'
        f'<div class="halves">{viewer if held else ""}<div id="candidate-why"></div></div>'
        f'<div id="candidate-rest"></div></dialog>{templates}{data}'
    )
