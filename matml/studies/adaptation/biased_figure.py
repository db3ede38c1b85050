"""Figure of the biased-support study: errors, paired gains over fine-tuning and of the bias."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from matml.core.files import atomic
from matml.studies.adaptation.biased import ALL, TITLES

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"
MARKERS = "osD^vP"


def draw(records: Sequence[dict], path: Path) -> None:
    """Draw the records of `biased.score` for all properties together, one row per support."""
    table = pd.DataFrame(records)
    table = table[table["setting"].str.endswith(f"/ {ALL}")]
    settings = list(dict.fromkeys(table["setting"]))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13, 0.4 + 3.4 * len(settings)), layout="constrained")
        grid = figure.subplots(len(settings), 3, squeeze=False, width_ratios=[1.1, 1.1, 0.9])
        for row, setting in zip(grid, settings, strict=True):
            own = table[table["setting"] == setting]
            gains = own[own["metric"].str.startswith("gain over fine-tuned")]
            of_bias = own[own["metric"].str.startswith("gain over ordinary")]
            of_bias = of_bias[of_bias["method"].str.endswith("_biased")]
            panels = (
                (own[own["metric"].str.startswith("balanced")], "balanced mean absolute error"),
                (gains, "error less than that of fine-tuning"),
                (of_bias, "error less than with ordinary ones"),
            )
            support = setting.partition(" / ")[0]
            titles = (
                f"Support: {support}",
                "Gain over fine-tuning",
                "Gain of biased over ordinary episodes",
            )
            everyone = [name for name in TITLES if name in set(own["method"])]
            for number, (axes, (rows, label)) in enumerate(zip(row, panels, strict=True)):
                methods = list(of_bias["method"].unique()) if number == 2 else everyone
                _dots(axes, rows, methods)
                names = [TITLES[name] for name in methods]
                if number == 2:
                    names = [name.partition(", biased")[0] for name in names]
                axes.set_yticks(range(len(methods)), [] if number == 1 else names)
                axes.set_title(titles[number], loc="left", fontsize=10)
                axes.set_xlabel(label)
                if number:
                    axes.axvline(0, color=GREY, linewidth=0.9)
            # below the axes, where no point can lie; the markers are the same in all panels
            row[0].legend(
                frameon=False,
                fontsize=8,
                ncols=3,
                columnspacing=1.0,
                handletextpad=0.2,
                loc="upper center",
                bbox_to_anchor=(0.3, -0.15),
            )
        figure.supxlabel("all properties, standardised; lines: 95 % over families", fontsize=8)
        with atomic(path) as temporary:
            figure.savefig(temporary, dpi=130)


def _dots(axes: Axes, rows: pd.DataFrame, methods: Sequence[str]) -> None:
    """Draw values with intervals: one line per method, one marker per number of shots."""
    groups = list(rows.groupby("shots"))
    for number, (shots, group) in enumerate(groups):
        offset = 0.22 * (number - (len(groups) - 1) / 2)
        style = {"marker": MARKERS[number % len(MARKERS)], "markersize": 5, "linestyle": ""}
        for item in group.itertuples():
            colour = GREY
            if item.method.endswith(("_ordinary", "_biased")):
                colour = ORANGE if item.method.endswith("_biased") else BLUE
            height = methods.index(item.method) + offset
            if pd.notna(item.low):
                axes.plot([item.low, item.high], [height] * 2, color=colour, linewidth=1.2)
            face = "white" if number % 2 else colour
            axes.plot(item.value, height, color=colour, markerfacecolor=face, **style)
        label = f"{shots} shots ({group['n_tasks'].iloc[0]} families)"
        face = "white" if number % 2 else GREY
        axes.plot([], [], color=GREY, markerfacecolor=face, label=label, **style)
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
