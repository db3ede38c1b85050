"""`matml properties …`: split, train, meta-train, evaluate, export."""

from collections.abc import Callable
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def properties() -> None:
    """Train and test few-shot predictors of crystal properties."""


def shared_options(command: Callable) -> Callable:
    """Add the options that all stages take."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Seed of random choices."),
        click.option("--device", default="cpu", show_default=True, help="torch device."),
        click.option("--threads", default=1, show_default=True, help="Processors to use."),
        click.option("--config", "config_file", type=FILE, help="Settings of the section, YAML."),
        click.option("--graphs", required=True, type=FOLDER, help="Folder of the graphs."),
        click.option("--structures", required=True, type=FOLDER, help="Ingested structures."),
    ):
        command = option(command)
    return command


def prepare(config_file: Path | None, threads: int):
    """Return the settings, after bounding the threads of all libraries."""
    import torch

    from matml.config import PropertiesSection, read_section
    from matml.processors import usable_threads

    torch.set_num_threads(usable_threads(threads))
    return read_section(PropertiesSection, config_file)


@properties.command()
@click.option("--out", required=True, type=FOLDER, help="Folder of the properties' results.")
@shared_options
def split(out, structures, graphs, config_file, threads, device, seed) -> None:
    """Split families into training, validation and test; draw the episodes."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import make_split

    make_split(structures, graphs, out, settings, seed)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", required=True, type=int, help="Number of the ensemble's member.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the member.")
