"""Tables of crystals: a column holds each crystal as text, as a dictionary or as a file's path."""

import ast
import gzip
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import check_table
from matml.core.text.encoding import decode
from matml.core.text.json_text import from_json
from matml.core.text.table import BROKEN_REMEDY, FIRST_ROW, text_table_parts
from matml.core.text.words import readable
from matml.structures.errors import BadCrystal
from matml.structures.io.documents import Document, Documents, file_kind, rejected
from matml.structures.io.entries import DENSITIES, OF_A_ROW, OF_AN_ENTRY
from matml.structures.io.json.databases import STRUCTURES, entries_of
from matml.structures.labels.values import RANGES, as_known, check_label, label_columns
from matml.structures.settings import StructuresSection

CRYSTALS = ("poscar", "cif", "structure", "atoms", "final_structure", "file", "path")
"""Columns that may hold crystals, the first one present is taken."""
PRINTED = ("Full Formula (", "Structure Summary", "Atoms(", "<pymatgen", "Lattice\n")
"""How pymatgen's and ASE's structures begin where they are printed."""
WHOLE = 2**31 - 1
ROWS = 2_000
"""Of a large table that are dictionaries at one time."""
KEYS = ("material_id", "id", "jid", "task_id")
BY_PANDAS = re.compile(
    r'\s*(?:\{\s*"(?:columns|index|data)"\s*:\s*\[|\[\s*\{|\{\s*"\w+"\s*:\s*\{\s*"[^"]*"\s*:)'
)
"""How tables by pandas may begin: orient="split", "records" and "columns"."""


def table_stem(name: str) -> str:
    """Return `elastic` for `elastic.csv.gz`."""
    lowered = name.lower()
    endings = (".csv.gz", ".csv", ".parquet", ".json")
    return name[: -len(next((end for end in endings if lowered.endswith(end)), "")) or None]


@dataclass(frozen=True)
class Table:
    """A table among the inputs, whose rows may hold crystals.

    Attributes
    ----------
    path
        Where it is: names messages, and files of its column `file` are seen from there.
    required
        Given by itself, so that it must hold crystals; in a folder it may be of labels.
    content
        Of a member of a zip.
    frame
        Where it is read already, as from JSON.
    entries
        Its rows one after another, where it is too large to be read at once.
    """

    path: Path
    required: bool
    content: bytes | None = None
    frame: pd.DataFrame | None = None
    entries: Iterator[dict] | None = None

    def parts(self, size: int | None) -> Iterator[pd.DataFrame | Document]:
        """Yield its rows, some at a time (None: all at once); nothing where it holds no crystals.

        What cannot be read of a table in a folder is a document that says why.

        Raises
        ------
        MatmlError
            Where a required table cannot be read, or holds no crystals.
        """
        parts = iter([self.frame]) if self.frame is not None else self._read(size)
        try:
            for part in parts:
                column = crystal_column(part)
                # a file of labels names its crystals by path, too
                if column is None or (column in ("file", "path") and not self.required):
                    if self.required:
                        raise MatmlError(
                            f"{self.path}: has no column of crystals: `poscar`, `cif`, `structure` "
                            "(a pymatgen dictionary) or `file` (its columns are "
                            f"{', '.join(part.columns)}); a table of labels alone is given with "
                            "--labels"
                        )
                    return
                yield part
        except MatmlError as error:
            if self.required:
                raise
            name = readable(self.path.name)
            reason = str(error).removeprefix(f"{self.path}: ")
            yield rejected(name, name, reason, "correct the table, or take it out of the folder")

    def _read(self, size: int | None) -> Iterator[pd.DataFrame]:
        if self.entries is not None:
            start = 0
            while rows := list(islice(self.entries, min(size or ROWS, ROWS))):
                index = pd.RangeIndex(start, start + len(rows))
                yield pd.DataFrame(rows, index=index, dtype=object)
                start += len(rows)
            return
        if not self.path.name.lower().endswith(".parquet"):
            yield from text_table_parts(self.path, size, self.content)
            return
        source = self.path if self.content is None else io.BytesIO(self.content)
        start = 0
        for part in parquet_parts(source, self.path, size or WHOLE):
            part.index = pd.RangeIndex(start, start + len(part))
            start += len(part)
            yield part


def parquet_parts(source: Path | io.BytesIO, path: Path, size: int) -> Iterator[pd.DataFrame]:
    """Yield rows of a Parquet file, some at a time; raise `MatmlError` where it is damaged."""
    import pyarrow
    from pyarrow import parquet

    if isinstance(source, Path):
        check_table(source)
    try:
        with parquet.ParquetFile(source) as file:
            if not file.metadata.num_rows:
                yield file.schema_arrow.empty_table().to_pandas()
            for batch in file.iter_batches(batch_size=size):
                yield batch.to_pandas()
    except (pyarrow.ArrowException, OSError) as error:
        raise MatmlError(
            f"{path}: cannot be read as a table ({str(error).splitlines()[0]})"
        ) from None


