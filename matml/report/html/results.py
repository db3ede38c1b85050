"""Result files of a run, read when they are there; the page says so plainly when they are not."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, read_table
from matml.core.integrity.beside import check_beside
from matml.core.settings import read_yaml

PLACES = {
    "diagram": ("diagram.json", "temperatures.csv"),
    "design": ("design.json", "design.csv"),
    "adapted": ("card.json", "support.parquet"),
}
"""Folders that a command fills and no whole run has, and the files by which each is known."""


def place_of(folder: Path) -> str:
    """Return where a folder stands in those of a whole run: `screening/`; '' where it is one."""
    if (folder / "shortlist.csv").is_file():
        return "screening/"
    for name, marks in PLACES.items():
        if all((folder / mark).is_file() for mark in marks):
            return f"{name}/"
    if next(folder.glob("*/calibration.json"), None):
        return f"kinetics/{folder.resolve().name}/calibration/"
    return ""


class Results:
    """The files below a folder of results: of a whole run, a screening or a calibration.

    A missing file is `None`, so that a part of the page can be left out; a file that is there but
    cannot be used is an error. `used` lists what was read, `place` says what the names of files
    begin with that are those of a whole run.

    Raises
    ------
    MatmlError
        Where the folder does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.used: list[str] = []
        if not self.folder.is_dir():
            raise MatmlError(f"{folder}: no such folder of results; run the workflow first")
        self.place = place_of(self.folder)
        self._tables: dict[str, pd.DataFrame] = {}

    def _find(self, name: str) -> Path | None:
        path = self.folder / name.removeprefix(self.place)
        if not name.startswith(self.place) or not path.is_file():
            return None
        self.used.append(name)
        return path

    def table(self, name: str, columns: tuple[str, ...] = ()) -> pd.DataFrame | None:
        """Return a CSV or Parquet table that holds `columns`, or None.

        Raises
        ------
        MatmlError
            Where the table cannot be read or lacks a column.
        """
        path = self._find(name)
        if path is None:
            return None
        # several parts of the page look at one table
        if name not in self._tables:
            self._tables[name] = read_table(path)
        table = self._tables[name].copy()
        if missing := [column for column in columns if column not in table]:
            raise MatmlError(
                f"{path}: lacks the column {missing[0]!r}; delete it and start the run again that "
                "wrote it"
            )
        return table

    def json(self, name: str) -> Any:
        """Return a JSON file's content, or None."""
        path = self._find(name)
        return None if path is None else read_json(path)

    def text(self, name: str) -> str | None:
        """Return a text file's content, or None."""
        path = self._find(name)
        if path is None:
            return None
        with reading(path):
            check_beside(path)
            return path.read_text(encoding="utf-8")

    def yaml(self, name: str) -> Any:
        """Return a YAML file's content, or None."""
        path = self._find(name)
        return None if path is None else read_yaml(path)

    def names(self, pattern: str) -> list[str]:
        """Return the files and folders that match a pattern, sorted, as in a whole run."""
        if not self.place:
            found = self.folder.glob(pattern)
            return sorted(path.relative_to(self.folder).as_posix() for path in found)
        names = (self.place + p.relative_to(self.folder).as_posix() for p in self._files())
        return sorted(name for name in names if PurePosixPath(name).match(pattern))

    def _files(self) -> Iterator[Path]:
        """Yield the files of a screening or calibration."""
        return (path for path in self.folder.rglob("*") if path.is_file())
