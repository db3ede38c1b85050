"""Kinds of paths that commands take, and options that several rooms share."""

from collections.abc import Callable
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


def participant_options(command: Callable) -> Callable:
    """Add who must answer a federated round, and whom it goes on without."""
    command = click.option(
        "--without", multiple=True, help="Laboratory that the round goes on without."
    )(command)
    return click.option(
        "--laboratory",
        "expected",
        multiple=True,
        help="One that must be there, repeatable, besides those that took part before.",
    )(command)
