"""Learning curves of the predictors over labels, and the curves of their training."""

import pandas as pd

from matml.report.figures.figure import Drawing
from matml.report.figures.plotly import learning_curves, legend_button, lines
from matml.report.html.markup import bare, count, escape, missing, number, table, text_cell
from matml.report.html.results import Results
from matml.report.html.wording import property_title, sentence, title_of, unit_text
from matml.report.sections.properties.scores import FEWEST_FAMILIES, Scores, score_cell

ALWAYS_SHOWN = ("pretrained", "maml")


def _shown(scores: Scores, name: str) -> list[str]:
    """Return the methods drawn at first: the chosen one, the usual two, and the best other."""
    own = scores.of(name)
    mean = own[own["shots"] > 0].groupby("method")["value"].mean().sort_values()
    chosen = own[own["is_default"].astype(bool)]["method"].unique().tolist()
    shown = [*chosen, *(method for method in ALWAYS_SHOWN if method in scores.methods)]
    return [*shown, *[method for method in mean.index if method not in shown][:1]]


def curve_legend(scores: Scores) -> str:
    """Return one legend for all learning curves; a click shows or hides a method everywhere."""
    items = [
        legend_button(method, scores.titles[method], position)
        for position, method in enumerate(scores.methods)
    ]
    return (
        '<p class="note">A click on a method shows or hides it. The thick line is the default '
        "method. Bars are 95 % intervals over families, where there are at least "
        f"{FEWEST_FAMILIES}. A line is broken where fewer families have members enough: means over "
        "other families are not joined.</p>"
        f'<div class="legend">{"".join(items)}</div>'
    )


def curve_drawings(scores: Scores) -> list[Drawing]:
    """Return the learning curve of every property."""
    drawings = []
    for name in scores.properties:
        own = scores.of(name)
        if own.empty:
            continue
        title, unit = sentence(property_title(name)), unit_text(scores.unit(name))
        spec = learning_curves(
            own, scores.methods, scores.titles, _shown(scores, name), f"mean absolute error{unit}"
        )
        drawings.append(
            Drawing(
                f"learning-curve-{name}",
                spec,
                f"<b>{escape(title)}</b>{_families(own)}",
                f"{title}, error by number of labels: {_told(scores, name)}.",
                subject=name,
            )
        )
    return drawings


def _told(scores: Scores, name: str) -> str:
    """Return in words how the error of the chosen method falls, and what the best other has."""
    used, own = scores.used(name), scores.of(name)
    if used.empty:
        return "no method was chosen"
    unit, title = scores.unit(name), scores.titles[used["method"].iloc[0]]
    unit = f" {unit}" if unit else ""
    values = ", ".join(
        f"{bare(number(row.value))}{unit} with {row.shots} labels" for row in used.itertuples()
    )
    last = own[(own["shots"] == used["shots"].max()) & ~own["is_default"].astype(bool)]
    if last.empty:
        return f"{title} {values}"
    best = last.loc[last["value"].idxmin()]
    return (
        f"{title} {values}; the best other method there is {scores.titles[best['method']]} with "
        f"{bare(number(best['value']))}{unit}"
    )


def method_tables(scores: Scores) -> str:
    """Return the errors of all methods, a table a property."""
    return "".join(_method_table(scores, name) for name in scores.properties)


def _families(own: pd.DataFrame) -> str:
    """Return how many families stand behind the scores."""
    if "n_families" not in own:
        return ""
    each = own.groupby("shots")["n_families"].max()
    if each.min() == each.max():
        return f": {count(each.iloc[0])} unseen families"
    text = ", ".join(f"{n} with {k}" for k, n in each.items())
    return f": unseen families by number of labels: {text}"


def _method_table(scores: Scores, name: str) -> str:
    """Return all methods' errors for one property; the best of each column is bold."""
    own = scores.of(name)
    if own.empty:
        return missing(f"{sentence(property_title(name))}: no family had labels enough.")
    shots = sorted(own["shots"].unique())
    best = own.groupby("shots")["value"].min()
    rows = []
    for method in scores.methods:
        mine = own[own["method"] == method].set_index("shots")
        if mine.empty:
            continue
        star = " ★" if mine["is_default"].astype(bool).any() else ""
        cells = [
            score_cell(mine.loc[k], "best" if mine.loc[k, "value"] == best[k] else "")
            if k in mine.index
            else text_cell("–", "num")
            for k in shots
        ]
        rows.append([text_cell(scores.titles[method] + star), *cells])
    heading = f"<h4>{escape(sentence(property_title(name)))}{unit_text(scores.unit(name))}</h4>"
    head = ["method", *(f"{int(k)} labels" for k in shots)]
    return heading + table(head, rows, sortable=True, note="★ the default.")


def training_drawings(results: Results) -> list[Drawing]:
    """Return the training curves of all members, a figure a stage."""
    names = results.names("properties/members/*/pretraining.csv")
    names += results.names("properties/members/*/metatraining.csv")
    tables = [results.table(name, ("stage", "member", "epoch", "train_loss")) for name in names]
    tables = [item for item in tables if item is not None and not item.empty]
    if not tables:
        return []
    records = pd.concat(tables, ignore_index=True)
    drawings = []
    for stage, group in records.groupby("stage", sort=False):
        series = []
        for member, own in group.groupby("member"):
            own = own.sort_values("epoch")
            position = int(member)
            series.append(
                (f"{member}: training", own["epoch"], own["train_loss"], position, "solid")
            )
            if "validation_loss" in own and own["validation_loss"].notna().any():
                seen = own[own["validation_loss"].notna()]
                curve = (seen["epoch"], seen["validation_loss"])
                series.append((f"{member}: unseen families", *curve, position, "dot"))
        batches = "epoch" if stage == "pretraining" else "batch of tasks"
        spec = lines(series, batches, "loss (standardised)")
        spec["layout"]["showlegend"] = False
        title, members = title_of(str(stage)), group["member"].nunique()
        drawings.append(
            Drawing(
                f"training-{stage}",
                spec,
                f"<b>{escape(title)}</b> of {members} networks "
                "(one colour each): solid on training data, dotted on validation families.",
                f"{title}: loss of {members} networks by {batches}.",
                height=280,
            )
        )
    return drawings
