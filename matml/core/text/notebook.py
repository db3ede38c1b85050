"""What a notebook shows of an object: a line, a table, notes."""

from collections.abc import Sequence
from html import escape

import pandas as pd


def as_html(title: str, table: pd.DataFrame | None = None, notes: Sequence[str] = ()) -> str:
    """Return HTML of a title, a table without its index, and notes; all of it escaped."""
    parts = [f"<b>{escape(title)}</b>"]
    if table is not None:
        number = "{:.4g}".format
        parts.append(table.to_html(index=False, border=0, na_rep="", float_format=number))
    if notes:
        parts.append(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in notes)}</ul>")
    return "".join(parts)
