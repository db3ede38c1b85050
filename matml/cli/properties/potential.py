"""`matml potential …`: what a potential says of crystals."""

from pathlib import Path

import click

from matml.cli.options import FILE


@click.group()
def potential() -> None:
    """Describe crystals by a universal potential, or by any other that ASE can ask."""


@potential.command()
@click.option(
    "--structures",
    "inputs",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="Anything that `structures ingest` reads, or a folder that it wrote; repeatable.",
)
@click.option(
    "--potential",
    "name",
    required=True,
    help="chgnet, sevenn, sevenn-l3i5, or module:factory, a function without arguments that "
    "returns a calculator of ASE.",
)
@click.option("--out", required=True, type=FILE, help="Table of features, Parquet or CSV.")
@click.option(
    "--labelled", help="Only crystals with a label in this column, of a folder of `ingest`."
)
@click.option("--shear", is_flag=True, help="Six strains, too, for the shear modulus.")
@click.option("--volume-change", default=0.03, show_default=True, help="Relative, up and down.")
@click.option("--strain", default=0.01, show_default=True, help="Each of the six.")
@click.option("--quarantine", type=FILE, help="Default: quarantine.csv beside the table.")
@click.option("--threads", default=1, show_default=True, help="Processors to use.")
def describe(
    inputs: tuple[Path, ...],
    name: str,
    out: Path,
    labelled: str | None,
    shear: bool,
    volume_change: float,
    strain: float,
    quarantine: Path | None,
    threads: int,
) -> None:
    """Write energy, bulk modulus and other features of crystals, as a potential has them.

    A stopped run goes on where it was; a crystal at which the potential fails is named in the
    quarantine. Features of another potential, version or settings are refused.
    """
    import time

    start = time.perf_counter()
    import pandas as pd

    from matml.core.files import write_table
    from matml.core.processors import usable_threads
    from matml.potentials import Deformations, load_potential
    from matml.potentials import describe as features_of
    from matml.potentials.inputs import read_crystals

    how = Deformations(volume_change, shear, strain)
    threads = usable_threads(threads)
    crystals, bad = read_crystals(inputs, labelled, threads)
    own = load_potential(name)
    import torch

    torch.set_num_threads(threads)
    found = features_of(crystals, own, out, how)
    refused = pd.concat([bad, found.quarantine]) if len(bad) else found.quarantine
    place = quarantine or out.parent / "quarantine.csv"
    write_table(place, refused)
    click.echo(
        f"{len(found.table)} of {len(crystals)} crystals described by {own} in "
        f"{time.perf_counter() - start:.0f} s, {len(found.features)} features: {out}"
    )
    if len(refused):
        first = refused.iloc[0]
        click.echo(
            f"{len(refused)} could not be described; the first, {first['id']}: {first['reason']}; "
            f"{first['remedy']} (all: {place})"
        )
