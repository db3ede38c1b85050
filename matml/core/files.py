"""Files written whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text import each_text, guarded, unguarded

FIRST_ROW = 2
"""What a table's first row is called wherever one is: as in a spreadsheet, the header is row 1."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    A reader sees the old file or the new one, never half of one. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix is kept, since writers choose their format by it
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    if folder.exists() and not (record.exists() and record.read_text(encoding="utf-8") == text):
        shutil.rmtree(folder)
    write_text(record, text)
    yield folder
    shutil.rmtree(folder)
    with suppress(OSError):
        # other jobs may have theirs beside it
        folder.parent.rmdir()


def remove_unfinished(path: str | Path) -> None:
    """Remove what killed writers of `path` have left; only its one writer may call this."""
    path = Path(path)
    for left in path.parent.glob(f".{path.stem}-????????{path.suffix}"):
        left.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    MatmlError
        Where the file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise MatmlError(f"{path}: no such file") from None
    except ValueError as error:
        raise MatmlError(f"{path}: is not valid JSON ({error}); make the file again") from None


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table without its index, as Parquet or CSV by the name's ending."""
    with atomic(path) as temporary:
        if temporary.suffix == ".parquet":
            table.to_parquet(temporary, index=False)
        else:
            # packed where the name says so
            each_text(table, guarded).to_csv(temporary, index=False, lineterminator="\n")


def csv_text(table: pd.DataFrame, *, header: bool = True) -> str:
    """Return a table as CSV without its index; what a spreadsheet would run is guarded.

    Names of alloys, crystals and files come from others: `=HYPERLINK(...)` is a name like any.
    """
    return each_text(table, guarded).to_csv(index=False, header=header, lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a Parquet or CSV (also .csv.gz) table.

    Raises
    ------
    MatmlError
        Where the file is missing, empty or cannot be parsed.
    """
    path = Path(path)
    if not path.is_file():
        raise MatmlError(f"{path}: no such file")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return each_text(pd.read_csv(path), unguarded)
    except (ValueError, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MatmlError(f"{path}: cannot be read as a table ({reason})") from None
