"""Tables of crystals: a column holds each crystal as text, as a dictionary or as a file's path."""

import ast
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import FIRST_ROW, read_table
from matml.core.text import decode, read_text_table
from matml.structures.errors import BadCrystal
from matml.structures.io.databases import STRUCTURES, entries_of
from matml.structures.io.documents import Document, Documents, file_kind
from matml.structures.labels.values import check_label, label_columns
from matml.structures.settings import StructuresSection

CRYSTALS = ("poscar", "cif", "structure", "atoms", "final_structure", "file", "path")
"""Columns that may hold crystals, the first one present is taken."""
KEYS = ("material_id", "id", "jid", "task_id")
BY_PANDAS = re.compile(r'\s*\{\s*"(?:columns|index|data)"\s*:\s*\[')


def table_stem(name: str) -> str:
    """Return `elastic` for `elastic.csv.gz`."""
    lowered = name.lower()
    endings = (".csv.gz", ".csv", ".parquet", ".json")
    return name[: -len(next((end for end in endings if lowered.endswith(end)), "")) or None]


def read_table_documents(
    path: Path, found: Documents, settings: StructuresSection, *, required: bool
) -> bool:
    """Add the rows of a table with a column of crystals; return False where it has none.

    Raises
    ------
    MatmlError
        Where it has none and is `required`.
    """
    parquet = path.name.lower().endswith(".parquet")
    table = read_table(path) if parquet else read_text_table(path)
    column = crystal_column(table)
    # a file of labels names its crystals by path, too
    if column is None or (column in ("file", "path") and not required):
        if required:
            raise MatmlError(
                f"{path}: has no column of crystals: `poscar`, `cif`, `structure` (a pymatgen "
                f"dictionary) or `file` (its columns are {', '.join(table.columns)}); a table of "
                "labels alone is given with --labels"
            )
        return False
    add_rows(table, path, found, settings)
    return True


def crystal_column(table: pd.DataFrame) -> str | None:
    """Return the column that holds the crystals, None where there is none."""
    return next((name for name in CRYSTALS if name in table.columns), None)


def json_table(text: str) -> pd.DataFrame | None:
    """Return the table of `DataFrame.to_json(orient="split")` with crystals; None if it is none."""
    if not BY_PANDAS.match(text.lstrip("\ufeff")[:200]):
        return None
    try:
        value = json.loads(text.lstrip("\ufeff"))
        if not isinstance(value, dict) or not {"columns", "data"} <= value.keys():
            return None
        rows = entries_of(value)
    except (ValueError, RecursionError):
        return None  # which its reader tells
    if not any(name in STRUCTURES for name in value["columns"]):
        return None
    return pd.DataFrame(rows, dtype=object)


def add_rows(
    table: pd.DataFrame, path: Path, found: Documents, settings: StructuresSection
) -> None:
    """Add a document for every row of a table, with its labels."""
    column = crystal_column(table)
    assert column is not None
    key = next((name for name in KEYS if name in table.columns), None)
    labels, ignored = label_columns(table, {*CRYSTALS, *KEYS, "formula", "family"})
    found.label_names += labels
    notes = table.attrs.get("notes", [])
    found.ignored += [f"{path.name}: column {name}" for name in ignored]
    found.notes += [f"{path.name}: {note}" for note in notes]
    stem = table_stem(path.name)
    columns = {name: table[name].tolist() for name in [*labels, column]}
    names = texts(table[key]) if key else [""] * len(table)
    families = texts(table["family"]) if "family" in table.columns else [""] * len(table)
    lines = table.index.tolist() if table.attrs.get("notes") is not None else range(len(table))
    for place, (line, name) in enumerate(zip(lines, names, strict=True)):
        good, dropped = {}, []
        for label in labels:
            value, reason, remedy = check_label(label, columns[label][place])
            if reason:
                dropped.append((label, reason, remedy))
            elif value == value:
                good[label] = value
        kind, text, bad = _crystal(columns[column][place], column, path.parent, settings)
        found.items.append(
            Document(
                id=f"{stem}/{name or line + FIRST_ROW}",
                source=path.name,
                row=line + FIRST_ROW,
                kind=kind,
                text=text,
                material_id=name,
                family=families[place],
                bad=bad,
                labels=good,
                dropped=tuple(dropped),
            )
        )


def texts(cells: Iterable[Any]) -> list[str]:
    """Return cells as stripped text, '' where they are empty."""
    return ["" if pd.isna(cell) else str(cell).strip() for cell in cells]


def _crystal(
    cell: Any, column: str, folder: Path, settings: StructuresSection
) -> tuple[str, str, BadCrystal | None]:
    """Return kind and text of a crystal in a cell, or why there is none."""
    if isinstance(cell, dict):
        return "json", json.dumps(cell), None
    text = "" if cell is None or cell is pd.NA else str(cell)
    start = text.lstrip()
    if not start or start.lower() == "nan":
        return (
            "",
            "",
            BadCrystal(f"the column {column} is empty", "give the crystal, or leave out the row"),
        )
    if start[0] in "{[":
        return _of_dictionary(start, column)
    if "_cell_length_a" in text.lower():
        return "cif", text, None
    lines = start.splitlines()
    if len(lines) > 1:
        extended = lines[0].strip().isdigit() and "lattice=" in lines[1].lower()
        return ("xyz" if extended else "poscar"), text, None
    place = folder / start
    kind = file_kind(start) or ("cif" if column == "cif" else "")
    if not kind or not place.is_file():
        return (
            "",
            "",
            BadCrystal(
                f"the column {column} holds {start[:60]!r}, neither a crystal nor a file beside "
                "the table",
                "give POSCAR or CIF text, a pymatgen dictionary, or a path relative to the table",
            ),
        )
    if place.stat().st_size > settings.max_file_MB * 1e6:
        return (
            "",
            "",
            BadCrystal(
                f"{start} is larger than {settings.max_file_MB:g} MB",
                "raise structures.max_file_MB",
            ),
        )
    try:
        return kind, decode(place.read_bytes()), None
    except (OSError, ValueError) as error:
        return "", "", BadCrystal(f"{start} cannot be read ({error})", "give a text file")


def _of_dictionary(text: str, column: str) -> tuple[str, str, BadCrystal | None]:
    """Return the crystal of a dictionary written as JSON or by Python."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        try:
            return "json", json.dumps(ast.literal_eval(text)), None
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return (
                "",
                "",
                BadCrystal(
                    f"the column {column} holds a dictionary that cannot be read",
                    "write it with json.dumps(structure.as_dict())",
                ),
            )
    return "json", text, None
