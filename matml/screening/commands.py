"""`matml candidates` and `matml screen`."""

from pathlib import Path

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
@click.option("--property", "property_name", help="Label column; default from the settings.")
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


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=EXISTING_FOLDER, required=True, help="Trained few-shot predictor.")
@click.option("--property", "property_name", help="Label column; default from the settings.")
@click.option(
    "--support", type=FILE, required=True, help="CSV: id or file, and a column named as --property."
)
@click.option(
    "--candidates",
    "inputs",
    type=EXISTING,
    required=True,
    multiple=True,
    help="Structures in any form that ingest reads, or a folder it wrote; may be repeated.",
)
@click.option("--known", type=EXISTING_FOLDER, required=True, help="Ingested known crystals.")
@click.option("--known-graphs", type=EXISTING_FOLDER, help="Their graphs.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the shortlist.")
@click.option("--goal", type=click.Choice(["minimise", "maximise"]), help="Default: settings.")
@click.option("--top", type=click.IntRange(min=1), help="Candidates written as CIF.")
@click.option("--trust-labels", is_flag=True, help="Take labels that look like another unit.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: all processors allowed.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
def screen(**options: object) -> None:
    """Rank candidates of a new family after adapting a predictor to a few labelled members.

    Writes shortlist.csv (best first), candidates/*.cif of the top, crystals/quarantine.csv,
    summary.json.
    """
    from matml.screening.shortlist import screen_candidates

    screen_candidates(**options)
