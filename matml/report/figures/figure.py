"""A figure as a plain object, so that page, static files and tests draw the same numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from matml.report.figures.plotly import CYCLE, SYMBOLS
from matml.report.html.markup import Figures, escape

DIGITS = 5
"""Significant digits of drawn numbers: more than a screen shows, and half the bytes."""

# the shapes of `SYMBOLS` as letters, for legends in HTML
LETTERS = dict(zip(SYMBOLS, "●■◆▲✚✖★", strict=True))


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes
    ----------
    name
        Of its static files, without ending.
    spec
        A plotly figure (`data`, `layout`). A trace with a `meta` of keys and values is drawn where
        the chosen value of each key is its own, or among its own; one without is always drawn.
    caption
        Markup below it.
    summary
        What is to be seen, in plain words, for those who do not see it.
    subject
        What it is of, for a menu that picks one of several figures.
    panels
        Key of `meta` whose values stand side by side in the static file.
    least_width
        In px, below which the figure scrolls sideways instead of shrinking; 0 for none.
    """

    name: str
    spec: dict[str, Any]
    caption: str
    summary: str
    height: int = 340
    subject: str = ""
    panels: str = ""
    least_width: int = 0

    def markup(self, figures: Figures) -> str:
        """Return the figure's place in the page."""
        drawn = figures.add(self.spec, self.caption, self.height, summary=self.summary)
        if self.least_width:
            # reachable with the keyboard, since it may scroll
            drawn = (
                f'<div class="wide-figure" tabindex="0" role="group" '
                f'aria-label="{escape(self.name)} (scrolls)">'
                f'<div style="min-width:{self.least_width}px">{drawn}</div></div>'
            )
        return f'<div data-subject="{escape(self.subject)}">{drawn}</div>'


@dataclass(frozen=True)
class Menu:
    """A drop-down menu above figures; `key` is one of `meta`, or `subject`."""

    key: str
    label: str
    options: Mapping[str, str]
    chosen: str = ""


@dataclass(frozen=True)
class FigureSet:
    """Figures with the menus that filter them, and a legend whose entries can be put out.

    Attributes
    ----------
    legend
        Value of the key `family` to its words, in the order of the styles.
    wide
        Whether a figure takes the page's whole width.
    """

    drawings: Sequence[Drawing]
    menus: Sequence[Menu] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False

    def markup(self, figures: Figures) -> str:
        """Return the figures with their menus and legend; nothing for no figures."""
        if not self.drawings:
            return ""
        menus = "".join(
            _menu(menu, f"menu-{len(figures.specs) + 1}-{menu.key}")
            for menu in self.menus
            if len(menu.options) > 1
        )
        parts = [f'<div class="menus">{menus}</div>'] if menus else []
        if self.legend:
            parts.append(_legend(self.legend))
        drawn = "".join(item.markup(figures) for item in self.drawings)
        wide = " wide" if self.wide else ""
        parts.append(f'<div class="grid{wide}">{drawn}</div>')
        return f'<div class="figure-set">{"".join(parts)}</div>'


def _menu(menu: Menu, name: str) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == menu.chosen else ""}>'
        f"{escape(words)}</option>"
        for value, words in menu.options.items()
    )
    return (
        f'<span><label for="{name}">{escape(menu.label)}</label>'
        f'<select id="{name}" data-show="{escape(menu.key)}">{options}</select></span>'
    )


def _legend(entries: Mapping[str, str]) -> str:
    items = []
    for position, (value, words) in enumerate(entries.items()):
        colour, symbol = mark_of(position)
        items.append(
            f'<button type="button" aria-pressed="true" data-hide="{escape(value)}">'
            f'<span aria-hidden="true" style="color:{colour}">{LETTERS[symbol]}</span>'
            f"{escape(words)}</button>"
        )
    return f'<div class="families" role="group" aria-label="Families">{"".join(items)}</div>'


def mark_of(position: int) -> tuple[str, str]:
    """Return colour and marker of the group at a position; 49 differ."""
    place, turn = position % len(CYCLE), position // len(CYCLE)
    return CYCLE[place], SYMBOLS[(place + turn) % len(SYMBOLS)]


def show_only(traces: Sequence[dict[str, Any]], chosen: Mapping[str, str]) -> None:
    """Set which traces are seen at first: those whose `meta` does not contradict the choice."""
    for trace in traces:
        trace["visible"] = matches(trace, chosen)


def matches(trace: Mapping[str, Any], chosen: Mapping[str, str]) -> bool:
    """Return whether no key of a trace's `meta` differs from the chosen value ('' for any)."""
    for key, value in chosen.items():
        own = trace.get("meta", {}).get(key, value)
        if value and value not in [str(one) for one in (own if isinstance(own, list) else [own])]:
            return False
    return True


def rounded(values: Any, digits: int = DIGITS) -> list[float | None]:
    """Return plain floats of so many significant digits; what is not finite becomes None."""
    return [
        float(f"{value:.{digits}g}") if np.isfinite(value) else None
        for value in np.asarray(values, dtype=float)
    ]


def labels_menu(shots: Sequence[int], chosen: int, *, everything: bool = False) -> Menu:
    """Return the menu of the numbers of labels."""
    options = {"": "all"} if everything else {}
    options |= {str(k): str(k) for k in sorted(shots)}
    return Menu("shots", "Labels of the family", options, "" if everything else str(chosen))


SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
PLAIN_DIGITS = {ord(low): digit for low, digit in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)}


def subscripts(text: object) -> str:
    """Return a formula with low digits, escaped, for a hover: shorter than markup."""
    return escape(text).translate(SUBSCRIPTS) if "&" not in escape(text) else escape(text)
