"""Maps of chemistry: families, or places of a prototype, by element, coloured by prediction."""

import re
from collections.abc import Sequence
from types import MappingProxyType

import pandas as pd
from pymatgen.core import Element

from matml.core.text.words import number_text
from matml.figures.figure import Axis, Cells, Choice, Figure, Hover, subscripts
from matml.report.html.figure_set import FigureSet, Menu, labels_menu
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
        lambda own: ", ".join(map(str, list(own)[:EXAMPLES]))
    )
    return table.reset_index()


def map_note() -> str:
    """Return what the maps show, as markup."""
    return (
        '<p class="note">A cell is the mean over the crystals of a family that contain an '
        "element; elements are ordered by atomic number. A cell is empty where the test has no "
        "crystal of that family with that element.</p>"
    )


def family_map_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a map a property, of unseen families by element."""
    figures = family_maps(rows, scores)
    menus = (
        labels_menu([int(k) for k in rows["shots"].unique()], widest_shots(rows)),
        Menu("shown", "Colour", SHOWN, "prediction"),
        _one(subject_menu(figures)),
    )
    return FigureSet(figures, menus, wide=True)


def _one(menu: Menu) -> Menu:
    """Return a menu without its entry for all."""
    options = {value: words for value, words in menu.options.items() if value}
    return Menu(menu.key, menu.label, options, next(iter(options), ""))


def widest_shots(rows: pd.DataFrame) -> int:
    """Return the largest number of labels that still all families allow, to be shown first."""
    families = rows.groupby("shots")["family"].nunique()
    return int(families.index[families == families.max()].max())


def family_maps(rows: pd.DataFrame, scores: Scores) -> list[Figure]:
    """Return for each property the map of the chosen method's predictions."""
    figures = []
    widest = widest_shots(rows)
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
        title = sentence(property_title(name))
        unit = unit_text(own["unit"].iloc[0] if "unit" in own else "")
        groups = list(dict.fromkeys(own.sort_values("family_title")["family_title"]))
        elements = in_order([e for table in tables.values() for e in table["element"]])
        parts = [
            _cells_of(table, shown, f"{words}{unit}", {"shots": shots, "shown": shown})
            for shots, table in tables.items()
            for shown, words in SHOWN.items()
        ]
        figures.append(
            Figure(
                f"map-{name}",
                f"{title} of {len(groups)} unseen families by element",
                Axis("element", categories=elements),
                Axis(categories=groups),
                parts,
                "Mean over the crystals of a family that contain an element.",
                f"{title}: map of {len(groups)} unseen families by {len(elements)} elements. "
                f"{_extremes(tables[widest], unit)}",
                height=130 + 24 * len(groups),
                subject=name,
                chosen={"shots": widest, "shown": "prediction"},
                least_width=260 + 11 * len(elements),
            )
        )
    return figures


def _extremes(table: pd.DataFrame, unit: str) -> str:
    """Return in words where the largest and the smallest mean prediction is."""
    if table.empty:
        return ""
    high, low = (table.loc[pick] for pick in _ends(table["prediction"]))
    plain = unit.strip(" ()")
    return (
        f"The mean prediction is highest for {high['group']} with {high['element']} "
        f"({number_text(high['prediction'])} {plain}".rstrip()
        + f") and lowest for {low['group']} with {low['element']} "
        + f"({number_text(low['prediction'])} {plain}".rstrip()
        + ")."
    )


def _ends(values: pd.Series) -> tuple:
    return values.idxmax(), values.idxmin()


def _cells_of(
    table: pd.DataFrame, column: str, title: str, choice: Choice = MappingProxyType({})
) -> Cells:
    """Return coloured cells of one number; where there is no crystal there is no cell."""
    rows = table.to_dict("records")
    means = [
        ", ".join(
            f"{words} {number_text(row[key], 4)}" for key, words in SHOWN.items() if key in row
        )
        for row in rows
    ]
    told = [
        (
            int(row["n"]),
            mean,
            f"{number_text(row['lowest'], 4)} to {number_text(row['highest'], 4)}",
            row["examples"],
        )
        for row, mean in zip(rows, means, strict=True)
    ]
    return Cells(
        [row["element"] for row in rows],
        [row["group"] for row in rows],
        table[column],
        title,
        COLOURS[column],
        {"crystals": [row[0] for row in told], "about": [row["examples"] for row in rows]},
        Hover(
            "<b>%{x}</b> in %{y}<br>mean %{customdata[1]}<br>predictions from "
            "%{customdata[2]}<br>crystals: %{customdata[0]}, such as %{customdata[3]}"
            "<extra></extra>",
            [(n, mean, span, escape(subscripts(text))) for n, mean, span, text in told],
        ),
        choice,
    )


def families_of(rows: pd.DataFrame) -> pd.Series:
    """Return the name of each candidate's family, "" where there is none."""
    names = rows["common_name"] if "common_name" in rows else pd.Series("", rows.index)
    return names.fillna("").where(names.fillna("") != "", rows.get("family", "")).fillna("")


def candidates_words(rows: pd.DataFrame) -> str:
    """Return what candidates are called in a title: by their family, if they are of one."""
    names = set(families_of(rows))
    return f"{names.pop()} candidates" if len(names) == 1 and names != {""} else "candidates"


def candidate_maps(
    rows: pd.DataFrame, names: Sequence[tuple[str, str, str]], after: str = ""
) -> list[Figure]:
    """Return maps of the candidates: of the places of a prototype, or of families, by element.

    Parameters
    ----------
    names
        Of the predicted properties: name, unit, column of `rows`.
    after
        From how many labels they were predicted, a sentence.
    """
    spread, what = _places(rows)
    if spread.empty:
        return []
    groups = list(dict.fromkeys(spread["group"]))
    elements = in_order(spread["element"])
    figures = []
    for name, unit, column in names:
        own = spread.assign(prediction=spread[column]).dropna(subset="prediction")
        if own.empty:
            continue
        table = _cells(own, ["prediction"])
        title = sentence(property_title(name))
        figures.append(
            Figure(
                f"candidates-map-{name}",
                f"{title} of the {candidates_words(rows)} by element",
                Axis("element", categories=elements),
                Axis(categories=groups),
                [_cells_of(table, "prediction", f"mean predicted{unit_text(unit)}")],
                f"Mean over the candidates with an element {what}; empty where there is no such "
                f"candidate. {after}".rstrip(),
                f"{title}: map of the candidates by {len(elements)} elements. "
                f"{_extremes(table, unit_text(unit))}",
                height=150 + 34 * len(groups),
                subject=name,
                least_width=260 + 11 * len(elements),
            )
        )
    return figures


def _places(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return a row for each candidate and element with its group, and what the groups are."""
    sites = [column for column in rows if re.fullmatch(r"site_[A-Z]", column)]
    families = families_of(rows)
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
