"""Candidates in chunks: what ingest reads, read as it is needed, so that any number fits."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.structures.io.documents import Document, Documents
from matml.structures.io.json.pages import Pages
from matml.structures.io.read import nothing_found, walk
from matml.structures.io.tables import crystal_column, parquet_parts, row_documents
from matml.structures.labels.values import RESERVED
from matml.structures.settings import TABLE, StructuresSection

log = logging.getLogger(__name__)

CHUNK = 1024
"""Candidates scored at once."""
CANDIDATE_TABLE = "candidates.parquet"
SHORTLIST, CRYSTALS = "shortlist.csv", "candidates"
"""What a screening writes: a table, and a folder with the crystals of its first rows."""


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
    said: Documents | None = None,
    columns: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Yield the chunks of a shard, every `shards`-th one.

    Parameters
    ----------
    inputs
        What `matml structures ingest` reads, and folders that `matml candidates` or `matml
        structures ingest` wrote. Tables and zips are read as they are needed.
    said
        Takes in what was ignored and how tables were understood, as reading goes on.
    columns
        Of tables of candidates, which are inputs.

    Raises
    ------
    MatmlError
        Where an input is missing or of no known kind, or none holds anything. What is wrong with
        one candidate, a broken line of a table included, stands in its document.
    """
    for path in inputs:
        if not Path(path).exists():
            raise MatmlError(f"--candidates {path}: no such file or folder")
    said = Documents() if said is None else said
    number = -1
    parts = (part for path in inputs for part in _parts(Path(path), settings, size, said, columns))
    for number, (documents, crystals, extra) in enumerate(parts):
        if number % shards == shard:
            yield Chunk(number, documents, crystals, extra)
    if number < 0:
        raise nothing_found(inputs, said.ignored)


def crystals_of(path: Path) -> Path:
    """Return the folder of the crystals of a screening's folder; any other path as it is."""
    found = path / CRYSTALS
    return found if (path / SHORTLIST).is_file() and found.is_dir() else path


def ids_of_shortlist(path: Path) -> dict[str, str]:
    """Return a screening's ids of its candidates by the names of their files, which hold ranks.

    Parameters
    ----------
    path
        The folder of its crystals, or one of them; of others nothing is known.
    """
    folder = path if path.is_dir() else path.parent
    table = folder.parent / SHORTLIST
    if folder.name != CRYSTALS or not table.is_file():
        return {}
    rows = read_table(table)
    if not {"id", "cif"} <= set(rows):
        return {}
    named = rows[rows["cif"].notna()].astype(str)
    return dict(zip(named["cif"], named["id"], strict=True))


Part = tuple[list[Document], pd.DataFrame | None, pd.DataFrame]


def _parts(
    path: Path, settings: StructuresSection, size: int, said: Documents, columns: Sequence[str]
) -> Iterator[Part]:
    """Yield the chunks of one input, without their number."""
    path = crystals_of(path)
    own_ids = ids_of_shortlist(path)
    if path.is_dir():
        made = (path / name for name in (TABLE, CANDIDATE_TABLE))
        path = next((table for table in made if table.is_file()), path)
    if path.name == TABLE:
        for table in parquet_parts(path, path, size):
            yield [], table, pd.DataFrame(index=range(len(table)))
        return
    pages, waiting = Pages(), list[Document]()
    for item in walk([path], settings, said.ignored):
        if isinstance(item, Document):
            pages.add(item)
            waiting.append(replace(item, id=own_ids.get(item.id, item.id)))
        if waiting and (len(waiting) == size or not isinstance(item, Document)):
            yield waiting, None, pd.DataFrame(index=range(len(waiting)))
            waiting = []
        if isinstance(item, Document):
            continue
        for part in item.parts(size):
            if isinstance(part, Document):
                waiting.append(part)
                continue
            notes = [f"{item.path.name}: {note}" for note in part.attrs.get("notes", [])]
            said.notes += [note for note in notes if note not in said.notes]
            own = [name for name in columns if name in part]
            documents = row_documents(part, item.path, settings, own)
            reserved = [name for name in {*RESERVED, crystal_column(part), *own} if name in part]
            yield documents, None, part.drop(columns=reserved).reset_index(drop=True)
    if waiting:
        yield waiting, None, pd.DataFrame(index=range(len(waiting)))
    for sentence in pages.missing():
        log.warning("%s", sentence)
