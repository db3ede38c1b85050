"""Columns in another unit or place than their names say, by what stands in their file alone.

What is plain sets rows aside, of a whole alloy where its others would be misread; what is only odd
is a warning. Evidence by a population is in `matml.kinetics.inference.diagnostics`.
"""

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import pandas as pd

from matml.kinetics.data.columns import (
    HOTTEST_K,
    INPUTS,
    MEASURED,
    in_percent,
    look_like_fractions,
)
from matml.kinetics.data.units import (
    QUANTITIES,
    TEMPERATURES,
    TIMES,
    ZERO_CELSIUS,
    Table,
    Unit,
    unit_of,
    usual_name,
)

ROOMS = {"C": (291.0, 299.5, "K"), "F": (15.0, 30.0, "C")}
"""Numbers at which a treatment in a unit neither begins nor ends, but does so in another, where
they are room temperature."""
STEPS = (1, 25, 50, 100)
"""Temperatures are set in whole multiples of one of these, in some unit."""
OFTEN, CHANCE = 0.04, 1.01e-4
"""How often a rounded number is such a multiple by chance at most, and all of a column."""
NEXT_K = 300.0
"""How far above one that is too cold the next temperature lies, if both are in Celsius."""
WIDE, NARROW, DEGREES = 10.0, 3.0, (150.0, 2500.0)
"""Ratios of the longest and shortest time of an alloy at least, and of its temperatures at most;
and between which numbers these lie."""
ONE, OTHER = 1.05, 1.25
"""Ratios up to which two rates are one, and from which on they contradict each other."""
RATE = r"(?<![\w.,])(\d+(?:[.,]\d+)?) ?(?:K|[°º]?C) ?(?:/|_?per_?) ?(s|min|h)(?![A-Za-z])"
"""A rate in the name of a run."""
AMOUNT = (
    r"(?<![A-Za-z0-9.,])(\d+(?:[.,]\d+)?) ?(K|[°º]?C|[°º]?F|s|sec|min|h|hr)"
    r"(?![A-Za-z0-9]| ?/|_?per)"
)
"""A temperature or time in the name of a run."""
STARTS = (0.1, 0.5, 1.0)
"""Percent that a curve of starts usually stands for."""
MOST_LEVELS = 30
"""Temperatures of an alloy of which some do not differ by 273 by chance."""
WRONG_WAY = {
    "fraction_transformed": ("time_s", -1, "is it the fraction that is left?"),
    "grain_size_um": ("time_s", -1, "are they ASTM numbers?"),
    "martensite_fraction": ("temperature_K", 1, "is it the austenite that is left?"),
}
"""With what a measured value never falls (-1) or rises (1), and what may be given in its place."""
CHANGE = 0.2
"""How much of its largest value it changes so at least."""
LONGEST_LOGARITHM = 10.0
"""Times are no logarithms from here on: 10^10 s are 300 years."""
ROUND = (*range(1, 10), 1.2, 1.5, 1.8, 2.5, 3.6, 4.5, 7.2)
"""Of times that were set, times a power of ten and a unit."""
LOGARITHMS = {"log10": 10.0, "ln": float(np.e)}
SHRUNK = 0.7
"""Share of the initial grain size below which no grown one lies, nor is measured to lie."""
RAMP = ("start_temperature_K", "temperature_K", "time_s")

Problem = tuple[str, str, str]
"""Usual name of a column, reason and remedy."""


def numbers(cells: "pd.Series[str]") -> np.ndarray:
    """Return the numbers of a column of text [N], NaN where there are none."""
    return pd.to_numeric(cells, errors="coerce").to_numpy(float)


