"""Candidates in chunks: tables are read row by row, so that any number takes constant memory."""

import csv
import gzip
import itertools
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import FIRST_ROW
from matml.structures.errors import BadCrystal
from matml.structures.io.documents import Document, is_table
from matml.structures.io.pages import Pages, warn_of_missing_pages
from matml.structures.io.read import read_inputs
from matml.structures.io.tables import table_stem
from matml.structures.labels.values import RESERVED
from matml.structures.settings import StructuresSection

log = logging.getLogger(__name__)

CHUNK = 1024
"""Candidates scored at once."""
INGESTED_TABLE = "structures.parquet"
CANDIDATE_TABLE = "candidates.parquet"
KEYS = ("material_id", "id")


@dataclass(frozen=True)
class Chunk:
    """Some candidates, in the order of the inputs.

    Attributes
    ----------
    number
        Of the chunk, over all inputs.
    documents
        One per candidate; empty where `crystals` is given.
    crystals
        Rows of a table that `matml structures ingest` wrote, which need no reading.
    extra
        What a table says of each document beyond its structure.
    """

    number: int
    documents: list[Document]
    crystals: pd.DataFrame | None = None
    extra: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __len__(self) -> int:
        return len(self.documents) if self.crystals is None else len(self.crystals)


def read_chunks(
    inputs: Sequence[Path],
    settings: StructuresSection,
    *,
    size: int = CHUNK,
    shard: int = 0,
    shards: int = 1,
) -> Iterator[Chunk]:
    """Yield the chunks of a shard, every `shards`-th one.

    Parameters
    ----------
    inputs
        Tables with a `poscar` column, structure files, zips, folders of these, and folders that
        `matml candidates` or `matml structures ingest` wrote. Tables are read as they are needed.

    Raises
    ------
    MatmlError
        Where an input is missing or of no known kind. What is wrong with one candidate, a broken
        line of a CSV included, stands in its document.
    """
    for path in inputs:
        if not Path(path).exists():
            raise MatmlError(f"--candidates {path}: no such file or folder")
    parts = (part for path in inputs for part in _parts(Path(path), settings, size))
    for number, (documents, crystals, extra) in enumerate(parts):
        if number % shards == shard:
            yield Chunk(number, documents, crystals, extra)


Part = tuple[list[Document], pd.DataFrame | None, pd.DataFrame]


def _parts(path: Path, settings: StructuresSection, size: int) -> Iterator[Part]:
    """The chunks of one input, without their number."""
    if path.is_dir() and (path / INGESTED_TABLE).is_file():
        path = path / INGESTED_TABLE
    elif path.is_dir() and (path / CANDIDATE_TABLE).is_file():
        path = path / CANDIDATE_TABLE
    if path.name == INGESTED_TABLE:
        for table in _parquet_parts(path, size):
            yield [], table, pd.DataFrame(index=range(len(table)))
    elif path.is_dir():
        yield from _folder_parts(path, settings, size)
    elif is_table(path.name):
        yield from _table_parts(path, size, required=True)
    else:
        items = read_inputs([path], settings).items
        warn_of_missing_pages(items)
        for documents in _grouped(iter(items), size):
            yield documents, None, pd.DataFrame(index=range(len(documents)))


def _folder_parts(folder: Path, settings: StructuresSection, size: int) -> Iterator[Part]:
    """Structures of a folder by path, then its tables."""
    names = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
    ]

    pages = Pages()

    def documents() -> Iterator[Document]:
        for path in names:
            name = path.relative_to(folder).as_posix()
            if is_table(name):
                continue
            try:
                items = read_inputs([path], settings).items
            except MatmlError:
                continue  # no structure: notes, pictures and the like
            for item in items:
                pages.add(item)
                own = name if len(items) == 1 else f"{name}/{item.id}"
                yield replace(item, id=own, source=name)

    for found in _grouped(documents(), size):
        yield found, None, pd.DataFrame(index=range(len(found)))
    for sentence in pages.missing():
        log.warning("%s", sentence)
    for path in names:
        if is_table(path.name):
            yield from _table_parts(path, size, required=False)


def _grouped(items: Iterator[Document], size: int) -> Iterator[list[Document]]:
    while group := list(itertools.islice(items, size)):
        yield group