@shared_options
def pretrain(run, member, out, structures, graphs, config_file, threads, device, seed) -> None:
    """Pre-train one member without the families of its fold."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import Workbench, train_member

    bench = Workbench.open(structures, graphs, run, settings)
    train_member(bench, out, settings, member=member, seed=seed, device=device)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", required=True, type=int, help="Number of the ensemble's member.")
@click.option("--pretrained", required=True, type=FOLDER, help="Folder that `pretrain` wrote.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the member.")
@shared_options
def metatrain(
    run, member, pretrained, out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Meta-train one member by MAML and FOMAML on families that it has not seen."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import Workbench, metatrain_member

    bench = Workbench.open(structures, graphs, run, settings)
    metatrain_member(bench, pretrained, out, settings, member=member, seed=seed, device=device)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", required=True, type=int, help="Number of the ensemble's member.")
@click.option("--folder", required=True, type=FOLDER, help="Folder of the member.")
@click.option("--shard", default=0, show_default=True, help="Which share of the episodes.")
@click.option("--shards", default=1, show_default=True, help="Number of shares.")
@click.option("--out", required=True, type=FILE, help="Table of predictions to write.")
@shared_options
def evaluate(
    run, member, folder, shard, shards, out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Predict all episodes with one member, adapted in each way."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import Workbench, evaluate_member

    bench = Workbench.open(structures, graphs, run, settings)
    evaluate_member(
        bench,
        run,
        folder,
        out,
        settings,
        member=member,
        shard=shard,
        shards=shards,
        device=device,
    )


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--property", "name", required=True, help="Property's column.")
@click.option("--out", required=True, type=FILE, help="Table of predictions to write.")
@click.option("--model-out", required=True, type=FILE, help="Fitted models to write.")
@shared_options
def baseline(
    run, name, out, model_out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Predict all episodes of one property with the baselines."""
    settings = prepare(config_file, threads)
    from matml.processors import usable_threads
    from matml.properties.stages import Workbench, evaluate_baseline

    bench = Workbench.open(structures, graphs, run, settings)
    evaluate_baseline(
        bench, run, out, model_out, settings, name=name, seed=seed, threads=usable_threads(threads)
    )


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option(
    "--member", "members", multiple=True, required=True, type=FILE, help="Predictions of a member."
)
@click.option(
    "--baseline", "baselines", multiple=True, required=True, type=FILE, help="Those of baselines."
)
@click.option("--out", required=True, type=FOLDER, help="Folder of the scores.")
@shared_options
def compare(
    run, members, baselines, out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Choose methods on validation families and score all of them on test families."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import Workbench
    from matml.properties.summarise import summarise

    bench = Workbench.open(structures, graphs, run, settings)
    summarise(bench, run, members, baselines, out)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", "members", multiple=True, type=FOLDER, help="Folder of a member.")
@click.option("--baseline", "baselines", multiple=True, type=FILE, help="Fitted baselines.")
@click.option("--evaluation", required=True, type=FOLDER, help="Folder that `compare` wrote.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the predictor.")
@shared_options
def export(
    run, members, baselines, evaluation, out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Gather the members and the chosen methods into one predictor."""
    settings = prepare(config_file, threads)
    from matml.properties.export import export_predictor
    from matml.properties.stages import Workbench

    bench = Workbench.open(structures, graphs, run, settings)
    export_predictor(bench, members, baselines, evaluation, out, settings, seed=seed)


def study_options(command: Callable) -> Callable:
    """Add the options that the studies of adaptation take."""
    for option in (
        click.option("--figure", "figure_file", type=FILE, help="Figure to write, PNG."),
        click.option("--json", "json_file", type=FILE, help="Write tidy records."),
        click.option("--property", "names", multiple=True, help="Property; may be repeated."),
        click.option(
            "--member", "members", multiple=True, required=True, type=FOLDER, help="Of a member."
        ),
        click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote."),
    ):
        command = option(command)
    return shared_options(command)


def open_study(run, structures, graphs, config_file, threads):
    """Return the settings and the crystals that a study is made on."""
    settings = prepare(config_file, threads)
    from matml.properties.stages import Workbench

    return settings, Workbench.open(structures, graphs, run, settings)


STUDIED = ("formation_energy_eV_per_atom", "bulk_modulus_GPa")


@properties.command("study-forgetting")
@click.option("--shots", default=10, show_default=True, type=click.IntRange(1))
@click.option("--steps", multiple=True, type=click.IntRange(1), help="A family; may be repeated.")
@click.option("--orders", default=20, show_default=True, type=click.IntRange(1))
@click.option("--length", default=6, show_default=True, type=click.IntRange(2), help="Families.")
@study_options
def study_forgetting(
    members, names, json_file, figure_file, device, seed, shots, steps, orders, length, **inputs
) -> None:
    """Adapt to one unseen family after another and watch the errors on the earlier ones."""
    settings, bench = open_study(**inputs)
    from matml.files import write_json
    from matml.properties.studies import forgetting, forgetting_report

    moved = 100 * forgetting.distance_of_starts(bench, members, settings)
    click.echo(f"Meta-training moved the weights by {moved:.3f} % of the pre-trained norm")
    outcomes, records = {}, []
    for name in names or STUDIED:
        outcomes[name] = forgetting.study(
            bench,
            members,
            settings,
            name,
            shots=shots,
            steps=sorted(set(steps)) or sorted({settings.inner_steps, 30}),
            orders=orders,
            length=length,
            seed=seed,
            device=device,
        )
        found = forgetting_report.summarise(
            name, outcomes[name], shots=shots, default_steps=settings.inner_steps, seed=seed
        )
        forgetting_report.print_tables(name, found, click.echo)
        records += found
    if json_file:
        write_json(json_file, records)
    if figure_file:
        forgetting_report.draw(outcomes, figure_file, shots=shots)


@properties.command("study-shots")
@click.option("--shots", multiple=True, type=click.IntRange(1), help="Labels; may be repeated.")
@click.option("--steps", multiple=True, type=click.IntRange(0), help="May be repeated.")
@click.option("--draws", default=20, show_default=True, type=click.IntRange(2))
@study_options
def study_shots(
    members, names, json_file, figure_file, device, seed, shots, steps, draws, **inputs
) -> None:
    """Part the error of adapted predictors into bias and variance, by labels and steps."""
    settings, bench = open_study(**inputs)
    from matml.files import write_json
    from matml.properties.studies import shots as study
    from matml.properties.studies import shots_report

    tables, records = {}, []
    for name in names or STUDIED:
        tables[name] = study.study(
            bench,
            members,
            settings,
            name,
            shots=sorted(set(shots)) or (1, 2, 5, 10, 20),
            # the start is what every change is counted from
            steps=sorted({0, *(steps or (1, 2, 3, 5, 10, 20, 50))}),
            draws=draws,
            seed=seed,
            device=device,
        )
        found = shots_report.summarise(
            name, tables[name], default_steps=settings.inner_steps, seed=seed
        )
        shots_report.print_tables(name, tables[name], found, click.echo)
        records += found
    if json_file:
        write_json(json_file, records)
    if figure_file:
        shots_report.draw(tables, figure_file, default_steps=settings.inner_steps)
