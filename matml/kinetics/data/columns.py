"""What may stand in a table of observations: columns, their units and ranges, and what is wrong."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.words import plural
from matml.kinetics.data.units import ZERO_CELSIUS

COLDEST_K, HOTTEST_K = ZERO_CELSIUS, 3700.0
"""Range of temperatures at which a transformation is measured: tungsten melts at 3,695 K."""

SHORTEST_S, LONGEST_S = 1e-9, 1e12
"""Times that anything measures: up to 30,000 years, in meteorites."""

CONDITION = " / condition "
"""Stands between an alloy's name and the condition that a series of observations is of."""

FRACTION_NOISE = 0.05
"""How far beyond 0 and 1 noise may carry a measured fraction."""


@dataclass(frozen=True)
class Measured:
    """A measured column.

    Attributes
    ----------
    kind
        Of observation, as equations know it.
    low, high
        Physical range.
    reason, remedy
        Of a value outside.
    conditions
        Columns that the row must have.
    coldest_K
        Temperatures must lie above.
    strict
        Whether the ends of the range are outside.
    noise
        How far beyond the range noise may carry a measured value.
    """

    kind: str
    low: float
    high: float
    reason: str
    remedy: str
    conditions: tuple[str, ...] = ("temperature_K", "time_s")
    coldest_K: float = COLDEST_K
    strict: bool = False
    noise: float = 0.0

    def holds(self, value: np.ndarray) -> np.ndarray:
        """Return which values are inside [N]."""
        if self.strict:
            return (self.low < value) & (value < self.high)
        return (self.low - self.noise <= value) & (value <= self.high + self.noise)


FRACTION_REASON = "a fraction lies between 0 and 1"
TTT_POINT = Measured(
    "ttt",
    0.0,
    1.0,
    "the fraction of a TTT curve lies strictly between 0 and 1",
    "take 0.01 for a start curve",
    strict=True,
)

NO_START, NOT_CELSIUS = "no such reaction of steel starts there", "Celsius? name the column {}_C"

MEASURED = {
    "fraction_transformed": Measured(
        "fraction", 0, 1, FRACTION_REASON, "give 0 to 1", noise=FRACTION_NOISE
    ),
    "hardness_HRC": Measured(
        "hardness",
        -20,
        80,
        "outside the Rockwell C scale",
        "Vickers? name the column hardness_HV; Brinell? convert to HRC",
    ),
    "grain_size_um": Measured(
        "grain_size",
        0.01,
        1e5,
        "no grain has that size in um",
        "millimetres? name the column grain_size_mm; an ASTM number? convert to um",
        ("temperature_K", "time_s", "initial_grain_size_um"),
    ),
    "ttt_fraction": TTT_POINT,
    "assumed_fraction": TTT_POINT,
    "martensite_fraction": Measured(
        "martensite",
        0,
        1,
        FRACTION_REASON,
        "give 0 to 1",
        ("temperature_K",),
        coldest_K=0.0,
        noise=FRACTION_NOISE,
    ),
    "particle_radius_nm": Measured(
        "particle_radius",
        0.1,
        1e5,
        "no precipitate has that radius in nm",
        "micrometres? name the column particle_radius_um; a diameter? give half of it",
    ),
    "peak_temperature_K": Measured(
        "peak_temperature",
        200.0,
        HOTTEST_K,
        "no calorimetric peak lies at that temperature in K",
        "Celsius? name the column peak_temperature_C",
        ("heating_rate_K_per_s",),
    ),
    "Ms_K": Measured("martensite_start", 100.0, 1100.0, NO_START, NOT_CELSIUS.format("Ms"), ()),
    "Bs_K": Measured("bainite_start", 400.0, 1100.0, NO_START, NOT_CELSIUS.format("Bs"), ()),
}
"""By column."""

INPUTS = {
    "initial_grain_size_um": (
        0.01,
        1e5,
        "is not a grain size in um",
        "give the size before, in um",
    ),
    "strain": (1e-3, 5.0, "is no true strain", "percent? name the column strain_pct"),
    "strain_rate_per_s": (
        1e-6,
        1e4,
        "is not a strain rate in 1/s",
        "per minute? name the column strain_rate_per_min",
    ),
    "heating_rate_K_per_s": (
        1e-6,
        1e7,
        "is not a heating rate in K/s",
        "per minute? name the column heating_rate_K_per_min",
    ),
}
"""Conditions by column: lowest, highest, reason and remedy of what is outside."""

WATCHED = (
    *("temperature_K", "time_s", *INPUTS),
    *("hardness_HRC", "grain_size_um", "particle_radius_nm", "peak_temperature_K", "Ms_K", "Bs_K"),
)
"""Columns whose range among the training alloys is remembered."""

USUAL = {
    *("alloy", "temperature_K", "time_s", "sigma", "simulated", "run", "path"),
    *("start_temperature_K", *MEASURED),
}
"""Columns with a meaning of their own, in usual units."""

NUMBERED = {
    *("specimen", "sample", "coupon", "probe", "heat", "melt", "charge", "schmelze", "cast"),
    *("batch", "lot", "ingot", "material", "id", "no", "nr", "num", "number", "nummer"),
}
"""Words in the name of a column whose whole numbers may be names."""

