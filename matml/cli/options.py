"""Kinds of paths that commands take."""

from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class ResultsFolder(click.Path):
    """A folder to fill, whose plain files get their checksums beside them."""

    def convert(self, value: Any, *where: Any) -> Any:
        """Return the path."""
        from matml.core.integrity.beside import note_from_now_on

        note_from_now_on()
        return super().convert(value, *where)


RESULTS = ResultsFolder(path_type=Path, file_okay=False)
