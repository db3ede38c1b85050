"""What a column of an instrument's file is, by its name and its unit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from matml.core.errors import MatmlError
from matml.kinetics.data.units import TEMPERATURES, TIMES, Unit

SIGNAL_UNITS = (
    *("um", "mm", "nm", "m", "pct", "ppm", "1e-3", "10^-3", "1e-6", "10^-6"),
    *("w", "mw", "uw", "w/g", "mw/mg", "w/kg", "uv", "mv", "uv/mg", "mg", "g", "1/k", "1e-6/k"),
)
ROLES = {
    "time": (r"\btime(stamp)?\b|\bzeit(stempel)?\b|\btemps\b|^t$", ""),
    "temperature": (
        r"temp(?!s)|^T$|^T[a-z]$|^TC ?\d*$",
        r"furnace|oven|ofen|program|set|nomin|ref|soll|target|^Tr$",
    ),
    "length": (
        r"length|l(ä|ae)nge|dimension|strain|expan|dilat|displ|elong|al{2}onge|dehn"
        r"|^(d|Δ|delta ?)l\b|^L$",
        "dif|deriv|rate",
    ),
    "heat_flow": (r"heat.?flow|\bh\.?f\.?\b|dsc|dta|w(ä|ae)rmestr|^value$", "ddsc|deriv|program"),
}
"""What a column is by its name, and what makes it second choice."""
MEASURED = r"meas|mess|sample|specimen|prob|\bist\b|^Ts$"
"""What makes a column first choice."""


@dataclass(frozen=True)
class Column:
    """A column of an export.

    Attributes
    ----------
    name, unit
        As the file has them; the unit '' where none is known.
    header
        The text that held both.
    role
        "time", "temperature", "length", "heat_flow" or "".
    choice
        0 where it is measured or of the specimen by its name, 2 where it is set or derived, else 1:
        the least of a role is taken.
    """

    name: str
    unit: str
    header: str
    role: str
    choice: int

    def __str__(self) -> str:
        return f"{self.name} [{self.unit}]" if self.unit else self.name


def _plain(word: str) -> str:
    word = word.strip().lower().replace("µ", "u").replace("μ", "u").replace("%", "pct")
    word = re.sub(r"[°º]\s*|deg(?:ree)?s?[ _]*", "deg", word).replace(" ", "")
    # a clock counts in its last part
    word = re.sub(r"(h+:)?m+(in)?:s+(ec)?", "s", word)
    return re.sub(r"h+:m+(in)?", "min", word)


def is_unit(word: str) -> bool:
    """Return whether a word is a unit of time, temperature or a signal."""
    plain = _plain(word)
    return plain in SIGNAL_UNITS or any(plain in unit.words for unit in (*TIMES, *TEMPERATURES))


def unit_among(word: str, units: Sequence[Unit]) -> Unit | None:
    """Return the unit that a word means, None where it means none of these."""
    return next((unit for unit in units if _plain(word) in unit.words), None)


def told_columns(names: Sequence[str], units: Sequence[str]) -> list[Column]:
    """Return columns by their names and the units beneath."""
    columns = []
    for text, beneath in zip(names, units, strict=True):
        name, unit = text, beneath if is_unit(beneath) else ""
        for pattern in (
            r"(.+?)\s*/?\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]",
            r"(.+?)\s*/\s*(\S+)",
            r"(.+?)[_ ](?:in )?(\S+)",
        ):
            found = re.fullmatch(pattern, text)
            if found and is_unit(found[2]):
                inner = "".join(re.findall(r"[(\[]\s*([^()\[\]]*?)\s*[)\]]", found[1])[:1])
                for word, where in ((unit, f"the line of units, {beneath!r}"), (inner, "it, too")):
                    for kinds in (TEMPERATURES, TIMES):
                        own, other = (unit_among(each, kinds) for each in (found[2], word))
                        if own and other and own != other:
                            raise MatmlError(
                                f"column {text!r} is in {own.name} by its name, but in "
                                f"{other.name} by {where}; correct one of the two"
                            )
                name, unit = found[1].strip(" ,"), found[2]
                break
        role = _role(name)
        if not role:
            measured = (unit_among(unit, TEMPERATURES), unit_among(unit, TIMES))
            role = "temperature" if measured[0] else "time" if measured[1] else ""
        columns.append(Column(name, unit, text, role, _choice(role, name)))
    return columns


def _role(name: str) -> str:
    """Return what a column is by its name, "" where that is not known."""
    # capitals tell t from T, and nothing else
    text = name if len(name) < 4 else name.lower()
    for role, (pattern, _) in ROLES.items():
        if re.search(pattern, text) or (len(name) > 1 and re.search(pattern, text.lower())):
            return role
    return ""


def _choice(role: str, name: str) -> int:
    second = ROLES[role][1] if role else ""
    for choice, pattern in ((2, second), (0, MEASURED)):
        if pattern and (re.search(pattern, name) or re.search(pattern, name.lower())):
            return choice
    return 1
