"""Maps of chemistry: families, or places of a prototype, by element, coloured by prediction."""

import re
from collections.abc import Sequence

import pandas as pd
from pymatgen.core import Element

from matml.report.figures.figure import (
    Drawing,
    FigureSet,
    Menu,
    labels_menu,
    rounded,
    show_only,
    subscripts,
)
from matml.report.figures.plotly import axis
from matml.report.html.markup import escape
from matml.report.html.wording import property_title, sentence, unit_text
from matml.report.sections.properties.parity import first_method, subject_menu
from matml.report.sections.properties.scores import Scores

SHOWN = {"prediction": "predicted", "truth": "calculated", "error": "absolute error"}
COLOURS = {"prediction": "Viridis", "truth": "Viridis", "error": "Cividis"}
EXAMPLES = 3


def elements_of(text: str) -> list[str]:
    """Return the distinct elements of a formula, in its order; what is no element is left out."""
    found = dict.fromkeys(re.findall(r"[A-Z][a-z]?", str(text)))
    return [symbol for symbol in found if Element.is_valid_symbol(symbol)]


def in_order(symbols: Sequence[str]) -> list[str]:
    """Return distinct elements by atomic number."""
    return sorted(set(symbols), key=lambda symbol: Element(symbol).Z)


def by_element(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the mean of `columns` for each group and element, with the number of crystals.

    Parameters
    ----------
    rows
        Columns group, formula and `columns`; a crystal counts for each of its elements.

    Returns
    -------
    table
        group, element, n, `columns`, examples (formulas, those of the largest first column first).
    """
    spread = rows.assign(element=[elements_of(text) for text in rows["formula"]])
    spread = spread.explode("element").dropna(subset="element")
    return _cells(spread, columns)


def _cells(spread: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the same from a table that has a row for each element of each crystal."""
    leading = columns[0]
    grouped = spread.sort_values(leading, ascending=False).groupby(["group", "element"], sort=False)
    table = grouped[list(columns)].mean()
    table["n"] = grouped.size()
    table["lowest"], table["highest"] = grouped[leading].min(), grouped[leading].max()
    table["examples"] = grouped["formula"].agg(
        lambda own: ", ".join(subscripts(text) for text in list(own)[:EXAMPLES])
    )
    return table.reset_index()


def map_note() -> str:
    """Return what the maps show, as markup."""
    return (
        '<p class="note">A cell is the mean over the crystals of a family that hold an element; '
        "the elements stand by atomic number. Where nothing is drawn, the test has no crystal of "
        "the family with that element.</p>"
    )


def family_map_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a map a property, of unseen families by element."""
    drawings = family_maps(rows, scores)
    menus = (
        labels_menu([int(k) for k in rows["shots"].unique()], widest_shots(rows)),
        Menu("shown", "Colour", SHOWN, "prediction"),
        _one(subject_menu(drawings)),
    )
    return FigureSet(drawings, menus, wide=True)


def _one(menu: Menu) -> Menu:
    """Return a menu without its entry for all."""
    options = {value: words for value, words in menu.options.items() if value}
    return Menu(menu.key, menu.label, options, next(iter(options), ""))


def widest_shots(rows: pd.DataFrame) -> int:
    """Return the largest number of labels that still all families allow, to be shown first."""
    families = rows.groupby("shots")["family"].nunique()
    return int(families.index[families == families.max()].max())


def family_maps(rows: pd.DataFrame, scores: Scores) -> list[Drawing]:
    """Return for each property the map of the chosen method's predictions."""
    drawings = []
    chosen = {"shots": str(widest_shots(rows)), "shown": "prediction"}
    for name in scores.properties:
        own = rows[rows["property"] == name]
        if own.empty:
            continue
        own = own[own["method"] == first_method(scores, own, name)]
        own = own.assign(group=own["family_title"], error=(own["prediction"] - own["truth"]).abs())
        tables = {
            int(k): by_element(part, list(SHOWN)) for k, part in own.groupby("shots", sort=True)
        }
        if all(table.empty for table in tables.values()):
            continue
        title = property_title(name)
        unit = unit_text(own["unit"].iloc[0] if "unit" in own else "")
        groups = list(dict.fromkeys(own.sort_values("family_title")["family_title"]))
        elements = in_order([e for table in tables.values() for e in table["element"]])
        data = []
        for shots, table in tables.items():
            for shown, words in SHOWN.items():
                trace = _heat(table, shown, f"{words}{unit}")
                trace["meta"] = {"shots": shots, "shown": shown}
                data.append(trace)
        show_only(data, chosen)
        drawings.append(
            Drawing(
                f"map-{name}",
                {"data": data, "layout": _layout(elements, groups)},
                f"<b>{escape(sentence(title))}</b> of {len(groups)} unseen families by element.",
                f"{sentence(title)}: map of {len(groups)} unseen families by {len(elements)} "
                f"elements. {_extremes(tables[int(chosen['shots'])], unit)}",
                height=130 + 24 * len(groups),
                subject=name,
                least_width=260 + 11 * len(elements),
            )
        )
    return drawings


def _extremes(table: pd.DataFrame, unit: str) -> str:
    """Return in words where the largest and the smallest mean prediction is."""
    if table.empty:
        return ""
    high, low = (table.loc[pick] for pick in _ends(table["prediction"]))
    plain = unit.strip(" ()")
    return (
        f"The mean prediction is highest for {high['group']} with {high['element']} "
        f"({high['prediction']:.3g} {plain}".rstrip()
        + f") and lowest for {low['group']} with {low['element']} "
        + f"({low['prediction']:.3g} {plain}".rstrip()
        + ")."
    )


def _ends(values: pd.Series) -> tuple:
    return values.idxmax(), values.idxmin()


def _heat(
    table: pd.DataFrame,
    column: str,
    title: str,
) -> dict:
    """Return coloured cells of one number; where there is no crystal there is no cell."""
    rows = table.to_dict("records")
    told = []
    for row in rows:
        parts = [f"{words} {row[key]:.4g}" for key, words in SHOWN.items() if key in row]
        told.append(
            [
                int(row["n"]),
                ", ".join(parts),
                f"{row['lowest']:.4g} to {row['highest']:.4g}",
                row["examples"],
            ]
        )
    return {
        "type": "heatmap",
        "x": [row["element"] for row in rows],
        "y": [escape(row["group"]) for row in rows],
        "z": rounded([row[column] for row in rows]),
        "customdata": told,
        "colorscale": COLOURS[column],
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "colorbar": {"title": {"text": escape(title), "side": "right"}, "thickness": 12},
        "hovertemplate": "<b>%{x}</b> in %{y}<br>mean %{customdata[1]}<br>predictions from "
        "%{customdata[2]}<br>crystals: %{customdata[0]}, such as %{customdata[3]}<extra></extra>",
    }


def _short(text: str, most: int = 26) -> str:
    """Return text that leaves room for the map on a phone, escaped for plotly."""
    return escape(text if len(text) <= most else text[: most - 1].rstrip() + "…")


def _layout(elements: Sequence[str], groups: Sequence[str]) -> dict:
    return {
        "xaxis": axis(
            "element",
            type="category",
            categoryorder="array",
            categoryarray=list(elements),
            range=[-0.5, len(elements) - 0.5],
            tickangle=0 if len(elements) < 35 else -90,
            tickmode="array",
            tickvals=list(elements),
            tickfont={"size": 10 if len(elements) < 50 else 8.5},
            showgrid=False,
        ),
        "yaxis": axis(
            "",
            type="category",
            categoryorder="array",
            categoryarray=[escape(group) for group in groups],
            range=[len(groups) - 0.5, -0.5],
            showgrid=False,
            tickmode="array",
            tickvals=[escape(group) for group in groups],
            ticktext=[_short(group) for group in groups],
        ),
        "showlegend": False,
        "uirevision": "kept",
    }


def candidate_maps(rows: pd.DataFrame, names: Sequence[tuple[str, str, str]]) -> list[Drawing]:
    """Return maps of the candidates: of the places of a prototype, or of families, by element.

    Parameters
    ----------
    names
        Of the predicted properties: name, unit, column of `rows`.
    """
    spread, what = _places(rows)
    if spread.empty:
        return []
    groups = list(dict.fromkeys(spread["group"]))
    elements = in_order(spread["element"])
    drawings = []
    for name, unit, column in names:
        own = spread.assign(prediction=spread[column]).dropna(subset="prediction")
        if own.empty:
            continue
        table = _cells(own, ["prediction"])
        title = property_title(name)
        trace = _heat(table, "prediction", f"mean predicted{unit_text(unit)}")
        drawings.append(
            Drawing(
                f"candidates-map-{name}",
                {"data": [trace], "layout": _layout(elements, groups)},
                f"<b>{escape(sentence(title))}</b> of the candidates, mean over those with an "
                f"element {escape(what)}; empty where there is no such candidate.",
                f"{sentence(title)}: map of the candidates by {len(elements)} elements. "
                f"{_extremes(table, unit_text(unit))}",
                height=150 + 34 * len(groups),
                subject=name,
                least_width=260 + 11 * len(elements),
            )
        )
    return drawings


def _places(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a row for each candidate and element with its group, and what the groups are."""
    sites = [column for column in rows if re.fullmatch(r"site_[A-Z]", column)]
    families = rows["common_name"] if "common_name" in rows else pd.Series("", rows.index)
    families = families.fillna("").where(families.fillna("") != "", rows.get("family", ""))
    if sites and len(set(families)) <= 1:
        parts = [
            rows.assign(
                group=f"site {column[-1]}",
                element=[elements_of(text) for text in rows[column].fillna("")],
            )
            for column in sites
        ]
        spread, what = pd.concat(parts), "on a site"
    else:
        group = families.replace("", "candidates")
        found = [elements_of(text) for text in rows["formula"]]
        spread, what = rows.assign(group=group, element=found), "in a family"
    return spread.explode("element").dropna(subset="element").reset_index(drop=True), what