def crystal_column(table: pd.DataFrame) -> str | None:
    """Return the column that holds the crystals, None where there is none."""
    return next((name for name in CRYSTALS if name in table.columns), None)


def json_table(text: str) -> pd.DataFrame | None:
    """Return the table of `DataFrame.to_json` with crystals, as "split", "records" or "columns".

    None where it is none: a list of entries whose other values are no plain ones is a database's.
    """
    if not BY_PANDAS.match(text.lstrip("\ufeff")[:200]):
        return None
    try:
        value = from_json(text)
        split = isinstance(value, dict) and all(
            isinstance(value.get(key), list) for key in ("columns", "data")
        )
        if isinstance(value, dict) and not split:
            value = _rows_of(value)
        rows = entries_of(value)
    except (ValueError, RecursionError):
        return None  # which its reader tells
    names = value["columns"] if split else list(rows[0]) if rows and are_rows(rows) else []
    if not any(name in STRUCTURES for name in names):
        return None
    return pd.DataFrame(rows, dtype=object)


def _rows_of(columns: dict) -> list[dict]:
    """Return the rows of a dictionary of columns, each a dictionary of cells by the row's name."""
    first = next(iter(columns.values()))
    if not all(
        isinstance(cells, dict) and cells.keys() == first.keys() for cells in columns.values()
    ):
        return []
    return [{"id": row, **{name: columns[name][row] for name in columns}} for row in first]


def are_rows(entries: list) -> bool:
    """Whether entries are rows of a table: of the same columns, a crystal, and numbers beside it.

    A database's entry tells size or volume of its crystal, too, or has lists and dictionaries.
    """
    if not all(isinstance(entry, dict) and entry.keys() == entries[0].keys() for entry in entries):
        return False
    first = entries[0]
    others = [name for name in first if name not in (*STRUCTURES, *KEYS, *OF_A_ROW)]
    return (
        any(isinstance(entry[name], int | float) for entry in entries for name in others)
        and not any(isinstance(entry[name], dict | list) for entry in entries for name in others)
        and (not OF_AN_ENTRY & first.keys() or bool(RANGES.keys() & first.keys()))
    )


def add_rows(
    table: pd.DataFrame, path: Path, found: Documents, settings: StructuresSection
) -> None:
    """Add a document for every row of a table, with its labels; columns renamed as configured."""
    names = {old: new for old, new in settings.rename.items() if old in table.columns}
    if twice := next((new for new in names.values() if new in table.columns), None):
        raise MatmlError(f"{path}: has a column {twice} already; leave it out of structures.rename")
    found.renamed |= names.keys()
    table = as_known(table.rename(columns=names), path)
    labels, ignored = label_columns(table, {*CRYSTALS, *KEYS, *OF_A_ROW, "family"})
    found.label_names += labels
    told = [f"{path.name}: column {name}" for name in ignored]
    notes = [f"{path.name}: {note}" for note in table.attrs.get("notes", [])]
    column, *others = [name for name in CRYSTALS if name in table.columns]
    for other in others:
        if other not in ("file", "path") and any(texts(table[other])):
            notes.append(f"{path.name}: crystals are read from column {column}, not from {other}")
    # a large table comes in parts
    found.ignored += [name for name in told if name not in found.ignored]
    found.notes += [note for note in notes if note not in found.notes]
    found.items += row_documents(table, path, settings, labels)


def row_documents(
    table: pd.DataFrame, path: Path, settings: StructuresSection, labels: Sequence[str] = ()
) -> list[Document]:
    """Return a document for every row of a table with a column of crystals."""
    column = crystal_column(table)
    assert column is not None
    key = next((name for name in KEYS if name in table.columns), None)
    stem, source = readable(table_stem(path.name)), readable(path.name)
    said = [name for name in (*OF_A_ROW, *DENSITIES) if name in table.columns]
    columns = {name: table[name].tolist() for name in [*labels, *said, column]}
    names = texts(table[key]) if key else [""] * len(table)
    families = texts(table["family"]) if "family" in table.columns else [""] * len(table)
    broken = table.attrs.get("broken", {})
    bad: BadCrystal | None
    documents = []
    for place, (line, name) in enumerate(zip(table.index.tolist(), names, strict=True)):
        good, dropped = {}, []
        for label in labels:
            value, reason, remedy = check_label(label, columns[label][place])
            if reason:
                dropped.append((label, reason, remedy))
            elif value == value:
                good[label] = value
        if line in broken:
            kind, text, bad = "", "", BadCrystal(broken[line], BROKEN_REMEDY)
        else:
            kind, text, bad = crystal_text(
                columns[column][place], f"column {column}", path.parent, settings
            )
        documents.append(
            Document(
                id=f"{stem}/{name or line + FIRST_ROW}",
                source=source,
                row=line + FIRST_ROW,
                kind=kind,
                text=text,
                material_id=name,
                family=families[place],
                bad=bad,
                labels=good,
                dropped=tuple(dropped),
                said={name: columns[name][place] for name in said},
            )
        )
    return documents


