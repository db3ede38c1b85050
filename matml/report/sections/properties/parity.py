"""Predicted against calculated values of families that no stage of training has seen."""

import pandas as pd

from matml.figures.figure import (
    GREY,
    Axis,
    Figure,
    Hover,
    Note,
    Part,
    Series,
    mark_of,
    rounded,
    subscripts,
)
from matml.report.html.figure_set import FigureSet, Menu, labels_menu
from matml.report.html.markup import bare, count, escape, number
from matml.report.html.results import Results
from matml.report.html.wording import family_title, property_title, sentence, unit_text
from matml.report.sections.properties.scores import Scores

PREDICTIONS = "properties/evaluation/predictions.parquet"
COLUMNS = ("property", "method", "shots", "family", "common_name", "truth", "prediction")
USUAL_SHOTS = 10
MOST_POINTS = 800
"""Crystals drawn of one property, method and number of labels; the numbers told are of all."""
SHOWN_BARS = 0.02
"""Share of the bars that may end outside of what is drawn, at either end; how many is told."""
DIGITS = 5
"""Significant ones of an interval that a hover tells."""


def read_predictions(results: Results) -> pd.DataFrame | None:
    """Return single predictions of test families with a title of each family, or None."""
    rows = results.table(PREDICTIONS, COLUMNS)
    if rows is None or rows.empty:
        return None
    titles = [
        family_title(name, label)
        for name, label in zip(rows["common_name"], rows["family"], strict=True)
    ]
    # two families of one common name stay two
    labels = pd.Series(rows["family"].to_numpy(), titles)
    shared = {title for title, own in labels.groupby(level=0) if len(set(own)) > 1}
    titles = [
        f"{title} {label}" if title in shared else title
        for title, label in zip(titles, rows["family"], strict=True)
    ]
    identity = rows["id"] if "id" in rows else pd.Series("", rows.index)
    return rows.assign(
        family_title=titles,
        id=identity,
        formula=rows.get("formula", identity),
        low=rows["low"] if "low" in rows else float("nan"),
        high=rows["high"] if "high" in rows else float("nan"),
    )


def usual_shots(rows: pd.DataFrame) -> int:
    """Return the number of labels that is shown first: the one nearest to ten."""
    return min((int(k) for k in rows["shots"].unique()), key=lambda k: abs(k - USUAL_SHOTS))


def first_method(scores: Scores, rows: pd.DataFrame, name: str) -> str:
    """Return the method of a property that is shown first: the chosen one, if it was kept."""
    used, kept = scores.used(name), list(dict.fromkeys(rows["method"]))
    chosen = "" if used.empty else str(used["method"].iloc[0])
    return chosen if chosen in kept else kept[0]


def roles(own: pd.DataFrame, method: str) -> pd.Series:
    """Return `chosen` for the rows of a property's method, and the method's name for others.

    The chosen method may differ between properties; a menu of methods holds for all of them.
    """
    return own["method"].where(own["method"] != method, "chosen")


def method_menu(scores: Scores, rows: pd.DataFrame) -> Menu:
    """Return the menu of the methods whose single predictions were kept."""
    options = {"chosen": "the default"}
    for name in scores.properties:
        own = rows[rows["property"] == name]
        if own.empty:
            continue
        for role in roles(own, first_method(scores, own, name)).unique():
            if role != "chosen":
                options[role] = scores.titles.get(role, role)
    return Menu("method", "Method", options, "chosen")


def subject_menu(figures: list[Figure]) -> Menu:
    """Return the menu of properties that picks figures."""
    subjects = dict.fromkeys(item.subject for item in figures)
    options = {name: sentence(property_title(name)) for name in subjects}
    return Menu("subject", "Property", {"": "all"} | options)


