"""The page's parts: what stands where, and tables and lists as HTML."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from dash import dcc, html

from matml.app.question import AUTO, TYPICAL, typical
from matml.app.record import RANGES
from matml.core.files import csv_text
from matml.kinetics.listing import population_cards

EXAMPLE = """temperature_C,time_h,hardness_HRC
500,1,41
550,2,35
600,8,27"""
MOST_EDITED = 60
"""Points that are shown one by one, to be changed."""
HINTS = {
    "parent": "where all is parent phase, as 700 750",
    "product": "where all has transformed",
    "peak": "feet of the peak, as 300 420",
    "hold": "start and end of the hold, times",
}


def layout() -> html.Div:
    """Return the page before anything is given."""
    return html.Div(
        [
            html.Header(
                [
                    html.H1("One alloy, from a handful of points"),
                    html.P(
                        "Paste points or drop a file. All is computed on this machine, and nothing "
                        "leaves it."
                    ),
                ]
            ),
            html.Main([_given(), _found()]),
            dcc.Store(id="asked"),
            dcc.Store(id="file"),
            dcc.Download(id="archive"),
        ]
    )


def _field(**properties: Any) -> dcc.Input:
    """Return a field that is read when it is left."""
    return dcc.Input(debounce=True, **properties)


def _given() -> html.Section:
    known = [
        {"label": f"{card['name']}: {card['title']}", "value": card["name"]}
        for card in population_cards()
    ]
    ranges = [
        {"label": f"typical ranges only: {title}", "value": f"{TYPICAL}{name}"}
        for name, title in typical().items()
    ]
    own = {"label": "choose by the points: all that fit, mixed by evidence", "value": AUTO}
    return html.Section(
        [
            html.H2("Points"),
            html.Label("Table with its header, from a spreadsheet or a CSV", htmlFor="text"),
            dcc.Textarea(id="text", placeholder=EXAMPLE, rows=7, spellCheck=False),
            dcc.Upload(
                html.Button("Open a CSV or an instrument's file, or drop it here"),
                id="upload",
                className="drop",
            ),
            html.Div(id="record"),
            html.P(id="read", role="status"),
            html.Div(id="grid"),
            html.H2("What is known before"),
            html.Label("Population", htmlFor="prior"),
            dcc.Dropdown([own, *known, *ranges], AUTO, id="prior", clearable=False),
            html.Label("Composition in %", htmlFor="composition"),
            _field(id="composition", placeholder="C 0.4, Mn 0.7"),
        ],
        className="given",
    )


def _found() -> html.Section:
    return html.Section(
        [
            html.P(id="said", role="alert"),
            html.Div(id="figures"),
            html.Div(id="parameters"),
            html.Div(id="notes"),
            html.Div(id="next"),
            html.Div(
                [
                    html.H2("Keep it"),
                    html.Button("Save figures, tables, JSON and commands (ZIP)", id="save"),
                    html.Pre(id="commands"),
                ],
                id="keep",
                hidden=True,
            ),
        ],
        className="found",
    )


def figures(
    drawn: Iterable[tuple[str, dict[str, Any]]], said: str = ": median and 90 % band"
) -> list[Any]:
    """Return figures from titles and plotly specifications; `said` is added to the titles."""
    found: list[Any] = []
    for title, figure in drawn:
        figure["layout"] |= {
            "margin": {"l": 60, "r": 16, "t": 12, "b": 48},
            "font": {"family": "system-ui, sans-serif", "size": 13},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
        }
        shown = dcc.Graph(figure=figure, config={"displaylogo": False})
        found.append(html.Figure([html.Figcaption(f"{title}{said}"), shown]))
    return found


def titled(title: str, table: pd.DataFrame) -> list[Any]:
    """Return a table below its title; nothing for one without rows."""
    if table.empty:
        return []
    head = html.Thead(html.Tr([html.Th(name, scope="col") for name in table.columns]))
    rows = [html.Tr([html.Td(cell) for cell in row]) for row in table.to_numpy()]
    return [html.H2(title), html.Table([head, html.Tbody(rows)])]


def listed(title: str, notes: Sequence[str]) -> list[Any]:
    """Return notes below their title; nothing where there is none."""
    return [html.H2(title), html.Ul([html.Li(note) for note in notes])] if notes else []


def grid(table: pd.DataFrame) -> Any:
    """Return the points as fields that can be changed, with room for a doubt beside each."""
    head = html.Tr([*[html.Th(name, scope="col") for name in table.columns], html.Th("doubt")])
    rows = []
    for row in range(len(table)):
        cells = []
        for column, name in enumerate(table.columns):
            place = {"type": "cell", "row": row, "column": column}
            field = _field(id=place, value=table[name].iloc[row])
            told = html.Span(f"{name}, point {row + 1}", className="unseen")
            cells.append(html.Td(html.Label([told, field])))
        doubt = html.Td(id={"type": "doubt", "line": row + 2}, className="doubt")
        rows.append(html.Tr([*cells, doubt]))
    return html.Table([html.Thead(head), html.Tbody(rows)], className="points")


def text_of_cells(columns: Sequence[str], cells: Sequence[Any]) -> str:
    """Return the CSV of the fields, row by row."""
    wide = len(columns)
    rows = [cells[start : start + wide] for start in range(0, len(cells), wide)]
    return csv_text(pd.DataFrame(rows, columns=list(columns)))


def record(name: str, told: Mapping[str, Any]) -> list[Any]:
    """Return how an instrument's file is understood, and the fields that its conversion takes."""
    only = next(iter(told["segments"])) if len(told["segments"]) == 1 else ""
    fields: list[Any] = []
    for wanted in RANGES[told["role"]]:
        place = {"type": "range", "name": wanted}
        fields.append(html.Label([f"{wanted}: {HINTS[wanted]}", _field(id=place)]))
    return [
        html.H3(name),
        html.Pre("\n".join(told["lines"])),
        *figures([("What was recorded", told["figure"])], ""),
        html.P("Segment", className="label"),
        dcc.RadioItems({"": "the only one that fits", **told["segments"]}, only, id="segment"),
        *fields,
        html.Button("Make points of it", id="convert"),
    ]
