"""`--json` of every command: what it says and writes as one JSON document on standard output."""

import functools
import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

OPTION = "json_document"
ALONE = "-"
"""Stands for no FILE after `--json`."""
CLOCK = "matml.cli.main"
"""Whose lines only say that a command is at work."""
HELP = "Print one JSON document: what is said, and the tables and JSON files that are written."


def with_json(command: click.Command) -> click.Command:
    """Give a command, and all below it, the option `--json` where it has none of its own."""
    if isinstance(command, click.Group):
        for below in command.commands.values():
            with_json(below)
        if not command.invoke_without_command:
            return command
    own = next((given for given in command.params if "--json" in given.opts), None)
    endless = command.name == "app" or command.context_settings.get("ignore_unknown_options")
    if command.callback is None or endless:
        return command
    if own is not None:
        return _records_or_document(command, own)
    said = command.callback

    @functools.wraps(said)
    def callback(*arguments: Any, **options: Any) -> Any:
        if not options.pop(OPTION):
            return said(*arguments, **options)
        with _document(click.get_current_context().command_path):
            return said(*arguments, **options)

    command.callback = callback
    command.params.append(click.Option(["--json", OPTION], is_flag=True, help=HELP))
    return command


def _records_or_document(command: click.Command, own: Any) -> click.Command:
    """Let `--json` of a command that writes records to a FILE print the document without one."""
    if own.is_flag or own.flag_value == ALONE or command.callback is None:
        return command
    said, alone = command.callback, Path(ALONE)

    @functools.wraps(said)
    def callback(*arguments: Any, **options: Any) -> Any:
        if options[own.name] != alone:
            return said(*arguments, **options)
        with TemporaryDirectory() as folder:
            file = Path(folder) / "records.json"
            with _document(click.get_current_context().command_path, file):
                return said(*arguments, **options | {own.name: file})

    command.callback = callback
    option = click.Option(
        ["--json", own.name],
        type=own.type,
        flag_value=ALONE,
        is_flag=False,
        metavar="[FILE]",
        help="Write tidy records to FILE; without one, print a JSON document of them and of what "
        "is said.",
    )
    command.params[command.params.index(own)] = option
    return command


@contextmanager
def _document(name: str, records: Path | None = None) -> Iterator[None]:
    """Print the document of the command that runs in the block, also where it fails.

    `records` is a file to which the command writes what goes into the document.
    """
    from matml.core.files import listing_written

    words = io.StringIO()
    # what is found is printed, what was done is logged: both are said
    heard, log = logging.StreamHandler(words), logging.getLogger("matml")
    heard.addFilter(lambda record: record.name != CLOCK)
    document: dict[str, Any] = {"command": name}
    log.addHandler(heard)
    try:
        with listing_written() as written, redirect_stdout(words):
            yield
    except Exception as error:
        # click's own say what is wrong with an option
        document["error"] = getattr(error, "message", None) or str(error)
        raise
    else:
        # a file that was written and moved on is named by where it is
        kept = dict.fromkeys(path for path in written if _is_result(path) and path != records)
        document["said"] = words.getvalue().splitlines()
        if records is not None:
            document["records"] = _content(records)
        document["files"] = {str(path): _content(path) for path in kept}
    finally:
        log.removeHandler(heard)
        click.echo(json.dumps(document, indent=1))


def _is_result(path: Path) -> bool:
    return path.exists() and not path.name.startswith(".")


def _content(path: Path) -> Any:
    """Return the rows of a CSV, the value of a JSON file, and None for other files."""
    from matml.core.files import read_json, read_table

    if path.suffix == ".json":
        return read_json(path)
    if path.suffix == ".csv":
        return json.loads(read_table(path).to_json(orient="records", double_precision=15))
    return None
