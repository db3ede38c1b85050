"""The part of the page about property predictors: few-shot errors, parity, training."""

from dataclasses import dataclass

import pandas as pd

from matml.report.charts import learning_curves, lines, parity, style_of
from matml.report.markup import (
    Cell,
    Figures,
    count,
    details,
    escape,
    interval,
    missing,
    number,
    table,
    text_cell,
)
from matml.report.results import Results
from matml.report.words import family_title, property_title, sentence, title_of, unit_text

SCORES = "properties/evaluation/scores.csv"
ERROR = "mae_family_mean"
GAIN = "gain_over_zero_shot"
COLUMNS = ("property", "unit", "method", "is_default", "shots", "metric", "value", "low", "high")
ALWAYS_SHOWN = ("pretrained", "maml")
FEWEST_FAMILIES = 4
"""An interval over fewer families says nothing about families in general."""


@dataclass(frozen=True)
class Scores:
    """The scores of all properties, with the words for methods."""

    rows: pd.DataFrame
    methods: list[str]
    titles: dict[str, str]

    @classmethod
    def read(cls, results: Results) -> "Scores | None":
        """Return the scores of a run, or None where there are none."""
        rows = results.table(SCORES, COLUMNS)
        if rows is None or rows.empty:
            return None
        methods = list(dict.fromkeys(rows["method"]))
        titles = {method: method.replace("_", " ") for method in methods}
        if "title" in rows:
            titles |= dict(zip(rows["method"], rows["title"], strict=True))
        return cls(rows, methods, titles)

    @property
    def properties(self) -> list[str]:
        """Properties in the order of the file."""
        return list(dict.fromkeys(self.rows["property"]))

    def of(self, name: str, metric: str = ERROR) -> pd.DataFrame:
        """Return the rows of one property and metric."""
        return self.rows[(self.rows["property"] == name) & (self.rows["metric"] == metric)]

    def used(self, name: str) -> pd.DataFrame:
        """Return the errors of the method that was chosen for a property, by shots."""
        own = self.of(name)
        return own[own["is_default"].astype(bool)].sort_values("shots")

    def unit(self, name: str) -> str:
        """Return the unit of a property's error, '' for a pure number."""
        unit = self.of(name)["unit"]
        return "" if unit.empty or unit.isna().all() else str(unit.iloc[0])


def predictors_section(results: Results, figures: Figures) -> str:
    """Return the section's markup."""
    scores = Scores.read(results)
    if scores is None:
        return missing("This run has trained no property predictor.")
    summary = results.json("properties/evaluation/summary.json") or {}
    parts = [_setting(summary)]
    statements = summary.get("statements", [])
    if statements:
        parts.append(
            "<ul class='findings'>" + "".join(f"<li>{escape(s)}</li>" for s in statements) + "</ul>"
        )
    parts += [_legend(scores), _curves(scores, figures)]
    parts.append("<h3>Predicted against calculated</h3>")
    parts.append(_parity(results, scores, figures))
    parts.append(_coverage_table(scores))
    parts.append("<h3>Training</h3>")
    parts.append(_training(results, figures))
    return "\n".join(parts)


def few_shot_table(scores: Scores) -> str:
    """Return the table of the chosen methods' errors by number of labels, one row a property."""
    shots = sorted(int(k) for k in scores.rows["shots"].unique())
    rows = []
    for name in scores.properties:
        used = scores.used(name).set_index("shots")
        if used.empty:
            continue
        first = used.iloc[0]
        families = used["n_families"] if "n_families" in used else pd.Series(dtype=float)
        rows.append(
            [
                text_cell(sentence(property_title(name)) + unit_text(scores.unit(name))),
                text_cell(scores.titles[first["method"]]),
                *(
                    _score_cell(used.loc[k]) if k in used.index else text_cell("–", "num")
                    for k in shots
                ),
                _gain_cell(scores, name),
                Cell(_span(families), None, "num"),
            ]
        )
    return table(
        [
            "property",
            "method",
            *(f"{k} labels" for k in shots),
            "gained by labels",
            "families",
        ],
        rows,
        note="Mean absolute error, averaged over families that no stage of training has seen, "
        "with its 95 % interval over families (bootstrap). Methods were chosen on other families. "
        f"“Gained by labels”: how much labels lower the error of the same method without any, on "
        f"the same families; for the most labels that at least {FEWEST_FAMILIES} families allow. "
        "Families with enough members become fewer to the right, so columns are not compared with "
        "each other.",
    )


