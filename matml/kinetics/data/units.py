"""Columns in the units that people measure in, put in the usual ones and said so."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import FIRST_ROW

ZERO_CELSIUS = 273.15
ZERO_FAHRENHEIT = 459.67

VICKERS_OF_HRC = (
    *(160, 166, 173, 180, 188, 196, 204, 213, 222, 230, 238, 243, 248, 254, 260, 266, 272, 279),
    *(286, 294, 302, 310, 318, 327, 336, 345, 354, 363, 372, 382, 392, 402, 412, 423, 434, 446),
    *(458, 471, 484, 498, 513, 528, 544, 560, 577, 595, 613, 633, 653, 674, 697, 720, 746, 772),
    *(800, 832, 865, 900, 940),
)
"""Vickers numbers of 0, 2, ..., 20 and then of 21, 22, ..., 68 HRC: steels, ASTM E140, table 1.

Below 20 HRC the standard's older editions gave them in brackets, as beyond the normal range.
"""

ROCKWELL = (*range(0, 20, 2), *range(20, 69))


@dataclass(frozen=True)
class Unit:
    """How a number in some unit becomes one in the usual unit: factor * number + offset.

    Attributes
    ----------
    words
        As it may be written, in lower case.
    table
        Of a conversion that is not linear: rising numbers, and what they are in the usual unit.
        Numbers outside of it have none.
    """

    name: str
    words: tuple[str, ...]
    factor: float = 1.0
    offset: float = 0.0
    table: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def usual(self, number: np.ndarray) -> np.ndarray:
        """Return numbers [N] in the usual unit, NaN where the table has none."""
        if self.table is not None:
            return np.interp(number, *self.table, left=np.nan, right=np.nan)
        # what is too large for a number is infinite, which is refused by its row
        with np.errstate(over="ignore"):
            return number * self.factor + self.offset

    def usual_sigma(self, sigma: np.ndarray, usual: np.ndarray) -> np.ndarray:
        """Return standard deviations [N] in the usual unit, of numbers [N] in that unit."""
        if self.table is None:
            return sigma * self.factor
        numbers, there = self.table
        number = np.interp(usual, there, numbers)
        low = np.maximum(number - sigma, numbers[0])
        high = np.minimum(number + sigma, numbers[-1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return sigma * (self.usual(high) - self.usual(low)) / (high - low)


def _per_time(*kinds: tuple[str, tuple[str, ...], float]) -> tuple[Unit, ...]:
    """Return the units of rates: a quantity by second, minute or hour."""
    return tuple(
        Unit(
            f"{name}per_{time}",
            tuple(f"{w}per_{t}" for w in (name.lower(), *words) for t in (time, *others)),
            factor / seconds,
        )
        for name, words, factor in kinds
        for time, others, seconds in (
            ("s", ("sec", "second"), 1),
            ("min", ("minute",), 60),
            ("h", ("hr", "hour"), 3600),
        )
    )


TEMPERATURES = (
    Unit("K", ("k", "kelvin")),
    Unit("C", ("c", "degc", "celsius", "deg_c"), 1.0, ZERO_CELSIUS),
    Unit("F", ("f", "degf", "fahrenheit", "deg_f"), 5 / 9, ZERO_FAHRENHEIT * 5 / 9),
)
TIMES = (
    Unit("s", ("s", "sec", "secs", "second", "seconds")),
    Unit("min", ("min", "mins", "minute", "minutes"), 60.0),
    Unit("h", ("h", "hr", "hrs", "hour", "hours"), 3600.0),
    Unit("d", ("d", "day", "days"), 86_400.0),
    Unit("ms", ("ms",), 1e-3),
)
PART = (Unit("", ("", "fraction")), Unit("pct", ("pct", "percent", "vol_pct"), 0.01))
MICROMETRES = (
    Unit("um", ("um", "micron", "microns")),
    Unit("mm", ("mm",), 1e3),
    Unit("nm", ("nm",), 1e-3),
)
VICKERS_LOADS = tuple(f"hv{load}" for load in ("0.5", "0,5", 1, 2, 3, 5, 10, 20, 30, 50, 100))
NANOMETRES = (Unit("nm", ("nm",)), Unit("um", ("um", "micron", "microns"), 1e3))

QUANTITIES: Mapping[str, tuple[Unit, ...]] = {
    "temperature": TEMPERATURES,
    "start_temperature": TEMPERATURES,
    "peak_temperature": TEMPERATURES,
    "Ms": TEMPERATURES,
    "Bs": TEMPERATURES,
    "reference_temperature": TEMPERATURES,
    "time": TIMES,
    "heating_rate": _per_time(("K_", ("c_", "degc_"), 1.0), ("F_", ("degf_",), 5 / 9)),
    "fraction_transformed": PART,
    "martensite_fraction": PART,
    "ttt_fraction": PART,
    "assumed_fraction": PART,
    "strain": PART,
    "strain_rate": _per_time(("", ("1_",), 1.0)),
    "grain_size": MICROMETRES,
    "initial_grain_size": MICROMETRES,
    "particle_radius": NANOMETRES,
    "hardness": (
        Unit("HRC", ("hrc",)),
        Unit("HV", ("hv", "vickers", *VICKERS_LOADS), table=(VICKERS_OF_HRC, ROCKWELL)),
    ),
}
"""The units that a quantity is read in, the usual one first."""

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "temperature": (
        *("temp", "temperatur", "température", "haltetemperatur", "anlasstemperatur"),
        *("tempering_temperature", "annealing_temperature", "holding_temperature"),
    ),
    "time": (
        *("zeit", "temps", "haltezeit", "anlasszeit", "anlassdauer", "glühdauer"),
        *("tempering_time", "annealing_time", "holding_time"),
    ),
    "peak_temperature": ("peaktemperatur",),
    "Ms": ("martensite_start", "martensitstart"),
    "Bs": ("bainite_start", "bainitstart"),
    "heating_rate": ("heizrate", "aufheizrate"),
    "fraction_transformed": (
        *("transformed_fraction", "umgewandelter_anteil", "recrystallised_fraction"),
        "recrystallized_fraction",
    ),
    "martensite_fraction": ("martensitanteil",),
    "hardness": ("härte", "haerte", "dureté"),
    "grain_size": ("korngröße", "korngrösse", "korngroesse"),
}
"""What a quantity is called besides, in lower case."""

NAMES = {name: q for q in QUANTITIES for name in (q.lower(), *OTHER_NAMES.get(q, ()))}
BY_LENGTH = sorted(NAMES, key=len, reverse=True)

FUNCTIONS = {
    "logarithms": re.compile(
        r"(?:log[_\s]?(?:10)?|lg|ln)(?![a-z0-9])(?:\s*[(\[]\s*(.+?)\s*[)\]]|[\s_]*(.+))"
    ),
    "reciprocals": re.compile(r"10*\s*/\s*(?:(temperature|temp|t)\b.*)"),
}
"""Names of columns that hold a function of a quantity, which is in their last group."""
CLOCK = re.compile(r"(\d{1,4}):([0-5]\d):([0-5]\d(?:\.\d+)?)")

PLAIN = ("alloy", "run", "path", "sigma", "simulated")
"""Columns without a unit, found whatever their capitals."""
COMPARED = (
    *("fraction_transformed", "martensite_fraction", "hardness"),
    *("peak_temperature", "Ms", "Bs"),
)
"""Measured quantities that are compared as they are, so that their unit is that of `sigma`."""
SIGMA = re.compile(r"sigma(?:[\s_]*[(\[/_\s]\s*(.+?)\s*[)\]]?)?")
UNCERTAIN = re.compile(
    r"^sigma(?![\s_]*phase)|±|(?:^|[\s_(])(?:std(?:ev|dev)?|s\.?d|sem|err(?:ors?)?|uncertaint(?:y|ies)|unsicherheit|"
    r"fehler|standard[\s_]?(?:deviation|error)|standardabweichung|incertitude)(?:$|[\s_.,()\[/])"
)
"""What names of columns call an uncertainty."""
ALLOY_NAMES = ("steel", "grade", "legierung", "stahl", "werkstoff")


@dataclass
class Table:
    """A table of text in usual units.

    Attributes
    ----------
    cells
        The table, its columns named and measured in the usual way.
    original
        As the file has it.
    headers
        What the file calls a column, by its usual name; only where that differs.
    notes
        What was understood, one sentence each.
    bad
        Rows whose number has no equal in the usual unit: index, usual name, reason and remedy.
    """

    cells: pd.DataFrame
    original: pd.DataFrame
    headers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    bad: list[tuple[int, str, str, str]] = field(default_factory=list)

    def given(self, index: int, name: str) -> tuple[str, str]:
        """Return a cell as the file has it: its column and text."""
        header = self.headers.get(name, name)
        return header, str(self.original[header][index]) if header in self.original else ""

    def lacking(self, name: str) -> str:
        """Return what to do about a column that is missing, by what stands there instead."""
        quantity = next((q for q in QUANTITIES if usual_name(q) == name), None)
        if quantity is None:
            return ""
        names = ", ".join(_named(quantity, unit) for unit in QUANTITIES[quantity])
        for header in self.original:
            if kind := _function_of(str(header).lower(), quantity):
                return (
                    f"column {header!r} holds {kind} by its name: give the numbers themselves, as "
                    f"one of {names}"
                )
            found, word = _split(str(header))
            if found == quantity:
                what = f"names the unit {word!r}, which is not known" if word else "names no unit"
                return f"column {header!r} {what}: call it one of {names}"
        return f"give one of {names}" if len(QUANTITIES[quantity]) > 1 else ""


def usual_name(quantity: str) -> str:
    """Return the column of a quantity in its usual unit."""
    return _named(quantity, QUANTITIES[quantity][0])


def _named(quantity: str, unit: Unit) -> str:
    return f"{quantity}_{unit.name}".rstrip("_")


def _split(header: str) -> tuple[str, str]:
    """Return the quantity that a header names, '' where none is known, and its unit's word."""
    text = header.strip().lower().replace("µ", "u").replace("μ", "u").replace("%", "pct")
    text = re.sub(r"°\s*", "deg", text)
    for pattern in (r"(.+?)\s*[(\[]\s*(.*?)\s*[)\]]", r"(.+?)\s*/\s*(.+)", r"(.+)"):
        if found := re.fullmatch(pattern, text):
            name, *words = found.groups()
            name = re.sub(r"[\s-]+", "_", name.strip())
            symbol = re.fullmatch(r"t_(.+)", f"{name}_{words[0]}" if words else name)
            if symbol:
                # the unit tells T from t
                word = _word(symbol[1])
                return next((q for q in ("temperature", "time") if _unit(q, word)), ""), word
            for known in BY_LENGTH:
                if words and name == known:
                    return NAMES[known], _word(words[0])
                if not words and f"{name}_".startswith(f"{known}_"):
                    return NAMES[known], _word(name[len(known) :])
            if _unit("hardness", name):
                # a scale alone says what was measured
                return "hardness", name
    return "", ""


