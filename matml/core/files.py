"""Files written whole or not at all."""

import glob
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import AGAIN, MatmlError, reading
from matml.core.integrity.beside import beside, check_beside, checksum_before
from matml.core.integrity.formats import (
    FORMAT_KEY,
    UNSEALED,
    Format,
    check_seal,
    open_sealed,
    seal,
    sealed,
)
from matml.core.integrity.owner import locked
from matml.core.text.cells import each_text, guarded, unguarded
from matml.core.text.json_text import from_json

log = logging.getLogger(__name__)
TABLE = Format("table", 1, "run the command again that writes it")
"""Of Parquet tables that no other format says more of."""
_written: list[list[Path]] = []


@contextmanager
def listing_written() -> Iterator[list[Path]]:
    """Yield a list to which every file is added that this process writes during the block."""
    listed: list[Path] = []
    _written.append(listed)
    try:
        yield listed
    finally:
        _written.remove(listed)


def _list_written(path: Path) -> None:
    for listed in _written:
        listed.append(path)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    A reader sees the old file or the new one, never half of one. Missing parent folders are made.

    Raises
    ------
    OSError
        As of the system, with `path`, also where a library has an exception of its own for it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path)
    # the suffix is kept, since writers choose their format by it
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    temporary = Path(name)
    # where there are locks, one tells that the writer lives
    if not locked(handle):
        os.close(handle)
        handle = -1
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if checksum := checksum_before(path, temporary):
            write_text(beside(path), checksum)
        temporary.replace(path)
        _list_written(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    except Exception as error:
        # safetensors, written in Rust, says the system's number only
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


@contextmanager
def resumable(folder: Path, made_with: dict[str, Any]) -> Iterator[Path]:
    """Yield a folder for the parts of a long job, so that a killed one goes on where it was.

    It is removed when the block succeeds, and emptied first where it is from something else.

    Parameters
    ----------
    made_with
        All that the parts depend on, as JSON has it.
    """
    record = folder / "made_with.json"
    text = json.dumps(made_with, sort_keys=True)
    if folder.exists() and not (record.exists() and record.read_bytes() == text.encode()):
        log.warning("%s: begun anew, since %s", folder, _difference(record, json.loads(text)))
        shutil.rmtree(folder)
    write_text(record, text)
    yield folder
    shutil.rmtree(folder)
    with suppress(OSError):
        # other jobs may have theirs beside it
        folder.parent.rmdir()


def _difference(record: Path, made_with: dict[str, Any]) -> str:
    """Return in what unfinished work differs from what is asked for, for a message."""
    with suppress(OSError, ValueError):
        before = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(before, dict):
            differ = [name for name in made_with if before.get(name) != made_with[name]]
            return f"what is there was made with other {', '.join(differ) or 'settings'}"
    return "what is there does not say what it was made with"


def move(path: Path, to: Path) -> None:
    """Give a file another name, with the checksum beside it."""
    if checksum := checksum_before(to, path):
        write_text(beside(to), checksum)
        beside(path).unlink(missing_ok=True)
    path.replace(to)
    _list_written(to)


def remove_unfinished(path: str | Path) -> None:
    """Remove what killed writers of `path` have left; living ones hold theirs locked."""
    path = Path(path)
    stem, suffix = glob.escape(path.stem), glob.escape(path.suffix)
    for left in path.parent.glob(f".{stem}-????????{suffix}"):
        with suppress(OSError):
            handle = os.open(left, os.O_RDWR)
            try:
                if locked(handle):
                    left.unlink()
            finally:
                os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, form: Format | None = None) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none.

    Parameters
    ----------
    form
        Of an object that is read again: the file says its format and has a checksum.
    """
    value = value if form is None else sealed(value, form)
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(
    path: str | Path, form: Format | None = None, shape: Any = None, remedy: str = AGAIN
) -> Any:
    """Read a JSON file.

    Parameters
    ----------
    remedy
        How a file without a format is made again.
    shape
        Of a file without a format: the type that its content must have, as pydantic knows them.

    Raises
    ------
    MatmlError
        Where the file is missing, is not JSON, not an object of the given format as it was
        written, or not of the shape.
    """
    path = Path(path)
    remedy = form.remedy if form else remedy
    with reading(path, remedy):
        check_beside(path)
        try:
            value = from_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise MatmlError(f"{path}: is not valid JSON ({error}); {remedy}") from None
        if shape is not None:
            from matml.core.settings import check_shape

            check_shape(value, shape, path, remedy)
        return value if form is None else open_sealed(value, path, form)


def write_table(path: str | Path, table: pd.DataFrame, form: Format = TABLE) -> None:
    """Write a table without its index, as Parquet or CSV by the name's ending.

    Parameters
    ----------
    form
        What a Parquet file says of itself, beside its checksum.
    """
    with atomic(path) as temporary:
        if temporary.suffix != ".parquet":
            # packed where the name says so
            each_text(table, guarded).to_csv(temporary, index=False, lineterminator="\n")
            return
        import pyarrow
        from pyarrow import parquet

        arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
        said = {**(arrow.schema.metadata or {}), **sealed_metadata(form)}
        parquet.write_table(arrow.replace_schema_metadata(said), temporary)
        seal(temporary)


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table as CSV without its index; what a spreadsheet would run is guarded.

    Names of alloys, crystals and files come from others: `=HYPERLINK(...)` is a name like any.
    """
    return each_text(table, guarded).to_csv(index=False, header=header, lineterminator="\n")


