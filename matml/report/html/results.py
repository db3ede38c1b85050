"""Result files of a run, read when they are there; the page says so plainly when they are not."""

from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError, reading
from matml.core.files import read_json, read_table
from matml.core.settings import read_yaml


class Results:
    """The files below a folder of results.

    A missing file is `None`, so that a part of the page can be left out; a file that is there but
    cannot be used is an error. `used` lists what was read.

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

    def _find(self, name: str) -> Path | None:
        path = self.folder / name
        if not path.is_file():
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
        table = read_table(path)
        if missing := [column for column in columns if column not in table]:
            raise MatmlError(
                f"{path}: lacks the column {missing[0]!r}; make the file again with "
                f"`snakemake --cores 8 --forcerun {path}`"
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
            return path.read_text(encoding="utf-8")

    def yaml(self, name: str) -> Any:
        """Return a YAML file's content, or None."""
        path = self._find(name)
        return None if path is None else read_yaml(path)

    def names(self, pattern: str) -> list[str]:
        """Return the files and folders that match a pattern, sorted, relative to the folder."""
        return sorted(
            path.relative_to(self.folder).as_posix() for path in self.folder.glob(pattern)
        )