def _function_of(header: str, quantity: str) -> str:
    """Return of which function of a quantity a column is by its name, "" where of none."""
    for kind, form in FUNCTIONS.items():
        if found := form.fullmatch(header):
            inner = found[found.lastindex or 0]
            symbol = {"logarithms": "time", "reciprocals": "temperature"}[kind]
            if _split(inner)[0] == quantity or (inner == "t" and symbol == quantity):
                return kind
    return ""


def _word(text: str) -> str:
    text = re.sub(r"\s*(?:/|\bper\b)\s*", "_per_", text)
    return re.sub(r"[\s_]+", "_", text).strip("_")


def _seconds(clock: re.Match[str]) -> str:
    return repr(int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3]))


def _unit(quantity: str, word: str) -> Unit | None:
    return next((unit for unit in QUANTITIES.get(quantity, ()) if word in unit.words), None)


def unit_of(header: str) -> tuple[str, Unit]:
    """Return the quantity and unit that a header names.

    Raises
    ------
    KeyError
        Where it names none.
    """
    quantity, word = _split(header)
    unit = _unit(quantity, word)
    if unit is None:
        raise KeyError(header)
    return quantity, unit


def alloy_column(headers: Iterable[object]) -> str | None:
    """Return the first header that names alloys, `alloy` before the others; None without one."""
    given = list(map(str, headers))
    found = {header.strip().lower(): header for header in given} | {h: h for h in given}
    return next((found[name] for name in ("alloy", *ALLOY_NAMES) if name in found), None)


