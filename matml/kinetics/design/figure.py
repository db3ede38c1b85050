"""The figure of proposed experiments, from their tables."""

from dataclasses import dataclass, replace
from itertools import cycle

import pandas as pd

from matml.figures.figure import AMBER, BLUE, CYCLE, SKY, Axis, Figure, Part, Series, between
from matml.kinetics.data.units import ZERO_CELSIUS

SHADES = ("#f7f3d9", SKY, BLUE)
"""Of a small reduction to the largest."""


@dataclass(frozen=True)
class Design:
    """Proposed experiments.

    Attributes
    ----------
    proposals
        One row per experiment, best first: conditions, expected duration_s and, of a
        transformation, median times to 10, 50 and 90 %, and the part of the region's variance that
        is left after it.
    candidates
        Conditions with `expected_reduction`, the part of the variance that each alone would remove.
    points
        Observations so far.
    kind, alloy
        As in the population and the data.
    """

    proposals: pd.DataFrame
    candidates: pd.DataFrame
    points: pd.DataFrame
    kind: str
    alloy: str


def figure(result: Design) -> Figure:
    """Return the expected reduction over the conditions, with the numbered proposals on it."""
    table, removed = result.candidates, "variance removed by one measurement (%)"
    over_rate = result.kind == "peak_temperature"
    along = "heating_rate_K_per_s" if over_rate else "temperature_C"
    x = Axis("heating rate (K/s)" if over_rate else "temperature (°C)", log=over_rate)
    gain = 100 * table["expected_reduction"]
    height, note = gain.loc[_rows(result)].tolist(), ""
    points = result.points
    if "temperature_K" in points:
        points = points.assign(temperature_C=points["temperature_K"] - ZERO_CELSIUS)
    parts: list[Part] = []
    if "time_s" in table:
        y, height = Axis("time (s)", log=True), result.proposals["time_s"].tolist()
        colours = between(gain / gain.max(), SHADES)
        parts.append(Series(table[along], table["time_s"], "", colours, "square", 20))
        if len(points):
            measured = points[along], points["time_s"]
            parts.append(Series(*measured, "measured", "#ffffff", "circle", outlined=True))
        note = f"Colour: {removed}, from none (pale) to {gain.max():.3g} % (dark)."
    else:
        x = replace(x, marks=points[along].tolist() if len(points) else [])
        y = Axis(removed, from_zero=True)
        curves = table.groupby("fraction") if "fraction" in table else [("", table)]
        for (fraction, own), colour in zip(curves, cycle(CYCLE), strict=False):
            name = f"{100 * fraction:g} % transformed" if fraction != "" else ""
            parts.append(Series(own[along], gain[own.index], name, colour, width=2.4))
        note = "Dotted: measured already." if len(points) else ""
    for row, at in zip(result.proposals.to_dict("records"), height, strict=True):
        number = str(row["experiment"])
        parts.append(
            Series([row[along]], [at], "", AMBER, "circle", 9, outlined=True, end_label=number)
        )
    return Figure("design", f"{result.alloy}: where to measure next", x, y, parts, note)


def _rows(result: Design) -> list[int]:
    """Return the candidates' rows of the proposals."""
    names = ("temperature_K", "fraction", "time_s", "heating_rate_K_per_s")
    keys = [name for name in names if name in result.candidates]
    index = pd.MultiIndex.from_frame(result.candidates[keys])
    return [int(i) for i in index.get_indexer(pd.MultiIndex.from_frame(result.proposals[keys]))]
