"""JSON files of many crystals that are too large to be read as a whole: entry after entry."""

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any
from zlib import error as ZlibError

from matml.core.errors import MatmlError
from matml.core.text.encoding import opened
from matml.core.text.json_stream import JsonStream
from matml.structures.io.documents import Document, rejected
from matml.structures.io.json.databases import (
    LISTS,
    STRUCTURES,
    check_columns,
    entry_name,
    is_crystal,
    split_row,
)
from matml.structures.io.tables import Table, are_rows, crystal_text
from matml.structures.settings import StructuresSection

SAMPLE = 100
"""Entries by which a table is told from a database's entries."""


def read_large_json(
    path: Path, name: str, settings: StructuresSection
) -> Iterator[Document | Table]:
    """Yield the table of a large JSON file, or a document for each of its entries.

    Understood are a list of entries, an object with such a list (`data`, `structures`, …), crystals
    by name, and tables by pandas with orient="split" or "records". What cannot be read is a
    document that says why; what stands before is kept.
    """
    first, rest = _sampled(_entries(path, settings))
    entries = chain(first, rest)
    if first and are_rows(first) and any(key in STRUCTURES for key in first[0]):
        yield Table(path, required=False, entries=entries)
        return
    taken = set[str]()
    try:
        for number, entry in enumerate(entries, start=1):
            suffix = entry_name(entry)
            suffix = str(number) if not suffix or suffix in taken else suffix
            taken.add(suffix)
            identity = f"{name}#{suffix}"
            kind, text, bad = crystal_text(entry, f"entry {number}", path.parent, settings)
            yield Document(identity, name, -1, kind, text, bad=bad)
        if not taken:
            yield rejected(name, name, "holds no entry", "give at least one structure")
    except MatmlError as error:
        reason = str(error).removeprefix(f"{path}: ")
        remedy = "write the file again, or split it into smaller ones"
        yield rejected(name, name, reason, remedy)


def _sampled(entries: Iterator[Any]) -> tuple[list[Any], Iterator[Any]]:
    """Return the first entries, and the rest, which ends in the error that the sample met."""

    def failing(error: MatmlError) -> Iterator[Any]:
        yield from ()
        raise error

    first: list[Any] = []
    try:
        first.extend(islice(entries, SAMPLE))
    except MatmlError as error:
        return first, failing(error)
    return first, entries


def _entries(path: Path, settings: StructuresSection) -> Iterator[Any]:
    """Yield the entries of a file.

    Raises
    ------
    MatmlError
        Where it is no JSON, cut short or damaged, saying after which entry.
    """
    number = 0
    try:
        with opened(path, None) as file:
            stream = JsonStream(file, int(settings.max_file_MB * 1e6))
            for entry in _of_stream(stream):
                yield entry
                number += 1
            stream.end()
    except (ValueError, OSError, EOFError, RecursionError, ZlibError) as error:
        after = f" after {number:,} entries" if number else ""
        raise MatmlError(f"{path}: cannot be read on{after} ({error})") from None


def _of_stream(stream: JsonStream) -> Iterator[Any]:
    if stream.peek() == "[":
        for _ in stream.elements():
            yield stream.value()
        return
    columns: list | None = None
    names: Any = None
    for key in stream.members():
        if key in LISTS and stream.peek() == "[":
            for row, _ in enumerate(stream.elements(), start=1):
                entry = stream.value()
                if columns is None and isinstance(entry, list):
                    raise ValueError("the rows (`data`) stand before `columns`: write these first")
                if columns is None:
                    yield entry
                elif names is not None and row > len(names):
                    raise ValueError(f"`index` has {len(names)} names, but `data` more rows")
                else:
                    yield split_row(columns, entry, str(names[row - 1] if names else row), row)
            continue
        value = stream.value()
        if key == "columns" and isinstance(value, list):
            check_columns(columns := value)
        elif key == "index" and isinstance(value, list):
            names = value
        elif is_crystal(value):
            yield {**value, "id": key}
