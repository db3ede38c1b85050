"""Scores of the property predictors, and the table of the errors by number of labels."""

from dataclasses import dataclass

import pandas as pd

from matml.report.html.markup import Cell, escape, number, table, text_cell
from matml.report.html.results import Results
from matml.report.html.wording import property_title, sentence, unit_text
from matml.report.sections.compare import methods_of, score_cell

SCORES = "properties/evaluation/scores.csv"
ERROR = "mae_family_mean"
GAIN = "gain_over_zero_shot"
COLUMNS = ("property", "unit", "method", "is_default", "shots", "metric", "value", "low", "high")
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
        rows = with_sound_intervals(rows)
        methods = methods_of(rows)
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

    def is_logarithmic(self, name: str) -> bool:
        """Return whether a property is learned (and its errors judged) as its logarithm."""
        return self.unit(name).startswith("log10")


def with_sound_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return scores without the intervals of fewer than `FEWEST_FAMILIES` families.

    A bootstrap of two or three families tells how far these are apart, not what others would give.
    """
    if "n_families" not in rows:
        return rows
    few = rows["n_families"] < FEWEST_FAMILIES
    return rows.assign(low=rows["low"].mask(few), high=rows["high"].mask(few))


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
                    score_cell(used.loc[k]) if k in used.index else text_cell("–", "num")
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
            "gain from labels",
            "families",
        ],
        rows,
        note="Mean absolute error, averaged over families that no stage of training has seen, "
        f"with its 95 % interval (bootstrap) where there are at least {FEWEST_FAMILIES} of them. "
        "Methods were chosen on other families. "
        f"“Gain from labels”: how much labels lower the error of the same method without any, on "
        f"the same families; for the most labels that at least {FEWEST_FAMILIES} families allow. "
        "Families with enough members become fewer to the right, so columns are not compared with "
        "each other.",
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


def coverage_table(scores: Scores) -> str:
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
    return table(
        ["property", *(f"{k} labels" for k in shots)],
        rows,
        note="Share of the crystals of unseen families that lie inside the nominal 90 % interval "
        "of the chosen method, mean over families with its 95 % interval (where there are at "
        f"least {FEWEST_FAMILIES}). Below 90 the intervals are too narrow: they were set on few "
        "families.",
    )
