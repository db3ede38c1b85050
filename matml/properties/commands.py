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


@properties.command("study-biased-support")
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option(
    "--member",
    "members",
    multiple=True,
    required=True,
    type=FOLDER,
    help="Folder of a member's pre-trained network; all, in the order of their numbers.",
)
@click.option("--shots", multiple=True, type=click.IntRange(1), help="Support size; 3, 5, 10.")
@click.option(
    "--draws",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Supports of each size per family, property and anion.",
)
@click.option(
    "--parts",
    default=2,
    show_default=True,
    type=click.IntRange(2),
    help="Parts of the unseen families: tested on one, meta-trained on the others.",
)
@click.option(
    "--smallest-class",
    default=2,
    show_default=True,
    type=click.IntRange(1),
    help="Fewest crystals of an anion in a query.",
)
@click.option("--batches", type=click.IntRange(1), help="Meta-batches of MAML.")
@click.option("--head-batches", type=click.IntRange(1), help="Meta-batches of the heads.")
@click.option("--gp-episodes", type=click.IntRange(1), help="Episodes per pair, residual model.")
@click.option("--validation-tasks", type=click.IntRange(1), help="Episodes that choose settings.")
@click.option("--rate", "rates", multiple=True, type=float, help="Outer rate of MAML to try.")
@click.option("--head-rate", "head_rates", multiple=True, type=float, help="The same of the heads.")
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    type=click.Choice(["linear", "full", "rbf"]),
    help="Kernel of the Gaussian-process head to try.",
)
@click.option(
    "--scale", "scales", multiple=True, type=float, help="Its initial deviation among tasks to try."
)
@click.option("--keep", type=FOLDER, help="Folder of checkpoints to go on from after a stop.")
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
@click.option("--figure", type=FILE, help="Draw the errors, PNG.")
@click.option("--errors", type=FILE, help="Write the error of every episode, CSV or Parquet.")
@shared_options
def study_biased_support(
    run,
    members,
    json_file,
    figure,
    errors,
    structures,
    graphs,
    config_file,
    threads,
    device,
    seed,
    **options,
) -> None:
    """Supports of one anion, queries of all: what meta-training on such episodes gains."""
    settings = prepare(config_file, threads)
    from matml.files import write_json, write_table
    from matml.properties.stages import Workbench
    from matml.properties.studies.biased import BiasedStudy, describe, run_study, score

    # options that are not given keep the study's defaults
    given = {
        key: tuple(dict.fromkeys(value)) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value not in (None, ())
    }
    study = BiasedStudy(seed=seed, **given)
    bench = Workbench.open(structures, graphs, run, settings)
    table = run_study(bench, members, settings, study, device=device)
    deviations = dict(zip(bench.names, bench.standardisation.deviation.tolist(), strict=True))
    records = score(table, deviations, seed)
    click.echo(describe(records))
    if errors:
        write_table(errors, table)
    if json_file:
        write_json(json_file, records)
    if figure:
        from matml.properties.studies.biased_figure import draw

        draw(records, figure)
