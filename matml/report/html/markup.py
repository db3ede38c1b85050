"""Small pieces of HTML: escaped text, numbers, tables, figures. No piece loads anything."""

import base64
import html
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matml.core.text.words import number_text


def escape(value: object) -> str:
    """Return text with the characters that mean something in HTML escaped."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number for people: `digits` significant ones, thousands separated, a true minus."""
    return number_text(value, digits, "×10<sup>{}</sup>")


def chance(probability: float) -> str:
    """Return a probability in percent; the tail of a normal distribution says no more than that."""
    return "&lt; 0.1 %" if probability < 1e-3 else f"{number(100 * probability, 2)} %"


def preformatted(text: str, name: str) -> str:
    """Return text as it is; reachable with the keyboard, since it may scroll."""
    return f'<pre tabindex="0" role="region" aria-label="{escape(name)}">{escape(text)}</pre>'


def count(value: float) -> str:
    """Return a whole number with thousands separated."""
    return f"{int(value):,}"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Return `[low, high]`, or nothing where there is no interval."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{number(low, digits)}, {number(high, digits)}]"


MINUS = re.compile(r"(?<![\w.)])-(?=\.?\d)")


def bullets(sentences: Iterable[str], kind: str = "findings") -> str:
    """Return sentences as a list, with true minus signs; '' where there is none."""
    items = "".join(f"<li>{MINUS.sub('−', escape(sentence))}</li>" for sentence in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""


def formula(text: str) -> str:
    """Return a chemical formula with its numbers as subscripts."""
    parts, digits = [], ""
    for letter in f"{text}\0":
        if letter.isdigit() or (letter == "." and digits):
            digits += letter
            continue
        if digits:
            parts.append(f"<sub>{digits}</sub>")
            digits = ""
        parts.append(escape(letter))
    return "".join(parts)[: -len(escape("\0"))]


WIDE = 3
"""Columns that a phone shows side by side."""


@dataclass
class Cell:
    """A table cell: markup to show, and the value that sorting (and a test) looks at."""

    shown: str
    value: float | str | None = None
    kind: str = ""

    def markup(self, title: str = "") -> str:
        """Return the cell's HTML; `title`, of its column, is shown where the table is stacked."""
        missing = self.value is None or (isinstance(self.value, float) and math.isnan(self.value))
        data = "" if missing else f' data-value="{escape(self.value)}"'
        kind = f' class="{self.kind}"' if self.kind else ""
        said = f' data-title="{escape(title)}"' if title else ""
        return f"<td{kind}{data}{said}>{self.shown}</td>"


def number_cell(value: float | None, digits: int = 3, kind: str = "") -> Cell:
    """Return a right-aligned cell with a number."""
    return Cell(number(value, digits), value, f"num {kind}".strip())


def count_cell(value: float) -> Cell:
    """Return a right-aligned cell with a whole number."""
    return Cell(count(value), int(value), "num")


def text_cell(value: object, kind: str = "") -> Cell:
    """Return a cell with escaped text."""
    return Cell(escape(value), str(value), kind)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    sortable: bool = False,
    tall: bool = False,
    note: str = "",
    caption: str = "",
    keys: Sequence[str] = (),
    sorted_by: int | None = None,
    name: str = "",
) -> str:
    """Return a table; on narrow screens it is stacked, or scrolls sideways where it sorts.

    Parameters
    ----------
    head
        Markup of the column titles.
    tall
        Whether a long table scrolls within its own frame.
    note
        Markup below the table.
    caption
        Plain text that screen readers announce; by default the column titles.
    keys
        Names of the columns for the page's script.
    sorted_by
        Column that the rows are given in the ascending order of.
    """
    rows = list(rows)
    columns = ""
    for position, title in enumerate(head):
        numeric = bool(rows) and "num" in rows[0][position].kind.split()
        more = ' class="num"' if numeric else ""
        if keys:
            more += f' data-key="{escape(keys[position])}"'
        if position == sorted_by:
            more += ' aria-sort="ascending"'
        shown = f'<button type="button">{title}</button>' if sortable else title
        columns += f'<th scope="col"{more}>{shown}</th>'
    # on a phone each row of a wide table is a list of its own, titles beside values
    stacks = len(head) > WIDE
    titles = [bare(title) if stacks else "" for title in head]
    body = "".join(
        "<tr>"
        + "".join(cell.markup(title) for cell, title in zip(row, titles, strict=True))
        + "</tr>"
        for row in rows
    )
    kind = (f' id="{name}"' if name else "") + (' class="sortable"' if sortable else "")
    told = escape(caption or bare(", ".join(head)))
    below = f'<p class="note">{note}</p>' if note else ""
    frame = "scroll" + (" tall" if tall else "") + (" stacks" if stacks else "")
    frame += " sorts" if stacks and sortable else ""
    return (
        f'<div class="{frame}"><table{kind}><caption class="hidden">{told}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>{below}"
    )


def details(summary: str, content: str) -> str:
    """Return a part that is folded until it is clicked."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def download(name: str, kind: str, content: bytes, words: str) -> str:
    """Return a link that saves a file which the page itself holds."""
    text = base64.b64encode(content).decode("ascii")
    return (
        f'<a class="button" download="{escape(name)}" href="data:{kind};base64,{text}">'
        f"{escape(words)}</a>"
    )


def missing(what: str) -> str:
    """Return the plain sentence for a part without result files."""
    return f'<p class="missing">{escape(what)}</p>'


def script_json(value: Any) -> str:
    """Return JSON that is safe inside a script element; NaN becomes null."""
    text = json.dumps(_plain(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    """Return the value with plain numbers and lists, rounded to what a screen can show."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def bare(markup: str) -> str:
    """Return markup without its tags."""
    text, inside = [], False
    for letter in markup:
        if letter in "<>":
            inside = letter == "<"
        elif not inside:
            text.append(letter)
    return html.unescape("".join(text))
