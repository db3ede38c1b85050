"""`matml study batch-norm`: what each treatment of BatchNorm costs on new families of crystals."""

from pathlib import Path

import click

from matml.cli.options import FILE, FOLDER


@click.command("batch-norm")
@click.option("--structures", type=FOLDER, required=True, help="Structures of a run.")
@click.option("--graphs", type=FOLDER, required=True, help="Their graphs.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    default=("formation_energy_eV_per_atom", "bulk_modulus_GPa"),
    show_default=True,
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def batch_norm(
    structures: Path, graphs: Path, properties: tuple[str, ...], seed: int, json_file: Path | None
) -> None:
    """Errors on families not seen before, by how BatchNorm takes its statistics."""
    import torch

    from matml.core.files import write_json
    from matml.properties.data.targets import find_property
    from matml.structures.crystals import CrystalSet
    from matml.studies.batch_norm import METHODS, PLAIN, Settings, study

    torch.set_num_threads(1)
    crystals, records = CrystalSet.open(structures, graphs), []
    for name in properties:
        item = find_property(name)
        records += (own := study(crystals, item, Settings(), seed))
        cell = {(r["method"], r["metric"], r["shots"]): r for r in own}
        shots = sorted({r["shots"] for r in own})
        families = max(r["n_tasks"] for r in own)
        click.echo(f"{item.title} ({item.error_unit}): mean absolute error, {families} families")
        heads = ["no label", *(f"{k} labels" for k in shots)]
        heads += [f"less {PLAIN}, {k}" for k in shots]
        click.echo(f"{'':46}" + "".join(f"{head:>26}" for head in heads))
        for method in METHODS:
            told = [cell[method, "before", shots[0]], *(cell[method, "mae", k] for k in shots)]
            told += [cell[method, "cost", k] for k in shots]
            texts = (f"{r['value']:.4f} [{r['low']:.4f}, {r['high']:.4f}]" for r in told)
            click.echo(f"{method:46}" + "".join(f"{text:>26}" for text in texts))
    if json_file:
        write_json(json_file, records)
