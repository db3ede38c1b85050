"""What an instrument's file says of rates, steps, holds and temperatures, against what was read.

A program in the preamble (`Ramp 10.00 °C/min to 600 °C`), the interval of sampling, a column of
rates, a second clock or thermometer: each may show that a column holds another unit than its header
says. It counts only where nothing in the record meets what is declared in the unit of the header,
and something does in another one: programs are not always followed, and headers are copied.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from matml.core.errors import MatmlError
from matml.kinetics.data.plausible import room_note
from matml.kinetics.data.units import TEMPERATURES, TIMES, ZERO_CELSIUS, Unit
from matml.kinetics.instruments.columns import Column, unit_among
from matml.kinetics.instruments.export import Export, over_midnight
from matml.kinetics.instruments.segments import HOLD, segments_of

LOOSE, CLOSE = 1.25, 1.04
"""Ratios within which a quantity is what is declared: as the header says, since furnaces lag
behind their program; and in another unit, which is to be plain."""
NEAR_K = {"temperature": (30.0, 8.0), "thermometer": (120.0, 40.0)}
"""Likewise for a temperature of the program, and the mean of another thermometer."""
COLDEST_K = 77.0
"""Dilatometers are cooled with liquid nitrogen."""
WARM_K = 374.0
"""Every file declares a colder one, which tells nothing."""
COOLED_K, HEATED_K = 250.0, 750.0
"""A record that begins below the first is of an instrument with cooling, and ends below the
second."""
EVEN, UNEVEN = 1e-3, 0.05
"""Spread of the steps of a clock, in their mean, and of those of a temperature."""
ROOM = 15.0
"""Number at which temperatures begin at least, in any unit."""

NUMBER = r"(?<![\w.,])(?P<number>\d+(?:[.,]\d+)?)"
DEGREE = r"(?<![A-Za-z])(?P<degree>K|[°º]\s?[CF]|deg ?[CF]|[CF])"
CLOCK = r"(?P<clock>ms|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?)\b"
RATE = rf"{DEGREE}\s*(?:/|per)\s*{CLOCK}"
WORDS = {
    "step": r"(?i:sampling|acquisition|scan (?:interval|period)|(?:data|time) (?:interval|step))",
    "hold": r"(?i:isothermal|hold(?:ing)?|dwell|soak(?:ing)?|haltezeit|duration|dauer)",
}
FORMS = {
    "rate": (rf"{NUMBER}\s*[(\[]?{RATE}", rf"[(\[]{RATE}[)\]][\s:=;,]*{NUMBER}"),
    "temperature": (rf"{NUMBER}\s*[(\[]?{DEGREE}(?![)\]]?\s*(?:/|per)\s*[a-z]|\w)",),
} | {
    kind: (
        rf"{words}[^\d;|]{{0,20}}{NUMBER}\s*{CLOCK}",
        rf"{words}[^\d;|]{{0,20}}[(\[]{CLOCK}[)\]][\s:=;,]*{NUMBER}",
    )
    for kind, words in WORDS.items()
}
"""How lines say it: the number before its unit, or behind it."""


UNITS = {
    "rate": "K/s",
    "temperature": "K",
    "thermometer": "K",
    "step": "s",
    "hold": "s",
    "span": "s",
}


@dataclass(frozen=True)
class Declared:
    """A quantity that a file declares.

    Attributes
    ----------
    kind
        "rate" in K/s, "step", "hold" or "span" of all times in s, "temperature" in K, or
        "thermometer": what another column shows on average, in K.
    """

    kind: str
    usual: float
    told: str


def declared_in(preamble: Sequence[str]) -> Iterator[Declared]:
    """Yield what the lines above the numbers declare."""
    for place, line in enumerate(preamble, 1):
        told = f"line {place} says {line.strip()[:80]!r}"
        for kind, forms in FORMS.items():
            for found in (found for form in forms for found in re.finditer(form, line)):
                named = found.groupdict()
                degree = unit_among(named.get("degree", ""), TEMPERATURES)
                clock = unit_among(named.get("clock", ""), TIMES)
                usual = float(named["number"].replace(",", "."))
                if kind == "temperature" and degree:
                    usual = usual * degree.factor + degree.offset
                elif degree and clock:
                    usual *= degree.factor / clock.factor
                elif clock:
                    usual *= clock.factor
                if usual > (WARM_K if kind == "temperature" else 0):
                    yield Declared(kind, usual, told)


def _beside(
    export: Export, rows: np.ndarray, moving: np.ndarray, taken: Sequence[Column]
) -> Iterator[Declared]:
    """Yield what other columns than those taken say in rows, some of them on the move."""
    for place, column in enumerate(export.columns):
        own = export.numbers[rows, place]
        if column in taken or not np.isfinite(own).all():
            continue
        told = f"column {column.header!r} says"
        if rate := re.search(RATE, column.header):
            degree, clock = (
                unit_among(word, units)
                for word, units in zip(rate.groups(), (TEMPERATURES, TIMES), strict=True)
            )
            usual = float(np.median(np.abs(own[moving]))) if moving.any() else 0.0
            if degree and clock and usual > 0:
                usual *= degree.factor / clock.factor
                yield Declared("rate", usual, told)
        elif column.role == "time":
            seconds = TIMES[0] if export.clock[place] == 2 else unit_among(column.unit, TIMES)
            own = over_midnight(own) if export.clock[place] == 2 else own
            if seconds and own[-1] > own[0]:
                span = float(own[-1] - own[0]) * seconds.factor
                yield Declared("span", span, told)
        elif column.role == "temperature" and (degree := unit_among(column.unit, TEMPERATURES)):
            mean = float(degree.usual(own).mean())
            yield Declared("thermometer", mean, told)


def _shown(kelvin: np.ndarray, second: np.ndarray) -> dict[str, list[float]]:
    """Return what a run shows of each kind that may be declared, temperatures and times as read."""
    rates, holds, levels = [], [], [float(kelvin.min()), float(kelvin.max())]
    for segment in segments_of(second, kelvin):
        time, own = second[segment.rows], kelvin[segment.rows]
        if segment.kind == HOLD:
            holds.append(float(time[-1] - time[0]))
            levels.append(float(own.mean()))
        elif own[0] != own[-1]:
            rates.append(float(abs(own[-1] - own[0]) / (time[-1] - time[0])))
    span = float(second[-1] - second[0])
    return {
        "rate": rates,
        "hold": [*holds, span],
        "span": [span],
        "step": [float(np.median(np.diff(second)))],
        "temperature": levels,
        "thermometer": [float(kelvin.mean())],
    }


def check_declared(
    export: Export,
    rows: np.ndarray,
    kelvin: np.ndarray,
    second: np.ndarray,
    columns: tuple[Column, Column, Column],
    units: tuple[Unit, Unit],
) -> list[str]:
    """Return doubts of a run by what its file declares, one sentence each.

    Parameters
    ----------
    rows
        Of the export that the run consists of, [N].
    kelvin, second
        Temperatures and times, each [N], as read.
    columns
        Taken for temperature, time and signal.
    units
        Of temperature and time, in which they were read.

    Raises
    ------
    MatmlError
        Where what is declared shows that a column holds another unit than was read.
    """
    moving = np.ones(len(rows), dtype=bool)
    for segment in segments_of(second, kelvin):
        moving[segment.rows] &= segment.kind != HOLD
    said = [*declared_in(export.preamble), *_beside(export, rows, moving, columns)]
    if not said:
        return []
    as_read, notes = _shown(kelvin, second), []
    met = {d.kind for d in said if _near(as_read, d, loose=True)}
    for which, usual in enumerate((kelvin, second)):
        read = units[which]
        for other in (unit for unit in (TEMPERATURES, TIMES)[which] if unit is not read):
            changed = [kelvin, second]
            changed[which] = other.usual((usual - read.offset) / read.factor)
            if changed[0].min() < COLDEST_K:
                continue
            there = _shown(*changed)
            if other.name == "F":
                # another thermometer may lie as far off by itself
                there["thermometer"] = []
            for d in (d for d in said if d.kind not in met and _near(there, d, loose=False)):
                closest = min(as_read[d.kind], key=lambda own: abs(own - d.usual), default=0.0)
                met.add(d.kind)
                notes.append(
                    f"column {columns[which].header!r} is read in {read.name}, by which the "
                    f"{d.kind} is {closest:.4g} {UNITS[d.kind]}, but {d.told}, {d.usual:.4g} "
                    f"{UNITS[d.kind]}, as it is if the column is in {other.name}: correct the unit "
                    "of the column, or that"
                )
                if d.kind != "step":
                    raise MatmlError(notes[-1])
    return notes


def _near(shown: dict[str, list[float]], declared: Declared, *, loose: bool) -> bool:
    """Return whether something that a run shows is what is declared."""
    own = np.array(shown[declared.kind])
    if declared.kind in NEAR_K:
        far, limit = np.abs(own - declared.usual), NEAR_K[declared.kind][not loose]
    else:
        far, limit = np.abs(np.log(own / declared.usual)), np.log(LOOSE if loose else CLOSE)
    return bool((far <= limit).any())


def doubts(
    kelvin: np.ndarray, second: np.ndarray, columns: Sequence[Column], units: tuple[Unit, Unit]
) -> list[str]:
    """Return what in a run's own numbers speaks against its units and columns.

    Parameters as of `check_declared`.

    Raises
    ------
    MatmlError
        Where temperature and time are exchanged.
    """
    degree, clock = units
    own = (kelvin - degree.offset) / degree.factor
    time = second / clock.factor
    steps, other = np.diff(own), np.diff(time)
    even = np.ptp(steps) < EVEN * abs(steps.mean())
    # a clock begins at 0 and goes evenly; temperatures, even of an export in even steps, do not
    if abs(own[0]) < EVEN and even and time[0] >= ROOM and np.ptp(other) > UNEVEN * other.mean():
        raise MatmlError(
            f"column {columns[0].header!r} begins at 0 and rises by {steps[0]:.4g} from row to "
            f"row, as a clock; column {columns[1].header!r} begins at {time[0]:.4g} and rises by "
            f"{other.min():.4g} to {other.max():.4g}: are temperature and time exchanged? Correct "
            "the header, or name them by --temperature-column and --time-column"
        )
    told = f"column {columns[0].header!r} is read in {degree.name}, in which the run"
    if note := room_note(own, degree.name):
        return [f"{told} {note} Check the unit"]
    if degree.name == "K" and own[0] <= min(COOLED_K, own.min() + 1) and own.max() > HEATED_K:
        return [
            f"{told} begins at {own[0]:.4g} K, {own[0] - ZERO_CELSIUS:.4g} C, and reaches "
            f"{own.max():.4g} K: is it in C?"
        ]
    return []