def texts(cells: Iterable[Any]) -> list[str]:
    """Return cells as stripped text, '' where they are empty."""
    return ["" if pd.isna(cell) else readable(str(cell).strip()) for cell in cells]


def crystal_text(
    cell: Any, place: str, folder: Path, settings: StructuresSection
) -> tuple[str, str, BadCrystal | None]:
    """Return kind and text of a crystal in a cell, or why there is none.

    Parameters
    ----------
    place, folder
        How messages name the place of the cell, and where a path is seen from.
    """
    if isinstance(cell, dict):
        try:
            return "json", json.dumps(cell, default=_plain), None
        except TypeError as error:
            return _none(f"the {place} holds what JSON cannot ({error})", "give plain values")
    text = "" if cell is None or cell is pd.NA else str(cell)
    start = text.lstrip()
    if not start or start.lower() == "nan":
        return _none(f"the {place} is empty", "give the crystal, or leave out the row")
    if start[0] in "{[":
        return _of_dictionary(start, place)
    if start.startswith(PRINTED):
        return _none(
            f"the {place} holds {start.splitlines()[0][:60]!r}, as Python prints a structure",
            "write structure.to(fmt='cif') or json.dumps(structure.as_dict()) into the table",
        )
    if "_cell_length_a" in text.lower():
        return "cif", text, None
    lines = start.splitlines()
    if len(lines) > 1:
        # the third line is a site there, a vector of the cell in a POSCAR
        xyz = lines[0].strip().isdigit() and lines[2:3] != [] and lines[2].lstrip()[:1].isalpha()
        return ("xyz" if xyz else "poscar"), text, None
    file = folder / start.replace("\\", "/")
    kind = file_kind(start) or ("cif" if place == "column cif" else "")
    if not kind or not is_there(file):
        return _none(
            f"the {place} holds {start[:60]!r}, neither a crystal nor a file beside the table",
            "give POSCAR or CIF text, a pymatgen dictionary, or a path relative to the table",
        )
    try:
        return kind, read_text(file, settings.max_file_MB), None
    except BadCrystal as bad:
        return _none(f"{start[:60]}: {bad.reason}", bad.remedy)


def _plain(value: Any) -> Any:
    """Return an array as a list, as in `ase.Atoms.todict()`."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an object of the type {type(value).__name__}")


def _none(reason: str, remedy: str) -> tuple[str, str, BadCrystal]:
    return "", "", BadCrystal(reason, remedy)


class TooLarge(BadCrystal):
    """A file of which the whole is not read."""


def read_text(path: Path, max_MB: float) -> str:
    """Return the text of a structure file, packed by gzip or not.

    Raises
    ------
    BadCrystal
        Where it is too large, damaged, binary or may not be read.
    """
    limit = int(max_MB * 1e6)
    packed = path.name.lower().endswith(".gz")
    try:
        with _opened(path) as raw, gzip.open(raw) if packed else nullcontext(raw) as file:
            return text_of(file.read(limit + 1), max_MB)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "pack it again" if packed else "check the file and its permissions"
        raise BadCrystal(
            f"cannot be {'unpacked' if packed else 'read'} ({reason})", remedy
        ) from None


def is_there(path: Path) -> bool:
    """Whether a path leads to a file, or to a member of a zip, as `crystals.zip/a/salt.cif`."""
    return path.is_file() or _in_zip(path) is not None


def _in_zip(path: Path) -> tuple[Path, str] | None:
    """Return the zip that a path leads into and the name of its member; None for any other."""
    for parent in path.parents:
        if parent.suffix.lower() == ".zip" and zipfile.is_zipfile(parent):
            name = path.relative_to(parent).as_posix()
            with zipfile.ZipFile(parent) as archive:
                return (parent, name) if name in archive.namelist() else None
    return None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, or a member of a zip."""
    inside = None if path.is_file() else _in_zip(path)
    if inside is None:
        with path.open("rb") as file:
            yield file
    else:
        with zipfile.ZipFile(inside[0]) as archive, archive.open(inside[1]) as file:
            yield file


def text_of(content: bytes, max_MB: float) -> str:
    """Return the text of bytes; raise `BadCrystal` where they are too many, or no text."""
    if len(content) > max_MB * 1e6:
        raise TooLarge(
            f"more than {max_MB:g} MB", "split the file, or raise structures.max_file_MB"
        )
    try:
        return decode(content)
    except ValueError:
        raise BadCrystal("is binary, not text", "give a text file, or its name with .gz") from None


def _of_dictionary(text: str, place: str) -> tuple[str, str, BadCrystal | None]:
    """Return the crystal of a dictionary written as JSON or by Python."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        try:
            return "json", json.dumps(ast.literal_eval(text)), None
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return _none(
                f"the {place} holds a dictionary that cannot be read",
                "write it with json.dumps(structure.as_dict())",
            )
    return "json", text, None
