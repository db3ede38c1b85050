"""Kinds of paths that commands take."""

from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class ResultsFolder(click.Path):
    """A folder to fill, whose plain files get their checksums beside them."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        from matml.core.integrity.beside import noting

        if ctx is not None:
            ctx.with_resource(noting())
        return super().convert(value, param, ctx)


RESULTS = ResultsFolder(path_type=Path, file_okay=False)