def _coverage_table(scores: Scores) -> str:
    """Return how many crystals of unseen families lie inside the 90 % intervals, by labels."""
    shots = sorted(int(k) for k in scores.rows["shots"].unique())
    rows = []
    for name in scores.properties:
        own = scores.of(name, "coverage_90").set_index("shots")
        if own.empty:
            continue
        cells = []
        for k in shots:
            if k not in own.index:
                cells.append(text_cell("–", "num"))
                continue
            share, low, high = (100 * float(own.loc[k, key]) for key in ("value", "low", "high"))
            ends = (
                "" if pd.isna(low) else f"<br><span class='interval'>[{low:.0f}, {high:.0f}]</span>"
            )
            cells.append(Cell(f"{share:.0f} %{ends}", share, "num"))
        rows.append([text_cell(sentence(property_title(name))), *cells])
    if not rows:
        return ""
    return "<h3>How far the intervals can be trusted</h3>" + table(
        ["property", *(f"{k} labels" for k in shots)],
        rows,
        note="Share of the crystals of unseen families that lie inside the nominal 90 % interval "
        "of the chosen method, mean over families with its 95 % interval. Below 90 the intervals "
        "are too narrow: they were set on few families.",
    )


def label_gain(scores: Scores, name: str) -> pd.Series | None:
    """Return the row that tells what the most labels bring the chosen method of a property."""
    gains = scores.of(name, GAIN)
    gains = gains[gains["is_default"].astype(bool) & (gains["shots"] > 0)]
    if gains.empty:
        return None
    gains = gains.sort_values("shots")
    enough = gains[gains.get("n_families", FEWEST_FAMILIES) >= FEWEST_FAMILIES]
    return (gains if enough.empty else enough).iloc[-1]


def verdict(gain: pd.Series) -> str:
    """Return in words what an interval of a gain means."""
    if pd.isna(gain["low"]) or gain.get("n_families", FEWEST_FAMILIES) < FEWEST_FAMILIES:
        return "too few families"
    if gain["low"] > 0:
        return "labels help"
    return "labels hurt" if gain["high"] < 0 else "no clear difference"


def findings(scores: Scores) -> str:
    """Return one sentence: for how many properties the labels of a new family help."""
    verdicts = {}
    for name in scores.properties:
        gain = label_gain(scores, name)
        if gain is not None:
            verdicts[property_title(name)] = verdict(gain)
    helped = [name for name, word in verdicts.items() if word == "labels help"]
    others = [name for name in verdicts if name not in helped]
    if not verdicts:
        return ""
    told = []
    if helped:
        told.append(
            f"A few known values of a new family clearly improve the prediction of its other "
            f"members for <b>{escape(', '.join(helped))}</b>."
        )
    if others:
        told.append(f"For {escape(', '.join(others))} no clear gain was seen.")
    return f"<p>{' '.join(told)}</p>"


def _gain_cell(scores: Scores, name: str) -> Cell:
    """Return a cell with the gain by labels and what it means."""
    gain = label_gain(scores, name)
    if gain is None:
        return text_cell("–", "num")
    meaning = f"with {int(gain['shots'])}: {verdict(gain)}"
    shown = f'{number(gain["value"])}<br><span class="interval">{meaning}</span>'
    return Cell(shown, float(gain["value"]), "num")


def _span(values: pd.Series) -> str:
    """Return `3` or `2 to 5`."""
    if values.empty:
        return "–"
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _score_cell(row: pd.Series, kind: str = "") -> Cell:
    """Return a cell with a score and its interval."""
    ends = interval(row["low"], row["high"])
    shown = number(row["value"]) + (f'<br><span class="interval">{ends}</span>' if ends else "")
    return Cell(shown, float(row["value"]), f"num {kind}".strip())


def _setting(summary: dict) -> str:
    """Return what was asked of the predictors, with the families counted."""
    test, validation = summary.get("test_families", {}), summary.get("validation_families", {})
    counted = (
        f" Here {count(len(test))} families were kept for the test, and {count(len(validation))} "
        "others for choosing methods and settings."
        if test and validation
        else ""
    )
    return (
        "<p>The question: how well is a property of a <em>new</em> family predicted when only a "
        f"few of its members have a known value?{counted} "
        "All methods got the same known values (<dfn>labels</dfn>) of a new family and predicted "
        "its other members. The <dfn>pre-trained network</dfn> learned from the other families "
        "and uses no labels of the new one; <dfn>MAML</dfn> and <dfn>FOMAML</dfn> were trained to "
        "learn from a few labels; a <dfn>GP</dfn> (Gaussian process) corrects what is left.</p>"
    )


