"""Whether a sign in the numbers of a file parts thousands or decimals."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import log

from matml.core.errors import MatmlError

OTHER_SIGN = {",": ".", ".": ","}
THOUSANDS = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:[{sign}]\d{{3}})+") for sign in OTHER_SIGN}
"""Numbers whose sign may part thousands."""
BOTH_SIGNS = {
    point: re.compile(rf"[+-]?\d{{1,3}}(?:[{sign}]\d{{3}})+[{point}]\d+")
    for point, sign in OTHER_SIGN.items()
}
"""Numbers whose thousands are parted by the other sign, for each decimal sign."""
SURE = 2.5
"""How many times as far, in their logarithms, neighbours lie apart in the wrong reading."""


def signs_of_thousands(
    rows: Mapping[int, Sequence[str]], names: Sequence[str], decimal: str | None = None
) -> list[str]:
    """Return the sign that parts thousands in each column, "" where none does.

    `1,005` is a number either way, and the file decides: a sign is decimal where it stands before
    other than three digits or behind a zero, and parts thousands where it stands twice or where
    numbers go on with it from those without (`990`, `1,000`).

    Parameters
    ----------
    rows
        Cells by line number.
    names
        Of the columns.
    decimal
        The decimal sign where it is known.

    Raises
    ------
    MatmlError
        Where the file does not decide, or decides both.
    """
    columns = [
        "\n".join([row[k] for row in rows.values() if k < len(row)]) for k in range(len(names))
    ]
    found = {sign: [_use(column, sign) for column in columns] for sign in OTHER_SIGN}
    parted = [""] * len(names)
    for sign, uses in found.items():
        decimals, other = "decimal" in uses, "decimal" in found[OTHER_SIGN[sign]]
        thousands = "thousands" in uses or decimal == OTHER_SIGN[sign]
        if decimal == sign or not any(use not in ("", "decimal") for use in uses):
            continue
        if thousands and not decimals:
            parted = [sign if use else before for use, before in zip(uses, parted, strict=True)]
        elif thousands or (not decimals and ("unclear" in uses or other)):
            _ask(rows, names, sign, [k for k, use in enumerate(uses) if use not in ("", "decimal")])
    return parted


def _ask(
    rows: Mapping[int, Sequence[str]], names: Sequence[str], sign: str, places: Sequence[int]
) -> None:
    """Refuse the first number of these columns that may be read in two ways."""
    for line, row in rows.items():
        for k in places:
            if k < len(row) and THOUSANDS[sign].fullmatch(row[k]):
                raise MatmlError(
                    f"line {line}, column {names[k]!r}: {row[k]!r}: thousands or decimals? Give "
                    f"--decimal {OTHER_SIGN[sign]!r} for thousands or --decimal {sign!r}, or write "
                    "numbers without separators of thousands"
                )


def _use(column: str, sign: str) -> str:
    """Return for what a sign stands in a column, a cell a line, "" where it does not.

    "either" where all numbers have it and three digits behind it.
    """
    if sign not in column:
        return ""
    # what is in every file is found at once
    either = rf"[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}"
    if re.fullmatch(rf"(?:(?:{either})?\n)+", f"{column}\n"):
        return "either"
    if re.search(rf"^(?!{either}$)[+-]?\d*[{sign}]\d*(?:e[+-]?\d+)?$", column, re.I | re.M):
        return "decimal"
    taken, plain = list[str](), list[bool]()
    for cell in column.splitlines():
        if BOTH_SIGNS[sign].fullmatch(cell):
            return "decimal"
        if BOTH_SIGNS[OTHER_SIGN[sign]].fullmatch(cell):
            return "thousands"
        if THOUSANDS[sign].fullmatch(cell):
            if cell.count(sign) > 1:
                return "thousands"
        elif not cell.lstrip("+-").isdecimal():
            continue
        taken.append(cell.lstrip("+-"))
        plain.append(sign not in cell)
    if any(len(cell) > 3 for cell, whole in zip(taken, plain, strict=True) if whole):
        # else it would be parted, too
        return "" if all(plain) else "decimal"
    if all(plain):
        return ""
    if not any(plain):
        return "either"
    as_decimal = as_thousands = 0.0
    for k, (whole, then) in enumerate(pairwise(plain)):
        number, signed = taken[k : k + 2] if whole else taken[k : k + 2][::-1]
        if whole != then and int(number):
            near = log(float(signed.replace(sign, ".")) / int(number))
            as_decimal += abs(near)
            as_thousands += abs(near + log(1000))
    if as_decimal > SURE * as_thousands:
        return "thousands"
    return "decimal" if as_thousands > SURE * as_decimal else "unclear"
