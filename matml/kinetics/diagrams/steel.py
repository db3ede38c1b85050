"""The figures of a low-alloy steel's diagram, from its tables."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.figures.figure import BLUE, GREEN, GREY, ORANGE, Axis, Band, Figure, Part, Series
from matml.kinetics.data.units import ZERO_CELSIUS

COLOURS = {"ferrite": BLUE, "pearlite": ORANGE, "bainite": GREEN}
FRACTIONS = (0.01, 0.99)
RATES = np.geomspace(1e-2, 1e3, 61)
"""Cooling rates in K/s."""
LONGEST_S = 1e6


@dataclass(frozen=True)
class SteelDiagram:
    """The diagram of a steel.

    Attributes
    ----------
    lines
        Rows Ae3, Ae1, Bs, Ms: temperature_C, low_90_C, high_90_C.
    ttt
        reaction, fraction, temperature_C, time_s, low_90_s, high_90_s.
    cct
        Where cooling at a rate from Ae3 begins each reaction (1 %), by Scheil's rule: reaction,
        cooling_rate_K_s, time_s, temperature_C, low_90_C, high_90_C, and reached, the share of the
        draws in which it does above Ms. Temperatures are of the draws in which austenite is left.
    points
        TTT observations by reaction: temperature_K and time_s.
    measured
        Reactions that observations pulled in.
    """

    lines: pd.DataFrame
    ttt: pd.DataFrame
    cct: pd.DataFrame
    points: Mapping[str, pd.DataFrame]
    measured: tuple[str, ...] = ()


def measured_table(diagram: SteelDiagram) -> pd.DataFrame:
    """Return the observations of all reactions: reaction, temperature_K, time_s."""
    columns = ["temperature_K", "time_s"]
    parts = [own[columns].assign(reaction=name) for name, own in diagram.points.items()]
    return pd.concat(parts) if parts else pd.DataFrame(columns=["reaction", *columns])


def steel_figures(diagram: SteelDiagram, name: str) -> list[Figure]:
    """Return the TTT and the CCT diagram."""
    told = ", ".join(
        f"{row.line} {row.temperature_C:.0f} ({row.low_90_C:.0f} to {row.high_90_C:.0f}) °C"
        for row in diagram.lines.itertuples()
    )
    pulled = f"; calibrated from points: {', '.join(diagram.measured)}" if diagram.measured else ""
    note = (
        f"{told}. Bands: 90 % of the start; from the typical ranges by which steels differ from "
        f"the formulas, not learned{pulled}."
    )
    lines = diagram.lines
    ends = float(lines["low_90_C"].min()) - 50, float(lines["high_90_C"].max()) + 20
    y = Axis("temperature (°C)", ends=ends)
    shortest = max(0.01, float(diagram.ttt["low_90_s"].min()) / 2)
    parts = _named_lines(lines, shortest, LONGEST_S)
    for reaction, rows in diagram.ttt.groupby("reaction", sort=False):
        colour = COLOURS[str(reaction)]
        start, finish = (rows[rows["fraction"] == fraction] for fraction in FRACTIONS)
        celsius = start["temperature_C"]
        parts += [
            _band(start["low_90_s"], start["high_90_s"], celsius, celsius, colour),
            Series(start["time_s"], celsius, f"{reaction}, 1 %", colour, width=2),
            Series(finish["time_s"], celsius, f"{reaction}, 99 %", colour, width=1.2, dash="dash"),
        ]
    for reaction, own in diagram.points.items():
        where = own["time_s"], own["temperature_K"] - ZERO_CELSIUS
        label, colour = f"{reaction}, measured", COLOURS[reaction]
        parts.append(Series(*where, label, colour, "circle", outlined=True))
    x = Axis("time (s)", log=True, ends=(shortest, LONGEST_S))
    ttt = Figure("ttt", f"TTT diagram of {name}", x, y, parts, note, height=430)
    parts = _named_lines(lines, RATES[0], RATES[-1])
    for reaction, rows in diagram.cct.groupby("reaction", sort=False):
        rate, colour = rows["cooling_rate_K_s"], COLOURS[str(reaction)]
        parts += [
            _band(rate, rate, rows["low_90_C"], rows["high_90_C"], colour),
            Series(rate, rows["temperature_C"], f"{reaction} begins (1 %)", colour, width=2),
        ]
    x = Axis("cooling rate (K/s)", log=True)
    return [ttt, Figure("cct", f"Start on cooling of {name}", x, y, parts, note, height=430)]


def _named_lines(lines: pd.DataFrame, first: float, last: float) -> list[Part]:
    """Return a dotted line across the figure at each temperature, with its name."""
    return [
        Series(
            [first, last],
            [row.temperature_C, row.temperature_C],
            colour=GREY,
            width=1,
            dash="dot",
            end_label=row.line,
            in_legend=False,
            in_table=False,
        )
        for row in lines.itertuples()
    ]


def _band(x: pd.Series, x_back: pd.Series, y: pd.Series, y_back: pd.Series, colour: str) -> Band:
    return Band(np.r_[x, x_back[::-1]], np.r_[y, y_back[::-1]], "", colour)