def sealed_metadata(form: Format = TABLE) -> dict[str, str]:
    """Return what the metadata of a Parquet file say, before `seal` is called on it."""
    return {f"matml.{FORMAT_KEY}": str(form), "matml.checksum": UNSEALED}


def check_table(path: Path, form: Format | None = None) -> None:
    """Refuse a Parquet file whose bytes are not those that matml wrote, or of another format.

    Parameters
    ----------
    form
        By default any, also a file that was written by something else.

    Raises
    ------
    MatmlError
        With the remedy.
    """
    check_seal(path, form or TABLE, required=form is not None)
    if form is not None:
        from pyarrow import parquet

        said = (parquet.read_schema(path).metadata or {}).get(f"matml.{FORMAT_KEY}".encode())
        form.check(said and said.decode(), path)


def read_table(
    path: str | Path, form: Format | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a Parquet or CSV (also .csv.gz) table.

    Parameters
    ----------
    form
        As of `check_table`.
    columns
        That it must have.

    Raises
    ------
    MatmlError
        Where the file is missing, empty, cannot be parsed or lacks a column, and as of
        `check_table`.
    """
    path = Path(path)
    with reading(path, form.remedy if form else AGAIN):
        if path.suffix == ".parquet":
            check_table(path, form)
            table = pd.read_parquet(path)
        else:
            check_beside(path)
            table = each_text(pd.read_csv(path), unguarded)
        if missing := [name for name in columns if name not in table]:
            raise ValueError(
                f"it lacks the column {missing[0]!r} and has {', '.join(map(str, table.columns))}"
            )
        return table


PLAIN = re.compile(r"[A-Z0-9](?:[A-Z0-9.+_-]{0,58}[A-Z0-9+_-])?")
DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|COM\d|LPT\d)(?:\..*)?")


def folder_name(alloy: str) -> str:
    """Return an alloy's name as a folder name that every file system and shell takes.

    No two names share one, also where capitals do not count: a name that is not plain has ten
    digits of its hash behind a mark that plain names do not have.
    """
    if PLAIN.fullmatch(alloy) and not DEVICES.fullmatch(alloy):
        return alloy
    readable = re.sub(r"[^A-Za-z0-9+-]+", "_", alloy)[:40].strip("_-") or "alloy"
    return f"{readable}~{hashlib.sha256(alloy.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"
