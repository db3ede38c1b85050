"""What one command wrote into a folder: a steel's diagram, proposed experiments, adapted labels."""

import pandas as pd

from matml.figures.figure import Figure
from matml.kinetics.design.figure import Design, figure
from matml.kinetics.diagrams.steel import SteelDiagram, steel_figures
from matml.report.html.figure_set import Figures
from matml.report.html.markup import (
    Cell,
    bullets,
    escape,
    interval,
    number,
    number_cell,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import property_title, unit_text

FORMULAS = (
    "<p>From the composition alone, by published formulas, or pulled in by the points that are "
    "drawn. The bands say how far steels typically differ from the formulas.</p>"
)
PROPOSED = (
    "<p>Each experiment is the one expected to make predictions surest, given those before it. "
    "“Variance left” is the part of today’s variance that remains after it.</p>"
)
CONDITIONS = {
    "temperature_C": "temperature, °C",
    "time_s": "time, s",
    "fraction": "fraction",
    "heating_rate_K_per_s": "heating rate, K/s",
    "duration_s": "expected duration, s",
}


def folder_section(results: Results, figures: Figures) -> tuple[str, str]:
    """Return title and markup of the section of a folder that one command filled."""
    return {"diagram": _diagram, "design": _design, "adapted": _adapted}[results.place[:-1]](
        results, figures
    )


def diagram_figures(results: Results) -> list[Figure]:
    """Return TTT and CCT of the steel of `matml kinetics diagram`."""
    told = results.json("diagram/diagram.json")
    files = ("temperatures", "ttt", "cct", "measured")
    tables = [results.table(f"diagram/{name}.csv") for name in files]
    if told is None or any(found is None for found in tables):
        return []
    lines, ttt, cct, measured = (found for found in tables if found is not None)
    points = {str(name): own for name, own in measured.groupby("reaction", sort=False)}
    return steel_figures(SteelDiagram(lines, ttt, cct, points), told["name"])


def design_figures(results: Results) -> list[Figure]:
    """Return where `matml kinetics design` says to measure next."""
    told = results.json("design/design.json")
    files = ("design", "candidates", "observations")
    tables = [results.table(f"design/{name}.csv") for name in files]
    if told is None or any(found is None for found in tables):
        return []
    proposals, candidates, points = (found for found in tables if found is not None)
    return [figure(Design(proposals, candidates, points, told["kind"], told["alloy"]))]


def _diagram(results: Results, figures: Figures) -> tuple[str, str]:
    told = results.json("diagram/diagram.json")
    lines = results.table(
        "diagram/temperatures.csv", ("line", "low_90_C", "temperature_C", "high_90_C")
    )
    rows = [
        [
            text_cell(row["line"]),
            number_cell(row["temperature_C"]),
            Cell(interval(row["low_90_C"], row["high_90_C"]), None, "num interval"),
        ]
        for row in ([] if lines is None else lines.to_dict("records"))
    ]
    drawn = "".join(map(figures.add, diagram_figures(results)))
    shown = table(["temperature", "°C", "90 % interval"], rows)
    return f"Diagram of a {told['name']}", FORMULAS + shown + drawn


def _design(results: Results, figures: Figures) -> tuple[str, str]:
    told, proposals = results.json("design/design.json"), results.table("design/design.csv")
    proposals = pd.DataFrame() if proposals is None else proposals
    names = [name for name in CONDITIONS if name in proposals and proposals[name].notna().any()]
    rows = [
        [
            Cell(str(row["experiment"]), int(row["experiment"]), "num"),
            *(number_cell(row[name]) for name in names),
            Cell(f"{number(100 * row['variance_left'], 2)} %", None, "num"),
        ]
        for row in proposals.to_dict("records")
    ]
    shown = table(["experiment", *(CONDITIONS[name] for name in names), "variance left"], rows)
    drawn = "".join(map(figures.add, design_figures(results)))
    return f"What to measure next of {told['alloy']}", PROPOSED + shown + drawn


def _adapted(results: Results, figures: Figures) -> tuple[str, str]:
    card, support = results.json("adapted/card.json"), results.table("adapted/support.parquet")
    name, unit = card["property"], card["unit"]
    parts = [
        f"<p>Learned from {card['shots']} labels of {escape(property_title(name))}"
        f"{f' in {escape(unit)}' if unit else ''} by the method {escape(card['method'])}; "
        "the labels are those below.</p>"
    ]
    if found := card["finding"]:
        parts.append(
            "<p>Evidence of the labels: the model as learned "
            f"{number(found['as_learned'], 2)}, with its mean shifted "
            f"{number(found['shifted'], 2)}, the labels alone {number(found['alone'], 2)}.</p>"
        )
    if card["warnings"]:
        parts.append(bullets(card["warnings"]))
    support = pd.DataFrame(columns=["id", "formula", name]) if support is None else support
    rows = [
        [text_cell(row["id"]), text_cell(row["formula"]), number_cell(row[name])]
        for row in support.to_dict("records")
    ]
    parts.append(table(["crystal", "formula", f"label{unit_text(unit)}"], rows, tall=True))
    return f"Adapted to {property_title(name)}", "".join(parts)