def misplaced(table: Table, raw: pd.DataFrame, measured: str) -> dict[int, Problem]:
    """Return the rows of which a column plainly is not what its name says, by their index.

    Parameters
    ----------
    table, raw
        The table, and its cells in usual units with the temperatures of paths.
    measured
        Usual name of the measured column.
    """
    found: dict[int, Problem] = {}
    alloy = raw["alloy"].str.strip().to_numpy()
    what, value = MEASURED[measured], numbers(raw[measured])
    percent, off = in_percent(value, alloy, measured), np.isfinite(value) & ~what.holds(value)
    time, degree = (table.headers.get(name, name) for name in ("time_s", "temperature_K"))
    header = table.headers.get(measured, measured)
    small = what.noise > 0 and unit_of(header)[1].name == "pct"
    columns = {
        name: numbers(table.original.loc[raw.index, name])
        for name in (time, degree)
        if name in table.original
    }
    kelvin = numbers(raw["temperature_K"]) if degree in columns else np.empty(0)
    for own in pd.Series(range(len(raw))).groupby(alloy, sort=False).indices.values():
        clock, warm = (columns[n][own] if n in columns else None for n in (time, degree))
        problem = None
        if percent[own].any():
            remedy = f"name the column {measured}_pct"
            if clock is not None and (clock <= 1).all():
                remedy = f"are {time} and {measured} exchanged? Else {remedy}"
            problem = measured, "most values of this alloy lie above 1: percent?", remedy
            own = own[percent[own]]
        elif small and look_like_fractions(100 * value[own]):
            reason = "no value of this alloy lies above 1 %: fractions?"
            remedy = (
                f"name the column {measured}, and give fractions there also if percent is meant"
            )
            problem = measured, reason, remedy
        elif what.high != 1 and 2 * off[own].sum() > len(own):
            # those outside tell their own reason
            own = own[~off[own]]
            problem = measured, f"most values of this alloy: {what.reason}", what.remedy
        elif clock is not None and clock.min() < 0 < clock.max() < LONGEST_LOGARITHM:
            reason = f"this alloy's times go from {clock.min():g} to {clock.max():g}"
            remedy = "are they logarithms, whose positive ones would be misread? Give times"
            problem = "time_s", reason, remedy
        elif warm is not None and what.coldest_K > 0:
            problem = _in_celsius(degree, kelvin[own])
            possible = (kelvin[own] > ZERO_CELSIUS) & (kelvin[own] <= HOTTEST_K)
            if clock is not None and not possible.all() and look_exchanged(warm, clock):
                reason = f"no alloy is measured from {warm.min():g} to {warm.max():g} {degree[-1]}"
                problem = "temperature_K", reason, f"are {degree} and {time} exchanged?"
        problem = problem or _wrong_way(raw.iloc[own], measured)
        if problem:
            found |= dict.fromkeys(map(int, raw.index[own]), problem)
    for rows, told, rates in _rates(table, raw):
        given = numbers(raw.loc[rows, "heating_rate_K_per_s"])
        ratios = given / rates
        for k in np.flatnonzero((ratios <= 1 / OTHER) | (ratios >= OTHER)):
            units = (("K_per_min", 60.0), ("K_per_s", 1 / 60))
            fit = [unit for unit, factor in units if 1 / ONE < ratios[k] / factor < ONE]
            remedy = f"name the column heating_rate_{fit[0]}?" if fit else "correct one of them"
            reason = f"is {given[k]:.4g} K/s, but {rates[k]:.4g} K/s by {told}"
            found.setdefault(int(rows[k]), ("heating_rate_K_per_s", reason, remedy))
    for quantity in ("temperature", "time"):
        for index, problem in _named_otherwise(table, raw, quantity).items():
            found.setdefault(index, problem)
    return found


def _named_otherwise(table: Table, raw: pd.DataFrame, quantity: str) -> dict[int, Problem]:
    """Return rows whose number stands in the name of its run, or alloy, with another unit.

    Where two numbers or more do, and none with the unit of the column: `30 min` of a row with 30 in
    `time_s`.
    """
    usual = usual_name(quantity)
    header = table.headers.get(usual, usual)
    if header not in table.original:
        return {}
    given = pd.Series(numbers(table.original.loc[raw.index, header]), raw.index)
    units = {word: unit for unit in QUANTITIES[quantity] for word in unit.words}
    found: dict[int, Problem] = {}
    for column in ("run", "alloy"):
        if column not in raw or len(found):
            continue
        values = set[float]()
        for name, own in given.groupby(raw[column].str.strip(), sort=False):
            (number, *others) = own.unique()
            for text, word in re.findall(AMOUNT, str(name)):
                said = units.get(word.lower().strip("°º"))
                if said is None or others or float(text.replace(",", ".")) != number:
                    continue
                if said is unit_of(header)[1]:
                    return {}
                values.add(number)
                reason = f"the same number is {text} {said.name} in the name {name!r}"
                remedy = f"name the column {quantity}_{said.name}?"
                found |= {int(index): (usual, reason, remedy) for index in own.index}
        found = found if len(values) > 1 else {}
    return found


