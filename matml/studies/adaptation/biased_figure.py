"""Figure of the biased-support study: errors, paired gains over fine-tuning and of the bias."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from matml.figures.figure import BLUE, GREY, ORANGE, SYMBOLS, Axis, Figure, Panels, Series
from matml.figures.static import write
from matml.studies.adaptation.biased import ALL, TITLES


def draw(records: Sequence[dict], path: Path) -> None:
    """Draw the records of `biased.score` for all properties together, one row per support."""
    table = pd.DataFrame(records)
    table = table[table["setting"].str.endswith(f"/ {ALL}")]
    rows = []
    for setting, own in table.groupby("setting", sort=False):
        everyone = [name for name in TITLES if name in set(own["method"])]
        of_bias = own[own["metric"].str.startswith("gain over ordinary")]
        of_bias = of_bias[of_bias["method"].str.endswith("_biased")]
        families = own.groupby("shots")["n_tasks"].max()
        told = ", ".join(f"{shots}: {count}" for shots, count in families.items())
        support = str(setting).partition(" / ")[0]
        panels = (
            (
                f"Support: {support}",
                "balanced mean absolute error",
                own[own["metric"].str.startswith("balanced")],
                {name: TITLES[name] for name in everyone},
            ),
            (
                "Gain over fine-tuning",
                "error less than that of fine-tuning",
                own[own["metric"].str.startswith("gain over fine-tuned")],
                dict.fromkeys(everyone, ""),
            ),
            (
                "Gain of biased over ordinary episodes",
                "error less than with ordinary ones",
                of_bias,
                {m: TITLES[m].partition(", biased")[0] for m in of_bias["method"].unique()},
            ),
        )
        rows.append(
            [
                Figure(
                    f"{support}-{number}",
                    title,
                    Axis(label, zero_line=number > 0),
                    Axis(ticks=dict(enumerate(words.values())), ends=(len(words) - 0.5, -0.5)),
                    _dots(shown, list(words)),
                    "" if number else f"families at each number of shots: {told}",
                )
                for number, (title, label, shown, words) in enumerate(panels)
            ]
        )
    note = "All properties, standardised; lines: 95 % over families."
    write(Panels("Adaptation to a biased support", rows, note, height=3.4), [path])


def _dots(rows: pd.DataFrame, methods: Sequence[str]) -> list[Series]:
    """Return values with intervals: one line per method, one marker per number of shots."""
    groups, found = list(rows.groupby("shots")), []
    for number, (shots, group) in enumerate(groups):
        offset = 0.22 * (number - (len(groups) - 1) / 2)
        for place, item in enumerate(group.itertuples()):
            colour = GREY
            if item.method.endswith(("_ordinary", "_biased")):
                colour = ORANGE if item.method.endswith("_biased") else BLUE
            found.append(
                Series(
                    [item.value],
                    [methods.index(item.method) + offset],
                    f"{shots} shots",
                    colour,
                    SYMBOLS[number % len(SYMBOLS)],
                    low=[item.low],
                    high=[item.high],
                    bars="x",
                    in_legend=not place,
                )
            )
    return found
