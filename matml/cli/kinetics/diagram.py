"""`matml kinetics diagram`: the whole diagram of a steel from its composition, with bands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from matml.cli.kinetics.options import READABLE, Command, bound_threads, threads_number
from matml.cli.options import RESULTS

if TYPE_CHECKING:
    from matml.kinetics.data.observations import Observations

MOST_CARBON, MOST_ALLOYED = 1.5, 8.0
"""wt % up to which the formulas are used: beyond, they give no steel's temperatures."""
POINTS = {
    "ferrite": ("CSV of TTT points of ferrite.", ("ttt",)),
    "pearlite": ("CSV of TTT points of pearlite.", ("ttt",)),
    "bainite": ("CSV of TTT points of bainite, or of Bs (column Bs_C).", ("ttt", "bainite_start")),
    "martensite": (
        "CSV of Ms (column Ms_C), or of martensite fractions.",
        ("martensite_start", "martensite"),
    ),
}
"""What each reaction's own points may be, and their kinds."""


def points_options(command: Command) -> Command:
    """Add the option of each reaction's own points."""
    for reaction, (told, _) in reversed(POINTS.items()):
        command = click.option(f"--{reaction}", type=READABLE, help=told)(command)
    return command


@click.command()
@click.option(
    "--composition", required=True, help="wt % by element, as C=0.4,Mn=0.7,Cr=1; others are 0."
)
@click.option(
    "--grain-size", type=click.FloatRange(-3, 14), default=8.0, show_default=True, help="ASTM."
)
@click.option("--formula", type=click.Choice(["li", "kirkaldy"]), default="li", show_default=True)
@points_options
@click.option("--out", type=RESULTS, default=Path("diagram"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@threads_number
def diagram(
    composition: str,
    grain_size: float,
    formula: str,
    out: Path,
    seed: int,
    threads: int,
    **files: Path | None,
) -> None:
    """Draw TTT and CCT of a low-alloy steel: ttt, cct (CSV, PNG) and temperatures.csv.

    By published formulas, with bands for what steels typically differ from them by.
    """
    from matml.core.files import write_json, write_table

    amounts = read_composition(composition)
    points = {name: _one_alloy(file, name) for name, file in files.items() if file is not None}
    bound_threads(threads)
    from matml.figures.static import write
    from matml.kinetics.diagrams.austenite import steel_diagram
    from matml.kinetics.diagrams.steel import measured_table, steel_figures

    found = steel_diagram(amounts, grain_size, points, formula, seed)
    write_table(out / "temperatures.csv", found.lines)
    write_table(out / "ttt.csv", found.ttt)
    write_table(out / "cct.csv", found.cct)
    write_table(out / "measured.csv", measured_table(found))
    name = f"steel ({', '.join(f'{amount:g} {element}' for element, amount in amounts.items())})"
    told = {"name": name, "composition_wt_percent": amounts, "grain_size_ASTM": grain_size}
    write_json(out / "diagram.json", told | {"formula": formula, "seed": seed})
    for figure in steel_figures(found, name):
        write(figure, [out / f"{figure.name}.png", out / f"{figure.name}.svg"])
    for row in found.lines.to_dict("records"):
        click.echo(
            f"{row['line']} {row['temperature_C']:.0f} C ({row['low_90_C']:.0f} to "
            f"{row['high_90_C']:.0f})"
        )


def read_composition(text: str) -> dict[str, float]:
    """Return wt % by element of a text such as C=0.4,Mn=0.7.

    Raises
    ------
    MatmlError
        Where it is none, or an element has no place in the formulas.
    """
    from matml.core.errors import MatmlError

    known = ("C", "Mn", "Si", "Ni", "Cr", "Mo")
    found: dict[str, float] = {}
    for part in text.split(","):
        element, _, amount = part.strip().partition("=")
        if element not in known:
            raise MatmlError(
                f"--composition: {part.strip()!r}: the formulas have {', '.join(known)}; leave "
                "other elements out"
            )
        try:
            found[element] = float(amount)
        except ValueError:
            found[element] = -1.0
        most = MOST_CARBON if element == "C" else MOST_ALLOYED
        if not 0 <= found[element] <= most:
            raise MatmlError(
                f"--composition: {part.strip()!r}: give wt % from 0 to {most:g}, as C=0.4"
            )
    if sum(found.values()) > MOST_ALLOYED:
        raise MatmlError(
            f"--composition: {sum(found.values()):g} % in all; the formulas are of low-alloy "
            f"steels, of up to {MOST_ALLOYED:g} %"
        )
    return found


def _one_alloy(path: Path, reaction: str) -> Observations:
    """Return the observations of a reaction in a file of one alloy."""
    from matml.core.errors import MatmlError
    from matml.kinetics.data.prepare import read_and_report

    observations = read_and_report(path, None)
    told, kinds = POINTS[reaction]
    if observations.kind not in kinds or len(observations.names) != 1:
        raise MatmlError(
            f"{path}: holds {observations.kind!r} observations of {len(observations.names)} "
            f"alloy(s); --{reaction} is a {told[:-1]}, of one"
        )
    return observations