def _wrong_way(raw: pd.DataFrame, measured: str) -> Problem | None:
    """Return the problem of an alloy whose measured value changes the wrong way alone, and twice.

    Specimens with a history of their own are not looked at.
    """
    own = [name for name in ("path", "start_temperature_K") if name in raw]
    if measured not in WRONG_WAY or (raw[own] != "").any(axis=None):
        return None
    along, sign, meant = WRONG_WAY[measured]
    names = [n for n in ("temperature_K", *INPUTS) if n in raw and n != along]
    table = pd.DataFrame({n: numbers(raw[n]) for n in (along, measured, *names)}).dropna()
    held = table.sort_values(along).groupby(names or np.zeros(len(table)))
    steps = held[measured].diff().dropna()
    if len(steps) < 2 or (sign * steps).min() < 0:
        return None
    if abs(steps.sum()) < CHANGE * table[measured].max() * len(steps) ** 0.5:
        return None
    reason = (
        f"{'falls' if sign < 0 else 'rises'} with {along[:-2]} wherever this alloy was measured"
    )
    return measured, reason, f"{meant} Give what the name of the column says"


def _in_celsius(header: str, kelvin: np.ndarray) -> Problem | None:
    """Return the problem of an alloy whose kelvin [N] go on below 0 C."""
    cold, warm = kelvin[kelvin <= ZERO_CELSIUS], kelvin[kelvin > ZERO_CELSIUS]
    if header != "temperature_K" or not len(cold) or not len(warm):
        return None
    if warm.min() - cold.max() > NEXT_K:
        return None
    reason = (
        f"this alloy's temperatures go down to {cold.min():g} K, {cold.min() - ZERO_CELSIUS:g} C"
    )
    return "temperature_K", reason, "probably Celsius given as kelvin: use temperature_C"


def look_exchanged(warm: np.ndarray, clock: np.ndarray, wide: float = WIDE) -> bool:
    """Return whether an alloy's temperatures look like times and its times like temperatures [N].

    Each in the unit of the file; `wide` is the ratio of the highest and lowest "temperature".
    """
    if not (np.isfinite(warm) & np.isfinite(clock) & (warm > 0)).all():
        return False
    # a mistyped one is none
    inner = np.sort(warm)[1:-1] if len(warm) > 3 else warm
    low, high = DEGREES
    narrow = low <= clock.min() and clock.max() <= min(high, NARROW * clock.min())
    return bool(narrow and inner.max() >= wide * inner.min())


def _rates(table: Table, raw: pd.DataFrame) -> Iterator[tuple[np.ndarray, str, np.ndarray]]:
    """Yield rows with a heating rate for which something else tells one: what, and it in K/s."""
    if "heating_rate_K_per_s" not in raw:
        return
    given = numbers(raw["heating_rate_K_per_s"]) > 0
    if set(RAMP) <= set(raw):
        start, kelvin, time = (numbers(raw[name]) for name in RAMP)
        told = np.abs(kelvin - start) / np.where(time > 0, time, np.nan)
        rows = given & (told > 0)
        names = ", ".join(table.headers.get(name, name) for name in RAMP)
        yield raw.index[rows].to_numpy(), names, told[rows]
    factors = {unit.name: unit.factor for unit in TIMES}
    for run in raw["run"].unique() if "run" in raw else ():
        found = re.findall(RATE, run)
        rate = float(found[0][0].replace(",", ".")) / factors[found[0][1]] if found else 0.0
        if len(found) == 1 and rate > 0:
            rows = given & (raw["run"] == run).to_numpy()
            yield raw.index[rows].to_numpy(), f"the run's name {run!r}", np.full(rows.sum(), rate)


