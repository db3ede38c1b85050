"""Learning curves of the predictors over labels, and the curves of their training."""

import pandas as pd

from matml.core.statistics import FEWEST_TASKS
from matml.figures.figure import CYCLE, Axis, Figure, Hover, Part, Series, style_of
from matml.report.html.markup import bare, count, escape, missing, number
from matml.report.html.results import Results
from matml.report.html.wording import property_title, sentence, title_of, unit_text
from matml.report.sections.compare import error_curves, error_table, joined_note, legend
from matml.report.sections.properties.scores import ERROR, Scores

ALWAYS_SHOWN = ("pretrained", "maml")


def curve_legend(scores: Scores) -> str:
    """Return one legend for all learning curves; a click shows or hides a method everywhere."""
    errors = scores.rows[scores.rows["metric"] == ERROR]
    joined = joined_note(errors, scores.methods)
    return (
        '<p class="note">Click a method to show or hide it. The thick line is the default '
        "method. Bars are 95 % intervals over families, where there are at least "
        f"{FEWEST_TASKS}. A line breaks where fewer families have enough members: means over "
        f"different families are not joined.{joined}</p>"
        + legend(errors, scores.methods, scores.titles)
    )


def curve_figures(scores: Scores) -> list[Figure]:
    """Return the learning curve of every property."""
    figures = []
    for name in scores.properties:
        own = scores.of(name)
        if own.empty:
            continue
        title, unit = sentence(property_title(name)), unit_text(scores.unit(name))
        figures.append(
            error_curves(
                own,
                scores.methods,
                scores.titles,
                ("labels of the new family", f"mean absolute error{unit}"),
                "label",
                shown=_shown(scores, name),
                name=f"learning-curve-{name}",
                title=f"{title}: error on unseen families by number of labels",
                note=_families(own),
                summary=f"{title}, error by number of labels: {_told(scores, name)}.",
                subject=name,
            )
        )
    return figures


def _shown(scores: Scores, name: str) -> list[str]:
    """Return the methods drawn at first: the chosen one, the usual two, and the best other."""
    own = scores.of(name)
    mean = own[own["shots"] > 0].groupby("method")["value"].mean().sort_values()
    chosen = own[own["is_default"].astype(bool)]["method"].unique().tolist()
    shown = [*chosen, *(method for method in ALWAYS_SHOWN if method in scores.methods)]
    return [*shown, *[method for method in mean.index if method not in shown][:1]]


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


def _families(own: pd.DataFrame) -> str:
    """Return how many families stand behind the scores."""
    if "n_families" not in own:
        return ""
    each = own.groupby("shots")["n_families"].max()
    if each.min() == each.max():
        return f"Mean over {count(each.iloc[0])} families."
    text = ", ".join(f"{n} with {k} labels" for k, n in each.items())
    return (
        f"Mean over families: {text}; a line breaks where there are fewer. Bars: 95 % intervals "
        "over families. The thick line is the default method."
    )


def method_tables(scores: Scores) -> str:
    """Return the errors of all methods, a table a property."""
    return "".join(_method_table(scores, name) for name in scores.properties)


def _method_table(scores: Scores, name: str) -> str:
    own = scores.of(name)
    if own.empty:
        return missing(f"{sentence(property_title(name))}: no family had enough labels.")
    heading = f"<h4>{escape(sentence(property_title(name)))}{unit_text(scores.unit(name))}</h4>"
    return heading + error_table(own, scores.methods, scores.titles, "label")


def training_figures(results: Results) -> list[Figure]:
    """Return the training curves of all members, a figure a stage."""
    names = results.names("properties/members/*/pretraining.csv")
    names += results.names("properties/members/*/metatraining.csv")
    tables = [results.table(name, ("stage", "member", "epoch", "train_loss")) for name in names]
    tables = [item for item in tables if item is not None and not item.empty]
    if not tables:
        return []
    records = pd.concat(tables, ignore_index=True)
    if "validation_loss" not in records:
        records["validation_loss"] = float("nan")
    figures = []
    for stage, group in records.groupby("stage", sort=False):
        parts: list[Part] = []
        for member, own in group.sort_values("epoch").groupby("member"):
            colour = style_of(int(member))[0]
            for column, words, dash in (
                ("train_loss", "training", "solid"),
                ("validation_loss", "unseen families", "dot"),
            ):
                line = own[own[column].notna()]
                if len(line):
                    name, told = f"{member}: {words}", f"network {member}, {words}: %{{y:.3g}}"
                    parts.append(
                        Series(
                            line["epoch"],
                            line[column],
                            name,
                            colour,
                            width=1.8,
                            dash=dash,
                            in_legend=False,
                            hover=Hover(f"{told}<extra></extra>"),
                        )
                    )
        what = "epoch" if stage == "pretraining" else "batch of tasks"
        title, members = title_of(str(stage)).replace("Pret", "Pre-t"), group["member"].nunique()
        if stage != "pretraining":
            title = f"Meta-training by {title}"
        figures.append(
            Figure(
                f"training-{stage}",
                f"{title}: loss of {members} networks",
                Axis(what),
                Axis("loss (standardised)"),
                parts,
                f"{'One colour each' if members <= len(CYCLE) else 'Colours repeat'}: solid on "
                "training data, dotted on validation families.",
                f"{title}: loss of {members} networks by {what}.",
                height=280,
            )
        )
    return figures
