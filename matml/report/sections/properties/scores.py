"""Scores of the property predictors, and the table of the errors by number of labels."""

from dataclasses import dataclass

import pandas as pd

from matml.core.statistics import FEWEST_TASKS, sign_over_tasks
from matml.report.html.markup import Cell, escape, number, table, text_cell
from matml.report.html.results import Results
from matml.report.html.wording import property_title, sentence, unit_text
from matml.report.sections.compare import methods_of, score_cell

SCORES = "properties/evaluation/scores.csv"
ERROR = "mae_family_mean"
GAIN = "gain_over_zero_shot"
EXCESS = "excess_over_default"
COLUMNS = ("property", "unit", "method", "is_default", "shots", "metric", "value", "low", "high")
USUAL_SHOTS = 10
SIMPLE = ("support_mean", "extra_trees", "extra_trees_gp", "global_gp", "global_gp_gp")
"""Methods without a neural network: what one would take instead."""
VERDICTS = {None: "too few families", 1: "labels help", 0: "no clear difference", -1: "labels hurt"}


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

    def shown_shots(self, name: str) -> int:
        """Return the number of labels told first: nearest to 10 of those that families allow."""
        used = self.used(name)
        families = used.get("n_families", pd.Series(FEWEST_TASKS, used.index))
        enough = used[(used["shots"] > 0) & (families >= FEWEST_TASKS)]
        shots = (used if enough.empty else enough)["shots"]
        return min(map(int, shots), key=lambda k: abs(k - USUAL_SHOTS))

    def best_simple(self, name: str) -> str | None:
        """Return the simple method with the lowest mean error over the numbers of labels."""
        own = self.of(name)
        chosen = own["is_default"].astype(bool)
        own = own[own["method"].isin(SIMPLE) & (own["shots"] > 0) & ~chosen]
        return None if own.empty else str(own.groupby("method")["value"].mean().idxmin())

    def unit(self, name: str) -> str:
        """Return the unit of a property's error, '' for a pure number."""
        unit = self.of(name)["unit"]
        return "" if unit.empty or unit.isna().all() else str(unit.iloc[0])

    def is_logarithmic(self, name: str) -> bool:
        """Return whether a property is learned (and its errors judged) as its logarithm."""
        return self.unit(name).startswith("log10")


def with_sound_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return scores without the intervals of fewer than `FEWEST_TASKS` families.

    A bootstrap of two or three families tells how far these are apart, not what others would give.
    """
    if "n_families" not in rows:
        return rows
    few = rows["n_families"] < FEWEST_TASKS
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
        f"with its 95 % interval (bootstrap) where there are at least {FEWEST_TASKS} of them. "
        "Methods were chosen on other families. "
        f"Errors of log10: 0.02 is {number(percent_of(0.02), 2)} %, 0.1 is "
        f"{number(percent_of(0.1), 2)} %. "
        f"“Gain from labels”: how much labels lower the error of the same method without any, on "
        f"the same families; for the most labels that at least {FEWEST_TASKS} families allow. "
        "Families with enough members become fewer to the right, so columns are not compared with "
        "each other.",
    )


def percent_of(error: float) -> float:
    """Return the percentage by which a value is off whose decadic logarithm is off by `error`."""
    return 100 * (10**error - 1)


def sign(row: pd.Series) -> int | None:
    """Return what a score's paired difference shows, as `sign_over_tasks` does."""
    return sign_over_tasks(row["low"], row["high"], int(row.get("n_families", FEWEST_TASKS)))


def label_gains(scores: Scores, name: str) -> pd.DataFrame:
    """Return what labels bring the chosen method of a property, a row a number of labels."""
    gains = scores.of(name, GAIN)
    return gains[gains["is_default"].astype(bool) & (gains["shots"] > 0)].sort_values("shots")


def findings(scores: Scores) -> str:
    """Return for which properties, and with how many, the labels of a new family help."""
    told: dict[int | None, list[str]] = {1: [], 0: [], -1: [], None: []}
    for name in scores.properties:
        gains = label_gains(scores, name)
        shots: dict[int | None, list[str]] = {}
        for _, gain in gains.iterrows():
            shots.setdefault(sign(gain), []).append(str(int(gain["shots"])))
        if len(shots) > 1:
            # with how many labels too few families are left is told by the table
            shots.pop(None, None)
        for verdict, numbers in shots.items():
            told[verdict].append(f"{property_title(name)} ({listed(numbers)})")
    parts = []
    if told[1]:
        parts.append(
            "Known values of a new family clearly improve the prediction of its other members "
            "(the 95 % interval of the gain excludes zero) for "
            f"<b>{escape('; '.join(told[1]))}</b>; in brackets, how many known values."
        )
    for verdict, words in (
        (0, "No clear difference"),
        (-1, "They make it worse"),
        (None, "Too few families to say"),
    ):
        if told[verdict]:
            parts.append(f"{words}: {escape('; '.join(told[verdict]))}.")
    return f"<p>{' '.join(parts)}</p>" if parts else ""


def listed(words: list[str]) -> str:
    """Return `5`, `5 and 10` or `5, 10 and 20`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _gain_cell(scores: Scores, name: str) -> Cell:
    """Return a cell with the gain by labels and what it means, for the most that tell."""
    gains = label_gains(scores, name)
    if gains.empty:
        return text_cell("–", "num")
    enough = gains[[sign(gain) is not None for _, gain in gains.iterrows()]]
    gain = (gains if enough.empty else enough).iloc[-1]
    meaning = f"with {int(gain['shots'])}: {VERDICTS[sign(gain)]}"
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
        f"least {FEWEST_TASKS}). Below 90 the intervals are too narrow: they were set on few "
        "families.",
    )
