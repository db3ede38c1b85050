"""The command line: `matml ROOM COMMAND`. Rooms are imported only when they are asked for."""

import atexit
import gc
import importlib
import logging
import sys
import time
from errno import ENOMEM
from threading import Thread

import click

from matml import __version__
from matml.cli.document import with_json
from matml.core.errors import REMEDIES, MatmlError, reason_of
from matml.core.integrity.owner import end_with_run

log = logging.getLogger(__name__)
SILENCE_S = 10.0
NO_ROOM = ("failed to map segment", "cannot allocate memory", "Cannot allocate memory")
# name: (module:attribute, one line of help); the module is imported only when its command runs
COMMANDS = {
    "run": ("matml.cli.run:run", "Run the whole workflow, from any folder."),
    "init": ("matml.cli.init:init", "Lay down a project for your own crystals."),
    "config": ("matml.cli.config:config", "Validate and write the workflow's configuration."),
    "meta": ("matml.cli.meta:meta", "Show the meta-learner on published test problems."),
    "structures": ("matml.cli.structures:structures", "Ingest crystals and build graphs."),
    "properties": (
        "matml.cli.properties.commands:properties",
        "Train and test property predictors.",
    ),
    "potential": ("matml.cli.properties.potential:potential", "Describe crystals by a potential."),
    "candidates": ("matml.cli.screening:candidates", "Make candidate crystals."),
    "screen": ("matml.cli.screening:screen", "Rank candidates of a new family."),
    "kinetics": ("matml.cli.kinetics.commands:kinetics", "Learn and calibrate kinetic equations."),
    "federated": (
        "matml.cli.kinetics.federated:federated",
        "Learn together with laboratories that keep their data.",
    ),
    "study": ("matml.cli.studies.commands:study", "Other fields on the same core."),
    "data": (
        "matml.cli.data:data",
        "Download public data, also from OPTIMADE servers.",
    ),
    "report": ("matml.cli.report:report", "Make the self-contained report page."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported on use, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import and return one command."""
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name][0].split(":")
        return with_json(getattr(importlib.import_module(module), attribute))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; of one that stands in a room, the error says where."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if rooms := [room for room in COMMANDS if args[0] in self._below(ctx, room)]:
                meant = " or ".join(f"`matml {room} {args[0]}`" for room in rooms)
                raise click.UsageError(f"{error.message} Is it {meant}?", ctx) from None
            raise

    def _below(self, ctx: click.Context, room: str) -> list[str]:
        command = self.get_command(ctx, room)
        return command.list_commands(ctx) if isinstance(command, click.Group) else []

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the help's command list without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="matml")
def cli() -> None:
    """Learn new material families and new alloys from a handful of points."""


class LastLine(logging.Handler):
    """Knows when the last line was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = self.at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Note the time."""
        self.at = time.monotonic()


def break_silence(last: LastLine) -> None:
    """Log a line whenever there was none for long, that nobody takes a command for dead."""
    while True:
        time.sleep(max(last.at + SILENCE_S - time.monotonic(), SILENCE_S / 10))
        # a bar on a terminal says more
        tqdm = sys.modules.get("tqdm") if sys.stderr.isatty() else None
        if time.monotonic() >= last.at + SILENCE_S and not (tqdm and len(tqdm.tqdm._instances)):
            log.info("at work for %.0f s", time.monotonic() - last.begun)


def main() -> None:
    """Run the command line; a `MatmlError` is one line on stderr and exit code 2."""
    # a seventh of the time of a short command went into searching what libraries hold for cycles,
    # while they were imported and once more at the end
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    end_with_run()
    logging.getLogger().addHandler(last := LastLine())
    Thread(target=break_silence, args=(last,), daemon=True).start()
    try:
        cli(prog_name="matml")
    except (MatmlError, MemoryError, ImportError, OSError) as error:
        # a library that is broken or missing is ours to trace, one without room is not
        if isinstance(error, ImportError) and not any(said in str(error) for said in NO_ROOM):
            raise
        click.echo(f"matml: error: {_said(error)}", err=True)
        sys.exit(2)


def _said(error: Exception) -> str:
    """Return the line for an error that is no fault of the code."""
    if isinstance(error, MatmlError):
        return str(error)
    # a folder that cannot be made, a full disk
    if isinstance(error, OSError):
        return reason_of(error)
    return f"there is too little memory; {REMEDIES[ENOMEM]}"
