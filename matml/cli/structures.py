"""`matml structures …`: ingest crystals and build their graphs."""

from pathlib import Path

import click

from matml.cli.options import FILE, FOLDER, RESULTS


@click.group()
def structures() -> None:
    """Ingest crystals and build graphs."""


@structures.command()
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path), metavar="INPUT…")
@click.option("--out", required=True, type=RESULTS, help="Folder for the result.")
@click.option("--labels", type=FILE, help="CSV of labels keyed by a column `id` or `file`.")
@click.option(
    "--rename",
    multiple=True,
    help="COLUMN=PROPERTY: what a column of a table is called here; repeatable.",
)
@click.option("--config", type=FILE, help="YAML with the keys of the section `structures`.")
@click.option("--threads", type=click.IntRange(min=1), help="Processes; default all processors.")
def ingest(
    inputs: tuple[Path, ...],
    out: Path,
    labels: Path | None,
    rename: tuple[str, ...],
    config: Path | None,
    threads: int | None,
) -> None:
    """Read, check and classify crystals.

    INPUT is any mix of folders, zips, CIF, POSCAR, pymatgen JSON and extended XYZ files, and
    tables with a `poscar` column; without any, the section's `inputs` are read. Writes
    structures.parquet, quarantine.csv, families.csv and summary.json.
    """
    from matml.core.project import input_path
    from matml.core.settings import read_section
    from matml.structures.ingest import ingest as run
    from matml.structures.settings import TABLE, StructuresSection

    settings = read_section(StructuresSection, config)
    if rename:
        names = dict(text.rpartition("=")[::2] for text in rename)
        if not all((*names, *names.values())):
            raise click.UsageError(f"--rename {' '.join(rename)}: give COLUMN=PROPERTY")
        settings = settings.model_copy(update={"rename": names})
    sources = tuple(map(input_path, inputs or settings.inputs))
    summary = run(sources, out, settings, labels or settings.labels, threads)
    click.echo(
        f"{summary['accepted']} crystals accepted, {summary['quarantined_crystals']} quarantined, "
        f"{summary['dropped_labels']} labels dropped, {summary['duplicates']} duplicates, "
        f"{summary['families']} families ({summary['families_of_10_or_more']} of 10 or more) "
        f"in {summary['seconds']:.1f} s"
    )
    for name, count in summary["labels"].items():
        click.echo(f"  {name}: {count} values")
    for note in summary["notes"]:
        click.echo(f"  {note}")
    if left_out := summary["ignored"]:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        click.echo(f"  left out: {', '.join(left_out[:5])}{more}")
    if summary["crystals_with_notes"]:
        click.echo(
            f"  {summary['crystals_with_notes']} crystals were read with a note: column `notes` of "
            f"{out / TABLE}"
        )
    if summary["disordered"]:
        click.echo(
            f"  {summary['disordered']} are disordered, and taken as virtual crystals: column "
            "`disordered`"
        )
    if summary["undecided_duplicates"]:
        click.echo(
            f"  of {summary['undecided_duplicates']} it is not decided whether they repeat another "
            "one: they are kept, with a note"
        )
    if summary["quarantined_crystals"] or summary["dropped_labels"]:
        click.echo(f"  reasons and remedies: {out / 'quarantine.csv'}")


@structures.command()
@click.argument("structures_dir", type=FOLDER)
@click.option("--out", required=True, type=RESULTS, help="Folder for the result.")
@click.option("--config", type=FILE, help="YAML with the keys of the section `graphs`.")
@click.option("--threads", type=click.IntRange(min=1), help="Processes; default all processors.")
def graph(structures_dir: Path, out: Path, config: Path | None, threads: int | None) -> None:
    """Build the symmetry-reduced graphs of ingested crystals.

    Writes graphs.safetensors, index.parquet and summary.json.
    """
    from matml.core.settings import read_section
    from matml.structures.graphs.build import build_graphs
    from matml.structures.settings import GraphsSection

    summary = build_graphs(structures_dir, out, read_section(GraphsSection, config), threads)
    click.echo(
        f"{summary['graphs']} graphs, {summary['structures_per_second']:.0f} structures/s: "
        f"{summary['atoms']} atoms -> {summary['nodes']} orbits, "
        f"{summary['edges']} edges "
        f"in {summary['seconds']:.1f} s"
    )
