"""Scores of the property predictors, and the table of the errors by number of labels."""

from dataclasses import dataclass

import pandas as pd

from matml.core.statistics import FEWEST_TASKS, Reduction
from matml.core.text.words import listed
from matml.properties.evaluation.compare import VERDICTS, label_gains, lower_than_chosen
from matml.report.html.markup import Cell, escape, interval, number, table, text_cell
from matml.report.html.results import Results
from matml.report.html.wording import clearly, property_title, sentence, unit_text
from matml.report.sections.compare import methods_of, score_cell

SCORES = "properties/evaluation/scores.csv"
ERROR = "mae_family_mean"
EXCESS = "excess_over_default"
COLUMNS = ("property", "unit", "method", "is_default", "shots", "metric", "value", "low", "high")
USUAL_SHOTS = 10
SIMPLE = ("support_mean", "extra_trees", "extra_trees_gp", "global_gp", "global_gp_gp")
"""Methods without a neural network: what one would take instead."""
NOMINAL = 90
CLEARLY = clearly("families")


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

    def best_simple(self, name: str, shots: int) -> pd.Series | None:
        """Return the error of the simple method whose is lowest at a number of labels."""
        own = self.of(name)
        own = own[own["method"].isin(SIMPLE) & (own["shots"] == shots)]
        own = own[~own["is_default"].astype(bool)]
        return None if own.empty else own.loc[own["value"].idxmin()]

    def against(self, simple: pd.Series) -> Reduction | None:
        """Return how much lower the chosen method's error is than another's, a row of `of`."""
        own = self.of(str(simple["property"]), EXCESS)
        own = own[(own["method"] == simple["method"]) & (own["shots"] == simple["shots"])]
        if own.empty:
            return None
        row = own.iloc[0]
        families = int(row.get("n_families", FEWEST_TASKS))
        return Reduction(row["value"], row["low"], row["high"], families, simple["value"])

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


def percent_note(scores: Scores) -> str:
    """Return what percent of an error are of where it is one of a logarithm, '' where none is."""
    logarithmic = any(map(scores.is_logarithmic, scores.properties))
    return " (in percent of the error of log10 where the table gives log10)" if logarithmic else ""


def findings(scores: Scores) -> str:
    """Return for which properties, and with how many, the labels of a new family help."""
    told: dict[int | None, list[str]] = {1: [], 0: [], -1: [], None: []}
    for name in scores.properties:
        shots: dict[int | None, list[str]] = {}
        for k, gain in label_gains(scores.rows, name).items():
            by = f"{number(abs(gain.percent), 2)} % with " if gain.sign else ""
            shots.setdefault(gain.sign, []).append(f"{by}{k}")
        for verdict, numbers in shots.items():
            told[verdict].append(f"{property_title(name)} ({listed(numbers)})")
    parts = [
        f"{words} {f'<b>{names}</b>' if verdict == 1 else names}."
        for verdict, words in (
            (1, "Labels of a new family clearly lower the error on its other members for"),
            (0, "No clear difference:"),
            (-1, "They clearly raise it for"),
            (None, "Too few families to say:"),
        )
        if (names := escape("; ".join(told[verdict])))
    ]
    if not parts:
        return ""
    return (
        f"<p>{' '.join(parts)} In brackets: with how many, and by how much against the same "
        f"method without any{percent_note(scores)}. {CLEARLY}</p>"
    )


def _gain_cell(scores: Scores, name: str) -> Cell:
    """Return a cell with the gain by labels and what it means, for the most that tell."""
    gains = label_gains(scores.rows, name)
    if not gains:
        return text_cell("–", "num")
    shots = max([k for k, gain in gains.items() if gain.sign is not None] or gains)
    meaning = f"with {shots}: {VERDICTS[gains[shots].sign]}"
    shown = f'{number(gains[shots].value)}<br><span class="interval">{meaning}</span>'
    return Cell(shown, float(gains[shots].value), "num")


def label_gain_table(scores: Scores) -> str:
    """Return how much labels lower each property's error by their number, and what is lower."""
    shots = sorted({int(k) for k in scores.rows["shots"]} - {0})
    rows = []
    for name in scores.properties:
        gains, used = label_gains(scores.rows, name), scores.used(name)
        if used.empty:
            continue
        method = str(used["method"].iloc[0])
        cells = [_full_gain_cell(gains[k]) if k in gains else text_cell("–") for k in shots]
        rows.append(
            [
                text_cell(sentence(property_title(name)) + unit_text(scores.unit(name))),
                text_cell(scores.titles[method]),
                *cells,
                _lower_cell(scores, name, method),
            ]
        )
    return table(
        ["property", "method", *(f"{k} labels" for k in shots), "lower on the test families"],
        rows,
        note="By how much labels lower the error of the chosen method, against the same method "
        f"without any on the same families, with the 95 % interval. {CLEARLY} In the last column "
        "the method with the lowest mean error over these numbers of labels, where it is not the "
        "chosen one; the choice was not changed after seeing that.",
    )


def _full_gain_cell(gain: Reduction) -> Cell:
    between = "" if gain.sign is None else f" {interval(gain.low, gain.high)}"
    meaning = f"{VERDICTS[gain.sign]}, {gain.tasks} families"
    shown = f'{number(gain.value)}{between}<br><span class="interval">{meaning}</span>'
    return Cell(shown, float(gain.value))


def _lower_cell(scores: Scores, name: str, method: str) -> Cell:
    """Return which method has a lower mean error than the chosen one, and how surely."""
    lower = lower_than_chosen(scores.rows, name, method)
    if lower is None:
        return text_cell("–")
    sure = f"clearly with {listed(lower.clear)}" if lower.clear else "clearly with none of these"
    shown = (
        f"{escape(scores.titles[lower.method])}, {number(lower.error)} against "
        f'{number(lower.chosen)}<br><span class="interval">{sure}</span>'
    )
    return Cell(shown, lower.method)


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
            share, low, high = (100 * own.loc[k, ["value", "low", "high"]].astype(float)).round()
            ends = "" if pd.isna(low) else f"[{low:.0f}, {high:.0f}]{width_words(low, high)}"
            told = f"<br><span class='interval'>{ends}</span>" if ends else ""
            cells.append(Cell(f"{share:.0f} %{told}", share, "num"))
        rows.append([text_cell(sentence(property_title(name))), *cells])
    if not rows:
        return ""
    return table(
        ["property", *(f"{k} labels" for k in shots)],
        rows,
        note="Share of the crystals of unseen families that lie inside the nominal 90 % interval "
        "of the chosen method, mean over families with its 95 % interval (where there are at "
        f"least {FEWEST_TASKS}). “Too narrow” and “too wide” stand where that interval, in whole "
        f"percent as shown, excludes {NOMINAL}.",
    )


def width_words(low: float, high: float) -> str:
    """Return what the interval of a coverage in percent says of 90 % intervals, '' if nothing."""
    if high < NOMINAL:
        return " too narrow"
    return " too wide" if low > NOMINAL else ""
