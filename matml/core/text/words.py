"""Words of messages, and names of files in them."""

import math
import os
from collections.abc import Sequence


def plural(what: str, number_of: int) -> str:
    """Return a word in the singular for one, else in the plural."""
    return what if number_of == 1 else f"{what}s"


def number_text(value: float | None, digits: int = 3, power: str = "e{}", plus: str = "") -> str:
    """Return a number for people: `digits` significant ones, thousands separated, a true minus.

    Parameters
    ----------
    power
        How a power of ten is written.
    plus
        Stands before numbers above zero.
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
    size = int(exponent)
    if size >= 6 or size < -4:
        text = mantissa + power.format(size).replace("-", "−")
    else:
        text = f"{abs(value):,.{max(0, digits - 1 - size)}f}"
    return ("−" if value < 0 else plus) + text


def interval_text(low: float, high: float, digits: int = 3, plus: str = "") -> str:
    """Return `[low, high]` in numbers for people."""
    return f"[{number_text(low, digits, plus=plus)}, {number_text(high, digits, plus=plus)}]"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return `5`, `5 and 10` or `5, 10 and 20`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def readable(name: str) -> str:
    """Return a name without the marks that stand for bytes that are no UTF-8, which no file takes.

    Such bytes are taken as Windows-1252.
    """
    if name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name):
        return name
    try:
        return os.fsencode(name).decode("cp1252", errors="replace")
    except UnicodeEncodeError:
        return name.encode("utf-8", "replace").decode()