def _shown(scores: Scores, name: str) -> list[str]:
    """Return the methods drawn at first: the chosen one, the usual two, and the best other."""
    own = scores.of(name)
    mean = own[own["shots"] > 0].groupby("method")["value"].mean().sort_values()
    chosen = own[own["is_default"].astype(bool)]["method"].unique().tolist()
    shown = [*chosen, *(method for method in ALWAYS_SHOWN if method in scores.methods)]
    return [*shown, *[method for method in mean.index if method not in shown][:1]]


def _legend(scores: Scores) -> str:
    """Return one legend for all learning curves; a click shows or hides a method everywhere."""
    items = []
    for position, method in enumerate(scores.methods):
        colour, _, dash = style_of(position)
        items.append(
            f'<button type="button" data-method="{escape(method)}" '
            f'style="--colour:{colour};--dash:{"dashed" if dash != "solid" else "solid"}">'
            f"<i></i>{escape(scores.titles[method])}</button>"
        )
    return (
        '<p class="note">A click on a method shows or hides it. The thick line is the default '
        "method. Bars are 95 % intervals over families. "
        "A line is broken where fewer families have members enough: means over other families are "
        "not joined.</p>"
        f'<div class="legend">{"".join(items)}</div>'
    )


def _curves(scores: Scores, figures: Figures) -> str:
    """Return learning curve and table of every property."""
    parts = []
    for name in scores.properties:
        own = scores.of(name)
        if own.empty:
            continue
        title = sentence(property_title(name))
        spec = learning_curves(
            own,
            scores.methods,
            scores.titles,
            _shown(scores, name),
            f"error{unit_text(scores.unit(name))}",
        )
        parts.append(figures.add(spec, f"<b>{escape(title)}</b>{_families(own)}"))
    tables = "".join(_method_table(scores, name) for name in scores.properties)
    return f'<div class="grid">{"".join(parts)}</div>{details("All numbers", tables)}'


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
            _score_cell(mine.loc[k], "best" if mine.loc[k, "value"] == best[k] else "")
            if k in mine.index
            else text_cell("–", "num")
            for k in shots
        ]
        rows.append([text_cell(scores.titles[method] + star), *cells])
    heading = f"<h4>{escape(sentence(property_title(name)))}{unit_text(scores.unit(name))}</h4>"
    head = ["method", *(f"{int(k)} labels" for k in shots)]
    return heading + table(head, rows, sortable=True, note="★ the default.")


def _parity(results: Results, scores: Scores, figures: Figures) -> str:
    """Return one parity plot a property, for the chosen method at the middle number of labels."""
    rows = results.table(
        "properties/evaluation/predictions.parquet",
        ("property", "method", "shots", "family", "common_name", "truth", "prediction"),
    )
    if rows is None or rows.empty:
        return missing("This run has kept no single predictions.")
    parts = []
    for name in scores.properties:
        used = scores.used(name)
        own = rows[rows["property"] == name]
        if used.empty or own.empty:
            continue
        own = own[own["method"] == used["method"].iloc[0]]
        available = sorted(int(k) for k in own["shots"].unique() if k > 0)
        if not available:
            continue
        shots = min(available, key=lambda k: abs(k - 10))
        own = own[own["shots"] == shots]
        own = own.assign(
            family_title=[
                family_title(c, f) for c, f in zip(own["common_name"], own["family"], strict=True)
            ],
            formula=own["formula"] if "formula" in own else own["id"],
        )
        unit = own["unit"].iloc[0] if "unit" in own else ""
        title = property_title(name)
        parts.append(
            figures.add(
                parity(own, f"{title}{unit_text(unit)}"),
                f"<b>{escape(sentence(title))}</b>: {count(len(own))} crystals of "
                f"{own['family'].nunique()} unseen families, each predicted after {shots} labels "
                f"of its family ({escape(scores.titles[used['method'].iloc[0]])}).",
                height=360,
            )
        )
    if not parts:
        return missing("No family had labels enough for a comparison of single predictions.")
    return f'<div class="grid">{"".join(parts)}</div>'


def _training(results: Results, figures: Figures) -> str:
    """Return the training curves of all members, a figure a stage."""
    names = results.names("properties/members/*/pretraining.csv")
    names += results.names("properties/members/*/metatraining.csv")
    tables = [results.table(name, ("stage", "member", "epoch", "train_loss")) for name in names]
    tables = [item for item in tables if item is not None and not item.empty]
    if not tables:
        return missing("This run has kept no training curves.")
    records = pd.concat(tables, ignore_index=True)
    parts = []
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
        parts.append(
            figures.add(
                spec,
                f"<b>{escape(title_of(str(stage)))}</b> of {group['member'].nunique()} networks "
                "(one colour each): solid on training data, dotted on validation families.",
                height=280,
            )
        )
    return f'<div class="grid">{"".join(parts)}</div>'