def _units_beneath(raw: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the units of a first row that holds nothing else put into its header."""
    if raw.empty or any(map(str.isdigit, "".join(map(str, raw.iloc[0])))):
        return raw
    cells = {header: str(cell).strip(" -()[]") for header, cell in raw.iloc[0].items()}
    named = {}
    for header, cell in ((str(header), cell) for header, cell in cells.items() if cell):
        quantity, word = _split(header)
        own, beneath = _unit(quantity, word), _unit(quantity, _split(f"{quantity} ({cell})")[1])
        if beneath is None or header in PLAIN or (word and own is not beneath):
            return raw  # of two units the conversion tells
        named[header] = header if word else f"{header} ({cell})"
    if not named:
        return raw
    units = ", ".join(f"{header} in {cells[header]}" for header in named)
    notes = [
        *raw.attrs.get("notes", []),
        f"units read from row {raw.index[0] + FIRST_ROW}: {units}",
    ]
    table = raw.iloc[1:].rename(columns=named)
    table.attrs = {**raw.attrs, "notes": notes}
    return table


def in_usual_units(raw: pd.DataFrame, file: object) -> Table:
    """Return a table of text with its columns named and measured in the usual way.

    `Time (min)`, `time_min` and `time / min` are one column. What is no number stays as it is, to
    be judged with its row; columns that name no known quantity stay, too.

    Raises
    ------
    MatmlError
        Where a quantity stands in two columns.
    """
    raw = _units_beneath(raw)
    result = Table(raw, raw, notes=list(raw.attrs.get("notes", [])))
    columns: dict[str, pd.Series[str]] = {}
    alloys = alloy_column(raw)
    for header in map(str, raw):
        quantity, word = _split(header)
        unit = _unit(quantity, word)
        name, plain = header, header.strip().lower()
        if unit is not None:
            name = usual_name(quantity)
        elif plain in PLAIN:
            name = plain
        elif header == alloys:
            name = "alloy"
        if name in columns:
            both = sorted([result.headers.get(name, name), header], key=lambda h: h != name)
            raise MatmlError(f"{file}: has both {both[0]} and {both[1]}; give one")
        columns[name] = raw[header]
        # a row of units below the header
        other = (
            _unit(quantity, _split(f"{quantity} ({raw[header].iloc[0]})")[1]) if len(raw) else None
        )
        if unit is not None and other not in (None, unit):
            raise MatmlError(
                f"{file}: column {header!r} is in {unit.name} by its name, but in "
                f"{other.name} by its first cell, {raw[header].iloc[0]!r}; correct one of the two"
            )
        if name != header:
            result.headers[name] = header
        if unit is not None and header != _named(quantity, unit):
            result.notes.append(f"column {header!r} read as {_named(quantity, unit)}")
        if unit is TIMES[0] and any(":" in cell for cell in raw[header]):
            clocks = raw[header].map(CLOCK.fullmatch)
            columns[name] = raw[header].where(clocks.isna(), clocks.map(_seconds, "ignore"))
            if clocks.notna().any():
                result.notes.append(f"column {header!r}: clocks, h:mm:ss, read as seconds")
        if unit is None or unit is QUANTITIES[quantity][0]:
            continue
        number = pd.to_numeric(raw[header], errors="coerce").to_numpy(float)
        converted = unit.usual(number)
        if unit.table is not None:
            low, high = unit.table[0][0], unit.table[0][-1]
            result.notes.append(
                f"column {header!r} was converted to {name} by the table for steels of ASTM E140"
            )
            for index in raw.index[np.isfinite(number) & np.isnan(converted)]:
                reason = f"the conversion of {unit.name} to {name} goes from {low:g} to {high:g}"
                result.bad.append((int(index), name, reason, "give the number as measured in HRC"))
        texts = [
            str(cell) if value != value else repr(float(value))
            for cell, value in zip(raw[header], converted, strict=True)
        ]
        columns[name] = pd.Series(texts, index=raw.index, dtype=str)
    _read_sigma(result, columns, file)
    result.cells = pd.DataFrame(columns, index=raw.index)
    return result


def _read_sigma(table: Table, columns: "dict[str, pd.Series[str]]", file: object) -> None:
    """Put the column `sigma` in the unit of what was measured, and name what is none.

    Raises
    ------
    MatmlError
        Where it does not say its unit beside a measurement that was converted, or stands twice.
    """
    measured = [q for q in COMPARED if usual_name(q) in columns]
    for header in [h for h in columns if UNCERTAIN.search(h.lower())]:
        found = SIGMA.fullmatch(header.lower().replace("%", "pct"))
        word = _word(found[1] or "") if found else ""
        unit = _unit(measured[0], word) if found and word and len(measured) == 1 else None
        if header == "sigma" and len(measured) == 1 and (columns[header] != "").any():
            name = usual_name(measured[0])
            own = unit_of(table.headers.get(name, name))[1]
            if own.table is not None or own.factor != 1:
                usual = QUANTITIES[measured[0]][0].name or "fraction"
                raise MatmlError(
                    f"{file}: column 'sigma' is in {own.name}, as {table.headers[name]!r}, or in "
                    f"{usual}, as it is compared? Call it sigma_{own.name} or sigma_{usual}"
                )
        elif unit is not None:
            if "sigma" in columns:
                raise MatmlError(f"{file}: has both sigma and {header}; give one")
            usual, given = (
                pd.to_numeric(columns[name], errors="coerce").to_numpy(float)
                for name in (usual_name(measured[0]), header)
            )
            texts = [
                str(cell) if value != value else repr(float(value))
                for cell, value in zip(columns[header], unit.usual_sigma(given, usual), strict=True)
            ]
            columns["sigma"] = pd.Series(texts, index=table.original.index, dtype=str)
            del columns[header]
            table.headers["sigma"] = header
            table.notes.append(f"column {header!r} read as sigma of {usual_name(measured[0])}")
        elif header != "sigma":
            table.notes.append(
                f"column {header!r} is not taken for the uncertainty of the measurement: that is "
                "called sigma, a standard deviation"
            )
