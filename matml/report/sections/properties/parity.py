"""Predicted against calculated values of families that no stage of training has seen."""

import pandas as pd

from matml.properties.data.targets import PROPERTIES
from matml.report.figures.figure import (
    Drawing,
    FigureSet,
    Menu,
    labels_menu,
    mark_of,
    rounded,
    show_only,
    subscripts,
)
from matml.report.figures.plotly import GREY, axis, error_bars, faint
from matml.report.html.markup import count, escape, number
from matml.report.html.results import Results
from matml.report.html.wording import family_title, property_title, sentence, unit_text
from matml.report.sections.properties.scores import Scores

PREDICTIONS = "properties/evaluation/predictions.parquet"
COLUMNS = ("property", "method", "shots", "family", "common_name", "truth", "prediction")
USUAL_SHOTS = 10
MOST_POINTS = 800
"""Crystals drawn of one property, method and number of labels; the numbers told are of all."""


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


def subject_menu(drawings: list[Drawing]) -> Menu:
    """Return the menu of properties that picks figures."""
    subjects = dict.fromkeys(item.subject for item in drawings)
    options = {name: sentence(property_title(name)) for name in subjects}
    return Menu("subject", "Property", {"": "all"} | options)


def parity_set(rows: pd.DataFrame, scores: Scores) -> FigureSet:
    """Return a parity plot a property, with menus of labels, property and method."""
    families = family_words(rows)
    drawings = parity_drawings(rows, scores)
    menus = (
        labels_menu([int(k) for k in rows["shots"].unique()], usual_shots(rows)),
        subject_menu(drawings),
        method_menu(scores, rows),
    )
    return FigureSet(drawings, menus, families)


def family_words(rows: pd.DataFrame) -> dict[str, str]:
    """Return label to title of the families, those with most crystals first."""
    sizes = rows.groupby("family")["id"].nunique().sort_values(ascending=False, kind="stable")
    titles = rows.groupby("family")["family_title"].first()
    return {str(family): str(titles[family]) for family in sizes.index}


def parity_drawings(rows: pd.DataFrame, scores: Scores) -> list[Drawing]:
    """Return one parity plot for each property that has predictions."""
    places = {family: mark_of(i) for i, family in enumerate(family_words(rows))}
    chosen = {"shots": str(usual_shots(rows)), "method": "chosen"}
    drawings = []
    for name in scores.properties:
        own = rows[rows["property"] == name]
        if own.empty:
            continue
        method = first_method(scores, own, name)
        own = own.assign(role=roles(own, method))
        unit = own["unit"].iloc[0] if "unit" in own else ""
        title = property_title(name)
        spec = _parity(name, own, f"{title}{unit_text(unit)}", unit, places, chosen)
        shown = own[(own["role"] == "chosen") & (own["shots"] == int(chosen["shots"]))]
        told = (
            f"{count(shown['id'].nunique())} crystals of {shown['family'].nunique()} unseen "
            f"families after {chosen['shots']} labels of each: {agreement(name, shown, unit)}"
        )
        drawings.append(
            Drawing(
                f"parity-{name}",
                spec,
                f"<b>{escape(sentence(title))}</b>, {escape(scores.titles.get(method, method))}. "
                "Dashed: equality. Bars: 90 % interval.",
                f"{sentence(title)}, predicted against calculated: {told}.",
                height=380,
                subject=name,
                panels="shots",
            )
        )
    return drawings


def agreement(name: str, rows: pd.DataFrame, unit: object = "") -> str:
    """Return in words the mean absolute error, and the share of values inside their intervals."""
    if rows.empty:
        return "no crystals"
    error = (rows["prediction"] - rows["truth"]).abs().mean()
    plain = unit_text(unit).strip(" ()")
    text = f"mean absolute error {_bare(error)}{f' {plain}' if plain else ''}"
    known = rows[rows["low"].notna() & rows["high"].notna()]
    if known.empty:
        return text
    inside = ((known["truth"] >= known["low"]) & (known["truth"] <= known["high"])).mean()
    return f"{text}, {100 * inside:.0f} % inside the 90 % interval"


def _bare(value: float) -> str:
    return number(value).replace("−", "-") if 1e-4 < abs(value) < 1e6 else f"{value:.3g}"


def is_logarithmic(name: str) -> bool:
    """Return whether a property is learned (and its errors judged) as its logarithm."""
    return name in PROPERTIES and PROPERTIES[name].logarithmic


def _parity(name, own, title, unit, places, chosen) -> dict:
    """Return the plot of one property: a trace for each method, number of labels and family."""
    values = own[["truth", "prediction"]].to_numpy()
    first, last = float(values.min()), float(values.max())
    margin = 0.06 * (last - first) or 1.0
    plain = unit_text(unit).strip(" ()")
    suffix = f" {escape(plain)}" if plain else ""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": "equality",
            "x": rounded([first, last]),
            "y": rounded([first, last]),
            "line": {"color": GREY, "width": 1, "dash": "dash"},
            "hoverinfo": "skip",
        }
    ]
    for (role, shots), group in own.groupby(["role", "shots"], sort=False):
        key = {"method": str(role), "shots": int(shots)}
        data.append(
            {
                "type": "scatter",
                "mode": "text",
                "x": [first - 0.5 * margin],
                "y": [last + 0.5 * margin],
                "text": [
                    agreement(name, group, unit).replace(", ", "<br>", 1)
                    + f"<br>({_drawn(len(group))} crystals, all families)"
                ],
                "textposition": "bottom right",
                "textfont": {"size": 11},
                "hoverinfo": "skip",
                "meta": key,
            }
        )
        if len(group) > MOST_POINTS:
            group = group.sample(MOST_POINTS, random_state=0)
        for family, part in group.groupby("family", sort=False):
            colour, symbol = places[str(family)]
            family_name = escape(part["family_title"].iloc[0])
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": str(part["family_title"].iloc[0]),
                    "x": rounded(part["truth"]),
                    "y": rounded(part["prediction"]),
                    "error_y": error_bars(
                        *(part[column].round(5) for column in ("prediction", "low", "high")),
                        color=faint(colour, 0.35),
                        thickness=1,
                        width=0,
                    ),
                    "marker": {"color": colour, "symbol": symbol, "size": 7, "opacity": 0.8},
                    "customdata": [
                        [subscripts(text), escape(identity), low, high]
                        for text, identity, low, high in zip(
                            part["formula"],
                            part["id"],
                            rounded(part["low"]),
                            rounded(part["high"]),
                            strict=True,
                        )
                    ],
                    "hovertemplate": "<b>%{customdata[0]}</b> %{customdata[1]}<br>"
                    f"{family_name}<br>calculated %{{x:.4g}}{suffix}<br>predicted "
                    f"%{{y:.4g}}{suffix}<br>90 % interval %{{customdata[2]:.4g}} to "
                    f"%{{customdata[3]:.4g}}<br>after {int(shots)} labels of the family"
                    "<extra></extra>",
                    "meta": key | {"family": str(family)},
                }
            )
    show_only(data, chosen)
    ends = [first - margin, last + margin]
    return {
        "data": data,
        "layout": {
            "xaxis": axis(f"calculated {title}", range=ends),
            "yaxis": axis(f"predicted {title}", range=ends),
            "showlegend": False,
            "uirevision": "kept",
        },
    }


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
