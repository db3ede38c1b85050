"""`matml kinetics convert …`: files of instruments made observations."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import click

READABLE = click.Path(path_type=Path, dir_okay=False)
Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


def temperatures(name: str, what: str) -> Decorator:
    """Return an option of two temperatures."""
    return click.option(name, nargs=2, type=float, metavar="LOW HIGH", help=what)


def times(what: str) -> Decorator:
    """Return the option of a hold's start and end."""
    return click.option("--hold", nargs=2, type=float, metavar="START END", help=what)


COMMON = (
    click.argument("files", nargs=-1, required=True, type=READABLE),
    click.option("--alloy", required=True, help="Name of the alloy; each file is a run of it."),
    click.option("--temperature-column", default="temperature", show_default=True),
    click.option(
        "--temperature-unit",
        type=click.Choice(["C", "K"]),
        required=True,
        help="Unit of the temperatures in the file and in the options here.",
    ),
    click.option("--time-column", default="time", show_default=True),
    click.option(
        "--time-unit",
        type=click.Choice(["s", "min", "h"]),
        required=True,
        help="Unit of the times in the file and in the options here.",
    ),
    click.option("--separator", help="Separator of columns; guessed by default."),
    click.option("--decimal", type=click.Choice([".", ","]), default=".", show_default=True),
    click.option("--skip-lines", type=click.IntRange(min=0), default=0, help="Before the header."),
    click.option(
        "--most",
        type=click.IntRange(min=10),
        default=100,
        show_default=True,
        help="Observations per file: more are averaged, since neighbours share their errors.",
    ),
    click.option(
        "--own-path",
        is_flag=True,
        help="Follow each record's own temperatures, straight or not: they are written to the "
        "folder OUT_paths and named in the column `path`.",
    ),
    click.option("--out", type=READABLE, required=True, help="CSV; baselines go to a JSON beside."),
)


def common(command: Callable) -> Callable:
    """Add the options of both commands."""
    for option in reversed(COMMON):
        command = option(command)
    return command


@click.group()
def convert() -> None:
    """Make observations (tidy CSV) from dilatometer and calorimeter files."""


@convert.command()
@common
@click.option(
    "--length-column", default="length", show_default=True, help="Length or strain, in any unit."
)
@temperatures("--parent", "Temperatures where all is parent phase.")
@temperatures("--product", "Temperatures where all has transformed.")
@times("Times of an isothermal hold; without them a ramp is assumed.")
def dilatometer(files, length_column, parent, product, hold, own_path, **options) -> None:
    """Convert lengths by the lever rule between two straight baselines.

    A ramp needs --parent and --product. A hold may do without: then its first length is the
    parent's and its last the product's.
    """
    from matml.core.errors import MatmlError
    from matml.kinetics.instruments.convert import convert_files
    from matml.kinetics.instruments.records import dilatometer_hold, dilatometer_ramp

    if hold is None and (parent is None or product is None):
        raise MatmlError("a ramp needs --parent and --product; for a hold give --hold START END")

    def change(record, kelvin, seconds):
        if hold is None:
            return dilatometer_ramp(record, kelvin(parent), kelvin(product), own_path)
        ranges = [None if r is None else kelvin(r) for r in (parent, product)]
        return dilatometer_hold(record, seconds(hold), *ranges, own_path)

    convert_files(files, length_column, change, "lever rule", own_path=own_path, **options)


@convert.command()
@common
@click.option("--heat-column", default="heat_flow", show_default=True, help="Heat flow; any unit.")
@temperatures("--peak", "Temperatures of the peak's feet, for a ramp.")
@times("Times of an isothermal hold with the whole peak in it.")
def dsc(files, heat_column, peak, hold, own_path, **options) -> None:
    """Convert heat flows by partial areas over a straight baseline between the peak's feet."""
    from matml.core.errors import MatmlError
    from matml.kinetics.instruments.convert import convert_files
    from matml.kinetics.instruments.records import calorimeter_hold, calorimeter_ramp

    if (hold is None) == (peak is None):
        raise MatmlError("give --peak LOW HIGH for a ramp, or --hold START END for a hold")

    def change(record, kelvin, seconds):
        if hold is None:
            return calorimeter_ramp(record, kelvin(peak), own_path)
        return calorimeter_hold(record, seconds(hold), own_path)

    convert_files(files, heat_column, change, "partial areas", own_path=own_path, **options)
