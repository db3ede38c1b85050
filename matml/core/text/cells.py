"""Cells of tables: numbers as people write them, and texts that a spreadsheet would run."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠].", re.DOTALL)
"""Beginning of a cell that a spreadsheet would run, or that was kept from it by an apostrophe."""
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:inf|nan)", re.IGNORECASE)

BLANK_SIGNS = " '’\xa0\u2009\u202f"
BLANKED = re.compile(rf"[+-]?\d{{1,3}}(?:[{BLANK_SIGNS}]\d{{3}})+(?:[.,]\d+)?")
"""A number whose thousands are parted by a blank, or by an apostrophe as in Switzerland."""
BLANKS = str.maketrans("", "", BLANK_SIGNS)


def guarded(text: object) -> object:
    """Return a cell so that no spreadsheet takes it for a formula: an apostrophe before it.

    Numbers, and what is no text, stay as they are. `unguarded` takes it back.
    """
    if isinstance(text, str) and FORMULA.match(text) and not NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def unguarded(text: object) -> object:
    """Return the text that `guarded` was given."""
    if isinstance(text, str) and text.startswith("'") and FORMULA.match(text):
        return text[1:]
    return text


def each_text(table: pd.DataFrame, change: Callable[[object], object]) -> pd.DataFrame:
    """Return a table with its texts and the names of its columns changed."""
    columns = {
        place: table.iloc[:, place].map(change)
        for place, kind in enumerate(table.dtypes)
        if not pd.api.types.is_numeric_dtype(kind)
    }
    parts = [columns.get(place, table.iloc[:, place]) for place in range(table.shape[1])]
    changed = pd.concat(parts, axis=1) if columns else table
    return changed.set_axis([change(name) for name in table.columns], axis=1)


def to_number(text: str) -> float:
    """Return a number as people write it; unlike `float`, no underscores, but a
    typographic minus.

    Raises
    ------
    ValueError
        For anything else.
    """
    if "_" in text:
        raise ValueError(f"{text!r} is not a number")
    return float(text.replace("\u2212", "-"))


def number_or_nan(text: str) -> float:
    """Return a number as people write it, NaN for a text that is none."""
    try:
        return to_number(text)
    except ValueError:
        return math.nan


def to_numbers(rows: Sequence[Sequence[str]]) -> np.ndarray:
    """Return rows of words as numbers, [rows, words], all of them finite.

    Raises
    ------
    ValueError
        Where a word is none, or rows differ in length.
    """
    # numpy takes 1_5 for 15
    if bad := next((word for row in rows for word in row if "_" in word), None):
        raise ValueError(f"{bad!r} is not a number")
    table = np.array(rows, dtype=np.float64)
    if not np.isfinite(table).all():
        row = np.argwhere(~np.isfinite(table))[0][0]
        raise ValueError(f"{' '.join(rows[row])!r} is not all finite")
    return table