def parity_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a parity plot a property, with menus of labels, property and method."""
    families = family_words(rows)
    figures = parity_figures(rows, scores)
    menus = (
        labels_menu([int(k) for k in rows["shots"].unique()], usual_shots(rows)),
        subject_menu(figures),
        method_menu(scores, rows),
    )
    return FigureSet(figures, menus, families)


def family_words(rows: pd.DataFrame) -> dict[str, str]:
    """Return label to title of the families, those with most crystals first."""
    sizes = rows.groupby("family")["id"].nunique().sort_values(ascending=False, kind="stable")
    titles = rows.groupby("family")["family_title"].first()
    return {str(family): str(titles[family]) for family in sizes.index}


def parity_figures(rows: pd.DataFrame, scores: Scores) -> list[Figure]:
    """Return one parity plot for each property that has predictions."""
    places = {family: mark_of(i) for i, family in enumerate(family_words(rows))}
    first = usual_shots(rows)
    figures = []
    for name in scores.properties:
        own = rows[rows["property"] == name]
        if own.empty:
            continue
        method = first_method(scores, own, name)
        own = own.assign(role=roles(own, method))
        unit = unit_text(own["unit"].iloc[0] if "unit" in own else "")
        title = property_title(name)
        ends = _ends(own)
        shown = own[(own["role"] == "chosen") & (own["shots"] == first)]
        told = ", ".join(agreement(shown, unit))
        figures.append(
            Figure(
                f"parity-{name}",
                f"{sentence(title)} of unseen families: predicted against calculated",
                Axis(f"calculated {title}{unit}", ends=ends),
                Axis(f"predicted {title}{unit}", ends=ends),
                _parts(own, unit, places, ends),
                f"Default: {scores.titles.get(method, method)}. Dashed: equality. Bars: 90 % "
                "interval.",
                f"{sentence(title)}, predicted against calculated: "
                f"{count(shown['id'].nunique())} crystals of {shown['family'].nunique()} unseen "
                f"families after {first} labels of each: {told}.",
                height=400,
                subject=name,
                chosen={"shots": first, "method": "chosen"},
                panels="shots",
            )
        )
    return figures


def _ends(own: pd.DataFrame) -> tuple[float, float]:
    """Return the range of both axes: all values, and all but the longest bars."""
    values = own[["truth", "prediction"]].to_numpy()
    low, high = own["low"].dropna(), own["high"].dropna()
    first = min(values.min(), low.quantile(SHOWN_BARS) if len(low) else values.min())
    last = max(values.max(), high.quantile(1 - SHOWN_BARS) if len(high) else values.max())
    margin = 0.04 * (last - first) or 1.0
    return float(first - margin), float(last + margin)


def agreement(rows: pd.DataFrame, unit: str) -> list[str]:
    """Return in words the mean absolute error, and the share of values inside their intervals."""
    if rows.empty:
        return ["no crystals"]
    error = (rows["prediction"] - rows["truth"]).abs().mean()
    told = [f"mean absolute error {bare(number(error))} {unit.strip(' ()')}".rstrip()]
    known = rows[rows["low"].notna() & rows["high"].notna()]
    if len(known):
        inside = ((known["truth"] >= known["low"]) & (known["truth"] <= known["high"])).mean()
        told.append(f"{100 * inside:.0f} % inside the 90 % interval")
    return told


def _parts(
    own: pd.DataFrame,
    unit: str,
    places: dict[str, tuple[str, str]],
    ends: tuple[float, float],
) -> list[Part]:
    """Return the plot of one property: points of each method, number of labels and family."""
    plain = unit.strip(" ()")
    suffix = f" {escape(plain)}" if plain else ""
    equality = Series(ends, ends, "", GREY, width=1, dash="dash", in_legend=False, in_table=False)
    parts: list[Part] = [equality]
    for (role, shots), group in own.groupby(["role", "shots"], sort=False):
        key = {"method": str(role), "shots": int(shots)}
        crystals = f"{_drawn(len(group))} crystals, all families"
        outside = int(((group["low"] < ends[0]) | (group["high"] > ends[1])).sum())
        if outside:
            crystals += f"; {outside} bar{'s' * (outside > 1)} cut off"
        parts.append(Note([*agreement(group, unit), crystals], key))
        if len(group) > MOST_POINTS:
            group = group.sample(MOST_POINTS, random_state=0)
        for family, part in group.groupby("family", sort=False):
            colour, symbol = places[str(family)]
            title = str(part["family_title"].iloc[0])
            told = zip(
                (escape(subscripts(text)) for text in part["formula"]),
                (escape(identity) for identity in part["id"]),
                rounded(part["low"], DIGITS),
                rounded(part["high"], DIGITS),
                strict=True,
            )
            parts.append(
                Series(
                    part["truth"],
                    part["prediction"],
                    title,
                    colour,
                    symbol,
                    opacity=0.8,
                    low=part["low"],
                    high=part["high"],
                    bar_opacity=0.35,
                    labels=list(part["formula"]),
                    hover=Hover(
                        "<b>%{customdata[0]}</b> %{customdata[1]}<br>"
                        f"{escape(title)}<br>calculated %{{x:.4g}}{suffix}<br>predicted "
                        f"%{{y:.4g}}{suffix}<br>90 % interval %{{customdata[2]:.4g}} to "
                        f"%{{customdata[3]:.4g}}<br>after {int(shots)} labels of the family"
                        "<extra></extra>",
                        list(told),
                    ),
                    choice=key | {"family": str(family)},
                )
            )
    return parts


def _drawn(number_of: int) -> str:
    """Return how many crystals there are, and how many of them are drawn."""
    if number_of <= MOST_POINTS:
        return count(number_of)
    return f"{count(MOST_POINTS)} drawn of {count(number_of)}"


def parity_section_note() -> str:
    """Return what the parity plots show, as markup."""
    return (
        '<p class="note">Each point is a crystal of a family that no stage of training has seen, '
        "predicted after the chosen number of labels of its family (one draw of labels). A click "
        "on a family takes it out or brings it back.</p>"
    )
