"""`matml candidates` and `matml screen`."""

from pathlib import Path
from typing import Any

import click

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--out", type=FOLDER, help="Folder for candidates.parquet and summary.json.")
@click.option("--family", help="Label or common name; default from the settings.")
@click.option(
    "--structures",
    type=EXISTING_FOLDER,
    help="Ingested crystals: give the prototype of any ionic family and calibrate its volume. "
    "Without them only the cubic perovskite is known, with its cell from ionic radii alone.",
)
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
@click.pass_context
def candidates(
    context: click.Context,
    out: Path | None,
    family: str | None,
    structures: Path | None,
    config: Path | None,
) -> None:
    """Make charge-neutral candidate crystals by exchanging ions in a family's prototype.

    `candidates.parquet` is a table that `matml structures ingest` and `matml screen` read.
    """
    if context.invoked_subcommand is not None:
        return
    if out is None:
        raise click.UsageError("give --out DIR")
    from matml.screening.make import make_candidates

    make_candidates(out, family, structures, config)


@candidates.command()
@click.option("--structures", type=EXISTING_FOLDER, required=True, help="Ingested crystals.")
@click.option("--family", help="Label or common name; default from the settings.")
@click.option("--property", "property_name", help="Label column; default: all of the settings.")
@click.option("--shots", type=click.IntRange(min=2), help="How many; default from the settings.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=FILE, required=True, help="CSV to write.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
def support(
    structures: Path,
    family: str | None,
    property_name: str | None,
    shots: int | None,
    seed: int,
    out: Path,
    config: Path | None,
) -> None:
    """Draw a few labelled members of a family as the support of `matml screen`."""
    from matml.screening.make import make_support

    make_support(structures, family, property_name, shots, seed, out, config)


NEEDED = ("model", "support", "inputs", "known", "out")


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=EXISTING_FOLDER, help="Trained few-shot predictor.")
@click.option("--property", "property_name", help="Label column; default from the settings.")
@click.option("--goal", type=click.Choice(["minimise", "maximise"]), help="Default: settings.")
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    help="In place of --property and --goal, repeatable, the leading one first: "
    "'bulk_modulus_GPa >= 150', '1 <= band_gap_eV <= 2', 'band_gap_eV = 1.5', "
    "'formation_energy_eV_per_atom minimise', 'energy_above_hull_eV_per_atom <= 0.1'.",
)
@click.option(
    "--rank-by",
    type=click.Choice(["prediction", "probability", "expected_improvement", "pareto"]),
    help="Default: settings.",
)
@click.option("--support", type=FILE, help="CSV: id or file, and a column named as each property.")
@click.option(
    "--candidates",
    "inputs",
    type=EXISTING,
    multiple=True,
    help="Structures in any form that ingest reads, or a folder it wrote; may be repeated.",
)
@click.option("--known", type=EXISTING_FOLDER, help="Ingested known crystals.")
@click.option("--known-graphs", type=EXISTING_FOLDER, help="Their graphs.")
@click.option("--out", type=FOLDER, help="Folder for the shortlist.")
@click.option("--top", type=click.IntRange(min=1), help="Candidates written as CIF.")
@click.option("--keep", type=click.IntRange(min=1), help="Rows of the shortlist.")
@click.option("--diversity", type=click.FloatRange(0, 1, max_open=True), help="0: by score alone.")
@click.option("--shard", type=click.IntRange(min=0), help="Screen this share only; then merge.")
@click.option("--shards", type=click.IntRange(min=1), help="Number of shares.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: all processors allowed.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.pass_context
def screen(context: click.Context, property_name: str | None, **options: Any) -> None:
    """Rank candidates of a new family after adapting a predictor to a few labelled members.

    Writes shortlist.csv (best first), candidates/*.cif of the top, scores.parquet of all
    candidates, crystals/quarantine.csv, summary.json. Candidates in tables are streamed: their
    number does not matter for memory.
    """
    if context.invoked_subcommand is not None:
        return
    if missing := [name for name in NEEDED if not options[name]]:
        named = {"inputs": "candidates"}.get(missing[0], missing[0])
        raise click.UsageError(f"Missing option '--{named}'.")
    from matml.screening.shortlist import screen_candidates

    screen_candidates(property=property_name, **options)


@screen.command()
@click.option(
    "--shard",
    "shards",
    type=EXISTING_FOLDER,
    required=True,
    multiple=True,
    help="Folder of a share that `matml screen --shard` wrote; repeat for all.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder for the shortlist.")
def merge(shards: tuple[Path, ...], out: Path) -> None:
    """Join the shares of a screening into one shortlist."""
    from matml.screening.finish import finish

    finish(shards, out)
