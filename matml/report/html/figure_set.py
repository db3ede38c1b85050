"""Figures on the page: their places and data, menus that filter them, legends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matml.figures.figure import SYMBOLS, Figure, mark_of, style_of
from matml.figures.plotly import specification
from matml.report.html.markup import escape, script_json

# the shapes of `SYMBOLS` as letters, for legends in HTML
LETTERS = dict(zip(SYMBOLS, "●■◆▲✚✖★", strict=True))


@dataclass
class Figures:
    """The figures of a page: their data are gathered here and drawn by the page's script."""

    specs: list[dict[str, Any]] = field(default_factory=list)

    def add(self, figure: Figure) -> str:
        """Return a figure's place in the page, with what is said of it."""
        spec = specification(figure)
        self.specs.append(spec)
        name = f"figure-{len(self.specs)}"
        said = f"<b>{escape(figure.title)}</b>. {escape(figure.note)}".rstrip(". ")
        drawn = (
            f'<figure><div class="chart" id="{name}" style="height:{figure.height}px" role="img" '
            f'aria-label="{escape(figure.summary or f"{figure.title}: {figure.note}")}"></div>'
            f"<figcaption>{said}.</figcaption>"
            f'<script type="application/json" data-for="{name}">{script_json(spec)}</script>'
            "</figure>"
        )
        if figure.least_width:
            # reachable with the keyboard, since it may scroll
            drawn = (
                f'<div class="wide-figure" tabindex="0" role="group" '
                f'aria-label="{escape(figure.title)} (scrolls)">'
                f'<div style="min-width:{figure.least_width}px">{drawn}</div></div>'
            )
        return f'<div data-subject="{escape(figure.subject)}">{drawn}</div>'


@dataclass(frozen=True)
class Menu:
    """A drop-down menu above figures; `key` is one of the parts' choices, or `subject`."""

    key: str
    label: str
    options: Mapping[str, str]
    chosen: str = ""

    def markup(self, name: str) -> str:
        """Return the menu with its label."""
        options = "".join(
            f'<option value="{escape(value)}"{" selected" if value == self.chosen else ""}>'
            f"{escape(words)}</option>"
            for value, words in self.options.items()
        )
        return (
            f'<span><label for="{name}">{escape(self.label)}</label>'
            f'<select id="{name}" data-show="{escape(self.key)}">{options}</select></span>'
        )


def labels_menu(shots: Sequence[int], chosen: int, *, everything: bool = False) -> Menu:
    """Return the menu of the numbers of labels."""
    options = {"": "all"} if everything else {}
    options |= {str(k): str(k) for k in sorted(shots)}
    return Menu("shots", "Labels of the family", options, "" if everything else str(chosen))


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

    drawn: Sequence[Figure]
    menus: Sequence[Menu] = ()
    legend: Mapping[str, str] = field(default_factory=dict)
    wide: bool = False

    def markup(self, figures: Figures) -> str:
        """Return the figures with their menus and legend; nothing for no figures."""
        if not self.drawn:
            return ""
        first = len(figures.specs) + 1
        menus = "".join(
            menu.markup(f"menu-{first}-{menu.key}") for menu in self.menus if len(menu.options) > 1
        )
        parts = [f'<div class="menus">{menus}</div>'] if menus else []
        if self.legend:
            parts.append(_legend(self.legend))
        drawn = "".join(figures.add(figure) for figure in self.drawn)
        parts.append(f'<div class="grid{" wide" if self.wide else ""}">{drawn}</div>')
        return f'<div class="figure-set">{"".join(parts)}</div>'


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


def methods_legend(order: Sequence[str], entries: Mapping[str, str]) -> str:
    """Return the legend of methods, whose buttons show or hide their lines, drawn as these are.

    Parameters
    ----------
    order
        All methods; a method's place gives its colour.
    entries
        Methods that have a button, with their words.
    """
    items = []
    for method, words in entries.items():
        colour, _, dash = style_of(order.index(method))
        border = {"dash": "dashed", "dot": "dotted"}.get(dash, dash)
        items.append(
            f'<button type="button" data-method="{escape(method)}" '
            f'style="--colour:{colour};--dash:{border}"><i></i>{escape(words)}</button>'
        )
    return f'<div class="legend">{"".join(items)}</div>'