APART = ("run", "path", "start_temperature_K", *INPUTS)
"""Columns in which observations that are averaged or repeated must agree."""


def temperature_problem(kelvin: float, given: str, coldest_K: float) -> tuple[str, str] | None:
    """Return (reason, remedy) for a temperature at which nothing of this kind is measured.

    `given` is the column as the file names it.
    """
    if kelvin <= coldest_K:
        reason = f"{kelvin:.6g} K is {kelvin - ZERO_CELSIUS:.6g} C, too cold for diffusion"
        if coldest_K == 0:
            reason = f"{kelvin:.6g} K is not above absolute zero"
        if given == "temperature_K":
            return reason, "probably Celsius given as kelvin: use temperature_C"
        return reason, "give a corrected value"
    if kelvin > HOTTEST_K:
        return f"{kelvin:.6g} K is above the melting point of any metal", "check it and its unit"
    return None


def time_problem(second: float) -> tuple[str, str] | None:
    """Return (reason, remedy) for a time that nobody measures."""
    if second <= 0:
        return "time must be positive", "count from reaching it"
    if not SHORTEST_S <= second <= LONGEST_S:
        return f"{second:.3g} s is no time that anybody measures", "check it and its unit"
    return None


def measured_problem(value: float, column: str, given: str) -> tuple[str, str] | None:
    """Return (reason, remedy) for a measured value outside its physical range.

    `given` is the column as the file names it.
    """
    what = MEASURED[column]
    if what.holds(np.asarray(value)):
        return None
    percent = what.high == 1 and (1 <= value < 100 if what.strict else 1 < value <= 105)
    remedy = f"percent? name the column {column}_pct" if percent else what.remedy
    return what.reason, "check it" if given in remedy.split() else remedy


def in_percent(value: np.ndarray, alloy: np.ndarray, column: str) -> np.ndarray:
    """Return which values [N] of fractions belong to an alloy whose values look like percent.

    Those where at least half of what is not 0 lies above what noise makes of 1: then a smaller one,
    such as 0.5 for half a percent, would be misread.
    """
    found = np.zeros(len(value), dtype=bool)
    if MEASURED[column].high != 1:
        return found
    above, counted = value > 1 + FRACTION_NOISE, value > 0
    for name in dict.fromkeys(alloy[above]):
        own = alloy == name
        found |= own & (above[own].sum() * 2 >= counted[own].sum())
    return found & (above.sum() > 1)


def look_like_fractions(percent: np.ndarray) -> bool:
    """Return whether one alloy's values in percent [N] look like fractions.

    Three of them or more that differ, half of all or more by the largest, and none above 1: of a
    transformation that was followed until it had come to less than a percent there would be little
    to tell.
    """
    values = np.unique(percent[np.isfinite(percent)])
    return len(values) > 2 and 0.5 <= values[-1] <= 1 + FRACTION_NOISE


def ask_for_alloys(table: pd.DataFrame, file: object, remedy: str) -> None:
    """Refuse a table of text without a column `alloy`, a column of which may name several alloys.

    Whoever pools two alloys as one gets parameters of neither. Different words may be names under
    any header; whole numbers where the header says so and some come back, so that they do not count
    the rows.

    Raises
    ------
    MatmlError
        With the column, its values and what to do: `remedy` where all rows are of one alloy.
    """
    for header in (str(name) for name in table if name not in USUAL | INPUTS.keys()):
        cells = table[header].str.strip()
        cells = cells[cells != ""]
        values = cells.unique()
        if len(values) < 2:
            continue
        number = pd.to_numeric(cells, errors="coerce")
        named = not NUMBERED.isdisjoint(re.findall(r"[^\W\d_]+", header.lower()))
        numbered = named and len(values) < len(cells) and bool((number % 1 == 0).all())
        if number.isna().any() or numbered:
            shown = ", ".join(values[:3]) + (", ..." if len(values) > 3 else "")
            raise MatmlError(
                f"{file}: column 'alloy' is missing, and {header!r} ({shown}) may name several: "
                f"call it 'alloy' if it does, 'run' if it tells apart specimens of one; {remedy}"
            )


def on_history(points: pd.DataFrame) -> np.ndarray:
    """Return which observations lie on a ramp or path [N]."""
    found = np.zeros(len(points), dtype=bool)
    if "path" in points:
        found |= (points["path"].fillna("") != "").to_numpy()
    if "start_temperature_K" in points:
        start = points["start_temperature_K"].fillna(points["temperature_K"])
        found |= (start != points["temperature_K"]).to_numpy()
    return found


def alloys_of(series: Iterable[str]) -> list[str]:
    """Return the distinct alloys of series of observations, each of one alloy and condition."""
    return list(dict.fromkeys(str(name).partition(CONDITION)[0] for name in series))


def counted(series: Iterable[str]) -> str:
    """Return `28 alloys`, or `34 series of 17 alloys`."""
    names = list(dict.fromkeys(map(str, series)))
    alloys = len(alloys_of(names))
    own = f"{alloys:,} {plural('alloy', alloys)}"
    return own if alloys == len(names) else f"{len(names):,} series of {own}"