def room_note(own: np.ndarray, unit: str) -> str:
    """Return how temperatures [N] begin or end at room temperature in another unit, else ''."""
    low, high, other = ROOMS.get(unit, (0.0, -1.0, ""))
    for place, verb in ((0, "begins"), (-1, "ends")):
        if low <= own[place] <= high and own[place] <= own.min() + 1 < own.max():
            return f"{verb} at its coldest, {own[place]:.4g} {unit}: room temperature in {other}?"
    return ""


def odd_temperatures(table: Table, measured: str) -> list[str]:
    """Return doubts of columns of temperatures by their own numbers, one sentence each."""
    notes = []
    for header in map(str, table.original):
        try:
            quantity, unit = unit_of(header)
        except KeyError:
            continue
        own = np.unique(numbers(table.original[header]))
        own = own[np.isfinite(own)]
        if unit not in TEMPERATURES or not len(own):
            continue
        if meant := _round_elsewhere(table.original[header], unit):
            notes.append(f"column {header!r}: all of its numbers are {meant}")
        elif quantity == "start_temperature" or measured == "martensite_fraction":
            low, high, other = ROOMS.get(unit.name, (0.0, -1.0, ""))
            if low <= own[0] <= high:
                notes.append(
                    f"column {header!r}: its lowest number, {own[0]:g} {unit.name}, is room "
                    f"temperature in {other}"
                )
        elif quantity == "temperature" and (pairs := _mixed(table, header)):
            low, high = pairs[0]
            notes.append(
                f"column {header!r}: {low:g} and {high:g} of one alloy, and {len(pairs) - 1} more "
                "such pairs, differ by the step from Celsius to kelvin"
            )
    return [f"{note}; check its unit" for note in notes]


def odd_percents(table: Table) -> list[str]:
    """Return doubts of columns in percent that never come to one, one sentence each."""
    notes = []
    for header in map(str, table.original):
        try:
            _, unit = unit_of(header)
        except KeyError:
            continue
        own = np.unique(numbers(table.original[header])) if unit.name == "pct" else np.empty(0)
        own = own[np.isfinite(own) & (own != 0)]
        if len(own) > 1 and own[-1] <= 1 and not np.isin(own, STARTS).all():
            notes.append(
                f"column {header!r}: no number lies above {own[-1]:g} %: fractions? Then its name "
                "is to be without percent"
            )
    return notes


def odd_times(table: Table) -> list[str]:
    """Return a doubt of a column of times whose numbers are logarithms of round times."""
    header = table.headers.get("time_s", "time_s")
    if header not in table.original:
        return []
    own = np.unique(numbers(table.original[header]))
    own = own[np.isfinite(own)]
    digits = max((_digits(cell) for cell in table.original[header]), default=0)
    if digits < 2 or len(own) < 3 or own[-1] >= LONGEST_LOGARITHM:
        return []
    slack = 0.5 * 10.0**-digits
    for name, base in LOGARITHMS.items():
        # of each unit there are so many round times in a power of the base
        often = 2 * slack * len(ROUND) * np.log10(base)
        for unit in TIMES[:3]:
            exact = np.log10(base) * own - np.log10(unit.factor)
            step = exact[:, None] - np.log10(ROUND)
            off = np.abs(step - np.rint(step)) / np.log10(base)
            if often ** len(own) <= CHANCE and (off.min(1) <= slack + 1e-9).all():
                return [
                    f"column {header!r}: all of its numbers are {name} of round times "
                    f"({own[0]:g} is {name} of {base ** own[0]:.3g}); if they are, give the times "
                    "themselves"
                ]
    return []


def _digits(cell: object) -> int:
    """Return how many digits follow the decimal point of a number as it is written."""
    return len(str(cell).partition(".")[2].rstrip("0"))


