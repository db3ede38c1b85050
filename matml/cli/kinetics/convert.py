"""`matml kinetics inspect` and `convert …`: files of instruments, and observations from them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click

READABLE = click.Path(path_type=Path, dir_okay=False)
BASELINES = ("straight", "step", "tangents")
Decorator: TypeAlias = Callable[[Callable[..., None]], Callable[..., None]]


def temperatures(name: str, what: str) -> Decorator:
    """Return an option of two temperatures."""
    return click.option(name, nargs=2, type=float, metavar="LOW HIGH", help=what)


def times(what: str) -> Decorator:
    """Return the option of a hold's start and end."""
    return click.option("--hold", nargs=2, type=float, metavar="START END", help=what)


READING = (
    click.option("--temperature-column", help="By default told by its name; here and below."),
    click.option(
        "--temperature-unit",
        type=click.Choice(["C", "K", "F"]),
        help="Where the file names none. Temperatures in the options here are in the file's unit.",
    ),
    click.option("--time-column"),
    click.option(
        "--time-unit",
        type=click.Choice(["s", "min", "h"]),
        help="Where the file names none. Times in the options here are in the file's unit.",
    ),
    click.option("--separator", help="Of columns; found by default."),
    click.option("--decimal", type=click.Choice([".", ","]), help="Found by default."),
    click.option("--skip-lines", type=click.IntRange(min=0), default=0, help="At the start."),
)

COMMON = (
    click.argument("files", nargs=-1, required=True, type=READABLE),
    click.option("--alloy", required=True, help="Name of the alloy; each run is one of it."),
    *READING,
    click.option(
        "--segment",
        help="Number, or kind (heating, hold, cooling), of the part of the record that is meant "
        "(`matml kinetics inspect` lists them); by default the only one that fits.",
    ),
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


final_option = click.option(
    "--final-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Fraction transformed at the end, where the reaction is unfinished or stops.",
)


def with_options(options: Sequence[Callable]) -> Decorator:
    """Return a decorator that adds options."""

    def added(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return added


@click.command()
@click.argument("files", nargs=-1, required=True, type=READABLE)
@with_options(READING)
@click.option("--signal-column", help="Length or heat flow.")
@click.option("--figure", type=READABLE, help="PNG or SVG of the signal, segment by segment.")
def inspect(files: tuple[Path, ...], figure: Path | None, **options: Any) -> None:
    """Show how instruments' files are understood: text, columns, units, runs and segments."""
    from matml.core.errors import MatmlError
    from matml.kinetics.instruments.inspect import inspect_file

    if figure is not None and len(files) > 1:
        raise MatmlError(f"--figure {figure}: is of one file; {len(files)} were given")
    for path in files:
        for line in inspect_file(path, figure, **options):
            click.echo(line)


@click.group()
def convert() -> None:
    """Make observations (tidy CSV) from dilatometer and calorimeter files."""


@convert.command()
@with_options(COMMON)
@click.option("--length-column", help="Length or strain, in any unit.")
@temperatures("--parent", "Temperatures where all is parent phase.")
@temperatures("--product", "Temperatures where all has transformed.")
@times("Times of an isothermal hold; without them, or the --segment of a hold, a ramp is meant.")
@final_option
@click.option(
    "--carbon",
    type=click.FloatRange(0, 2),
    help="wt % of carbon that ferrite leaves to the austenite, which expands: the fraction is that "
    "of ferrite, until pearlite begins (Kop et al. 2001).",
)
def dilatometer(
    files, length_column, parent, product, hold, final_fraction, carbon, own_path, **options
) -> None:
    """Convert lengths by the lever rule between two straight baselines.

    A ramp needs --parent and --product. A hold may do without: then its first length is the
    parent's and its last the product's.
    """
    from matml.kinetics.instruments.convert import by_lever_rule, convert_files

    how = {"own_path": own_path, "final_fraction": final_fraction, "carbon": carbon}
    change = by_lever_rule(parent, product, hold, options["segment"], **how)
    convert_files(
        files, "length", length_column, change, "lever rule", own_path=own_path, **options
    )


@convert.command()
@with_options(COMMON)
@click.option("--heat-column", help="Heat flow; any unit.")
@temperatures("--peak", "Temperatures of the peak's feet, for a ramp.")
@times("Times of an isothermal hold with the whole peak in it; or the --segment of a hold.")
@click.option(
    "--baseline",
    type=click.Choice(BASELINES),
    default="straight",
    show_default=True,
    help="Under the peak: a line between its feet; going over from one foot's level to the other's "
    "with the fraction (a step of the heat capacity); or from the tangent before to that behind.",
)
@final_option
def dsc(files, heat_column, peak, hold, baseline, final_fraction, own_path, **options) -> None:
    """Convert heat flows by partial areas over a baseline between the peak's feet."""
    from matml.kinetics.instruments.convert import by_partial_areas, convert_files

    how = {"own_path": own_path, "final_fraction": final_fraction, "baseline": baseline}
    change = by_partial_areas(peak, hold, options["segment"], **how)
    convert_files(
        files, "heat_flow", heat_column, change, "partial areas", own_path=own_path, **options
    )