def _parquet_parts(path: Path, size: int) -> Iterator[pd.DataFrame]:
    """Rows of a Parquet file, a few at a time."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=size):
                yield batch.to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        raise MatmlError(
            f"{path}: cannot be read as a table ({str(error).splitlines()[0]})"
        ) from None


def _table_parts(path: Path, size: int, required: bool) -> Iterator[Part]:
    """Documents of a table with a `poscar` column, and its other columns."""
    start = FIRST_ROW
    tables = _parquet_parts(path, size) if path.suffix == ".parquet" else _csv_parts(path, size)
    for table in tables:
        if "poscar" not in table:
            if required:
                raise MatmlError(
                    f"{path}: has no column `poscar` (its columns are {', '.join(table.columns)})"
                )
            return
        documents = _table_documents(path, table, start)
        start += len(table)
        reserved = [name for name in (*RESERVED, "broken") if name in table]
        yield documents, None, table.drop(columns=reserved).reset_index(drop=True)


def _table_documents(path: Path, table: pd.DataFrame, start: int) -> list[Document]:
    stem = table_stem(path.name)
    key = next((name for name in KEYS if name in table), None)
    names = [""] * len(table) if key is None else table[key].fillna("").astype(str).tolist()
    broken = table["broken"] if "broken" in table else [""] * len(table)
    documents = []
    for row, (name, poscar, why) in enumerate(
        zip(names, table["poscar"], broken, strict=True), start
    ):
        name = name.strip()
        bad = BadCrystal(why, "write one value per column, quoting cells that span lines")
        documents.append(
            Document(
                id=f"{stem}/{name or row}",
                source=path.name,
                row=row,
                kind="poscar",
                text="" if why else str(poscar),
                material_id=name,
                bad=bad if why else None,
            )
        )
    return documents


def _csv_parts(path: Path, size: int) -> Iterator[pd.DataFrame]:
    """Rows of a CSV as text, with a column `broken` that says what is wrong with a line."""
    with ExitStack() as stack:
        opener = gzip.open if path.name.lower().endswith(".gz") else open
        try:
            file = stack.enter_context(
                opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
            )
            rows = _csv_rows(file)
            header = next(rows, None)
            if header is None or header[1]:
                raise MatmlError(f"{path}: has no header line; name a column `poscar`")
            columns = [name.strip() for name in header[0]]
            first = True
            while (group := list(itertools.islice(rows, size))) or first:
                cells = [row if not why else [""] * len(columns) for row, why in group]
                table = pd.DataFrame(cells, columns=columns, dtype=str)
                yield table.assign(broken=[why for _, why in group])
                first = False
        except (OSError, EOFError) as error:
            raise MatmlError(f"{path}: cannot be read ({error}); make it again") from None


class _Lines:
    """Lines of a file with their numbers, which can be given back."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.number = file, 0
        self.returned: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self.returned.popleft() if self.returned else next(self.file)
        self.number += 1
        self.taken.append(line)
        return line

    def give_back_all_but_one(self) -> None:
        """Take the first of the lines taken only."""
        back = self.taken[1:]
        self.returned.extendleft(reversed(back))
        self.number -= len(back)


def _csv_rows(file: TextIO) -> Iterator[tuple[list[str], str]]:
    """Rows of a CSV, and what is wrong with each ('' if nothing); broken lines in a row are one.

    Where a row is broken only its first line is given up and reading begins anew behind it, so
    that a quote that is never closed costs one row and not the rest of the file.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, strict=True)
    width = None
    broken: tuple[int, int, str] | None = None
    while True:
        lines.taken.clear()
        try:
            row = next(reader)
            why = f"{len(row)} fields where the header has {width}"
        except StopIteration:
            break
        except csv.Error as error:
            row, why = None, str(error)
        if row == []:
            continue
        if width is None and row is not None:
            width = len(row)
        if row is not None and len(row) == width:
            if broken:
                yield [], _lines(*broken)
                broken = None
            yield row, ""
            continue
        lines.give_back_all_but_one()
        reader = csv.reader(lines, strict=True)
        broken = (broken[0], lines.number, broken[2]) if broken else (lines.number,) * 2 + (why,)
    if broken:
        yield [], _lines(*broken)


def _lines(first: int, last: int, why: str) -> str:
    return f"line {first}: {why}" if first == last else f"lines {first} to {last}: {why}"