def odd_alloys(points: pd.DataFrame) -> list[str]:
    """Return doubts of alloys: names that look alike, compositions, grains smaller than before."""
    notes, alike = [], dict[str, list[str]]()
    for name in points["alloy"].unique():
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(re.sub(r"[\s_\-‐-―−]+|(?<=\d)\.0+$", "", plain), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            said = " and ".join(map(repr, names))
            notes.append(
                f"alloys {said} differ in case, blanks, hyphens or a decimal zero alone: are they "
                "one?"
            )
    if found := [name for name in points if name.endswith(("_wt_pct", "_at_pct"))]:
        notes.append(
            f"{', '.join(found)}: compositions are not read from the observations; give them in a "
            "table of alloys (`--alloys`)"
        )
    if {"initial_grain_size_um", "value"} <= set(points):
        smaller = points["value"] < SHRUNK * points["initial_grain_size_um"]
        if smaller.any():
            value, before = points.loc[smaller, ["value", "initial_grain_size_um"]].iloc[0]
            notes.append(
                f"{smaller.sum()} grain sizes are far below the initial one, {value:g} after "
                f"{before:g} um, though grains grow: check both columns and their units"
            )
    return notes


def _round_elsewhere(cells: "pd.Series[str]", unit: Unit) -> str:
    """Return how temperatures of a column look like round ones of one unit written in another.

    Such as 873, 923 and 973 in Celsius, which are 600, 650 and 700 C in kelvin. Nothing is said
    where they may have been set as round numbers in another unit and converted to theirs.
    """
    own = np.unique(numbers(cells))
    own = own[np.isfinite(own)]
    digits = max(map(_digits, cells), default=0)
    slack = 0.5 * 10.0**-digits

    def step(written: Unit, set_in: Unit) -> int:
        """Return of what the numbers are multiples once converted, 0 where of nothing."""
        factor = written.factor / set_in.factor
        there = (own * written.factor + written.offset - set_in.offset) / set_in.factor
        for multiple in reversed(STEPS):
            often = 2 * slack * factor / multiple
            off = np.abs(there - multiple * np.rint(there / multiple))
            if (
                often <= OFTEN
                and often ** len(own) <= CHANCE
                and (off <= slack * factor + 1e-6).all()
            ):
                return multiple
        return 0

    if len(own) < 2 or (own % 5 == 0).all() or any(step(unit, other) for other in TEMPERATURES):
        return ""
    for written in TEMPERATURES:
        for set_in in TEMPERATURES:
            if unit is not written is not set_in and (multiple := step(written, set_in)):
                first = own[0] * written.factor + written.offset - set_in.offset
                return (
                    f"multiples of {multiple} {set_in.name} written in {written.name} "
                    f"({own[0]:g} {written.name} are {first / set_in.factor:.0f} {set_in.name})"
                )
    return ""


def _mixed(table: Table, header: str) -> list[tuple[float, float]]:
    """Return pairs of one alloy's temperatures that are the same in Celsius and in kelvin."""
    if "alloy" not in table.cells:
        return []
    warm = pd.Series(numbers(table.original[header]), table.cells["alloy"].to_numpy()).dropna()
    for _, own in warm.groupby(level=0, sort=False):
        levels = np.unique(own)
        if 4 <= len(levels) <= MOST_LEVELS:
            step = levels[None] - levels[:, None]
            low, high = np.nonzero(np.isin(step.round(6), (273.0, ZERO_CELSIUS)))
            if len(low) > 1:
                return list(zip(levels[low].tolist(), levels[high].tolist(), strict=True))
    return []


def suspicious_temperatures(points: pd.DataFrame, column: str) -> list[str]:
    """Return a warning for each alloy whose temperatures look like the other scale's.

    Evidence is the other alloys of the same file: the alloy lies wholly outside their range, and
    shifting it by 273.15 K would bring it inside. With fewer than three alloys nothing is said.
    """
    ranges = points.groupby("alloy", sort=False)["temperature_K"].agg(["min", "median", "max"])
    if len(ranges) < 3:
        return []
    found = []
    for name, own in ranges.iterrows():
        others = ranges.drop(index=name)
        low, high = others["min"].min(), others["max"].max()
        shift = ZERO_CELSIUS if own["max"] < low else -ZERO_CELSIUS
        outside = own["max"] < low or own["min"] > high
        if outside and low <= own["median"] + shift <= high:
            meant = "Celsius given as kelvin" if shift > 0 else "kelvin given as Celsius"
            if (shift > 0) != (column == "temperature_K"):
                continue
            found.append(
                f"alloy {name!r}: its temperatures ({own['min']:.0f} to {own['max']:.0f} K) lie "
                f"outside those of the {len(others)} other alloys ({low:.0f} to {high:.0f} K) and "
                f"would lie inside if shifted by {shift:+.0f} K: {meant}? Check column {column}"
            )
    return found
