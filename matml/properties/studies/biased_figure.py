"""Figure of the biased-support study: errors by method, and the gain of biased meta-training."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from matml.files import atomic
from matml.properties.studies.biased import ALL, TITLES

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6B6B6B"
MARKERS = "osD^vP"


def draw(records: Sequence[dict], path: Path) -> None:
    """Draw the records of `biased.score` for all properties together, one row per support."""
    table = pd.DataFrame(records)
    table = table[table["setting"].str.endswith(f"/ {ALL}")]
    settings = list(dict.fromkeys(table["setting"]))
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(10.5, 0.6 + 3.2 * len(settings)), layout="constrained")
        grid = figure.subplots(len(settings), 2, squeeze=False, width_ratios=[1.15, 1])
        for row, setting in zip(grid, settings, strict=True):
            own = table[table["setting"] == setting]
            support = setting.partition(" / ")[0]
            _dots(
                row[0],
                own[own["metric"].str.startswith("balanced")],
                f"Support: {support}",
                "balanced mean absolute error (standardised)",
            )
            gains = own[own["metric"].str.startswith("gain over ordinary")]
            _dots(
                row[1],
                gains[gains["method"].str.endswith("biased")],
                "Biased instead of ordinary meta-training",
                "paired reduction of the error (right of 0: biased is better)",
            )
            row[1].axvline(0, color=GREY, linewidth=0.9)
        with atomic(path) as temporary:
            figure.savefig(temporary, dpi=150)


def _dots(axes: Axes, rows: pd.DataFrame, title: str, label: str) -> None:
    """Draw values with intervals: one line per method, one marker per number of shots."""
    methods = [name for name in TITLES if name in set(rows["method"])]
    groups = list(rows.groupby("shots"))
    for number, (shots, group) in enumerate(groups):
        offset = 0.22 * (number - (len(groups) - 1) / 2)
        for item in group.itertuples():
            colour = ORANGE if item.method.endswith("biased") else BLUE
            colour = colour if "_" in item.method and item.method != "fine_tuned" else GREY
            height = methods.index(item.method) + offset
            if pd.notna(item.low):
                axes.plot([item.low, item.high], [height] * 2, color=colour, linewidth=1.2)
            axes.plot(
                item.value,
                height,
                MARKERS[number % len(MARKERS)],
                color=colour,
                markersize=5,
                markerfacecolor="white" if number % 2 else colour,
            )
        families = group["n_tasks"].iloc[0]
        axes.plot(
            [],
            [],
            MARKERS[number % len(MARKERS)],
            color=GREY,
            markersize=5,
            markerfacecolor="white" if number % 2 else GREY,
            label=f"{shots} shots ({families} families)",
        )
    axes.set_yticks(range(len(methods)), [TITLES[name] for name in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(label)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    # below the axes, where no point can lie
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.17))
