"""`matml properties study-…`: when adaptation pays, and what it costs."""

from pathlib import Path
from typing import Any

import click

from matml.cli.options import FILE, FOLDER
from matml.cli.properties.options import Command, Stage, run_option, stage_options

json_option = click.option("--json", "json_file", type=FILE, help="Write tidy records.")


@click.command("study-biased-support")
@run_option
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
    "--scale",
    "scales",
    multiple=True,
    type=float,
    help="Its initial standard deviation among tasks to try.",
)
@click.option("--keep", type=FOLDER, help="Folder of checkpoints to go on from after a stop.")
@json_option
@click.option("--figure", type=FILE, help="Draw the errors, PNG.")
@click.option("--errors", type=FILE, help="Write the error of every episode, CSV or Parquet.")
@stage_options
def study_biased_support(
    stage: Stage,
    run: Path,
    members: tuple[Path, ...],
    json_file: Path | None,
    figure: Path | None,
    errors: Path | None,
    **options: Any,
) -> None:
    """Supports of one anion, queries of all: what meta-training on such episodes gains."""
    bench = stage.open(run)
    from matml.core.files import write_json, write_table
    from matml.studies.adaptation.biased import BiasedStudy, describe, run_study, score

    # options that are not given keep the study's defaults
    given: dict[str, Any] = {
        key: tuple(dict.fromkeys(value)) if isinstance(value, tuple) else value
        for key, value in options.items()
        if value not in (None, ())
    }
    study = BiasedStudy(seed=stage.seed, **given)
    table = run_study(bench, members, stage.settings, study, device=stage.device)
    deviations = dict(zip(bench.names, bench.standardisation.deviation.tolist(), strict=True))
    records = score(table, deviations, stage.seed)
    click.echo(describe(records))
    if errors:
        write_table(errors, table)
    if json_file:
        write_json(json_file, records)
    if figure:
        from matml.studies.adaptation.biased_figure import draw

        draw(records, figure)


def study_options(command: Command) -> Command:
    """Add the options that the studies of adaptation take."""
    for option in (
        click.option("--figure", "figure_file", type=FILE, help="Figure to write, PNG."),
        json_option,
        click.option("--property", "names", multiple=True, help="Property; may be repeated."),
        click.option(
            "--member", "members", multiple=True, required=True, type=FOLDER, help="Of a member."
        ),
        run_option,
    ):
        command = option(command)
    return command


STUDIED = ("formation_energy_eV_per_atom", "bulk_modulus_GPa")


@click.command("study-forgetting")
@click.option("--shots", default=10, show_default=True, type=click.IntRange(1))
@click.option("--steps", multiple=True, type=click.IntRange(1), help="A family; may be repeated.")
@click.option("--orders", default=20, show_default=True, type=click.IntRange(1))
@click.option("--length", default=6, show_default=True, type=click.IntRange(2), help="Families.")
@study_options
@stage_options
def study_forgetting(
    stage: Stage,
    run: Path,
    members: tuple[Path, ...],
    names: tuple[str, ...],
    json_file: Path | None,
    figure_file: Path | None,
    shots: int,
    steps: tuple[int, ...],
    orders: int,
    length: int,
) -> None:
    """Adapt to one unseen family after another and watch the errors on the earlier ones."""
    settings, bench = stage.settings, stage.open(run)
    from matml.core.files import write_json
    from matml.studies.adaptation import forgetting, forgetting_report

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
            **stage.training,
        )
        found = forgetting_report.summarise(
            name, outcomes[name], shots=shots, default_steps=settings.inner_steps, seed=stage.seed
        )
        forgetting_report.print_tables(name, found, click.echo)
        records += found
    if json_file:
        write_json(json_file, records)
    if figure_file:
        forgetting_report.draw(outcomes, figure_file, shots=shots)


@click.command("study-shots")
@click.option("--shots", multiple=True, type=click.IntRange(1), help="Labels; may be repeated.")
@click.option("--steps", multiple=True, type=click.IntRange(0), help="May be repeated.")
@click.option("--draws", default=20, show_default=True, type=click.IntRange(2))
@study_options
@stage_options
def study_shots(
    stage: Stage,
    run: Path,
    members: tuple[Path, ...],
    names: tuple[str, ...],
    json_file: Path | None,
    figure_file: Path | None,
    shots: tuple[int, ...],
    steps: tuple[int, ...],
    draws: int,
) -> None:
    """Split the error of adapted predictors into bias and variance, by labels and steps."""
    settings, bench = stage.settings, stage.open(run)
    from matml.core.files import write_json
    from matml.studies.adaptation import shots as study
    from matml.studies.adaptation import shots_report

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
            **stage.training,
        )
        found = shots_report.summarise(
            name, tables[name], default_steps=settings.inner_steps, seed=stage.seed
        )
        shots_report.print_tables(name, tables[name], found, click.echo)
        records += found
    if json_file:
        write_json(json_file, records)
    if figure_file:
        shots_report.draw(tables, figure_file, default_steps=settings.inner_steps)


@click.command("study-size")
@run_option
@click.option("--out", required=True, type=FOLDER, help="Folder to keep what is trained in.")
@click.option(
    "--fraction",
    "fractions",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the training crystals to keep; 0.1, 0.2, 0.5 and, always, 1.",
)
@click.option(
    "--sampling",
    "samplings",
    multiple=True,
    type=click.Choice(["crystals", "families"]),
    help="What is drawn at random; may be repeated; crystals.",
)
@click.option(
    "--epochs",
    multiple=True,
    type=click.IntRange(1),
    help="Fewer epochs to try on all crystals; 5, 15, 30.",
)
@click.option("--members", type=click.IntRange(1), help="Networks; one a fold of cross-fitting.")
@click.option(
    "--seeds", default=2, show_default=True, type=click.IntRange(1), help="Samples of each size."
)
@click.option("--property", "names", multiple=True, help="Property; may be repeated.")
@json_option
@click.option("--figure", "figure_file", type=FILE, help="Draw the errors, PNG and SVG.")
@click.option("--part", help="Train only this part, for instance crystals-0.1-60-epochs-seed-0.")
@click.option("--figure-shots", default=10, show_default=True, help="Labels in the figure.")
@stage_options
def study_size(
    stage: Stage,
    run: Path,
    out: Path,
    fractions: tuple[float, ...],
    samplings: tuple[str, ...],
    epochs: tuple[int, ...],
    members: int | None,
    seeds: int,
    names: tuple[str, ...],
    json_file: Path | None,
    figure_file: Path | None,
    figure_shots: int,
    part: str | None,
) -> None:
    """Error on unseen families against training-set size and against time to train."""
    from matml.core.errors import MatmlError

    settings = stage.settings
    if figure_file and figure_shots not in settings.shots:
        raise MatmlError(
            f"--figure-shots {figure_shots}: the run's episodes have {settings.shots} labels"
        )
    from matml.studies.adaptation import size_parts

    parts = size_parts.plan(
        sorted(set(fractions)) or size_parts.FRACTIONS,
        tuple(dict.fromkeys(samplings)) or size_parts.SAMPLINGS,
        sorted(set(epochs)) or size_parts.EPOCHS,
        settings.epochs,
        range(stage.seed, stage.seed + seeds),
    )
    if part is not None:
        parts = [each for each in parts if str(each) == part]
        if not parts:
            raise MatmlError(f"--part {part}: is none of the study's")
    bench = stage.open(run)
    from matml.core.files import write_json
    from matml.studies.adaptation import sizes, sizes_report

    table = sizes.run_study(
        bench,
        run,
        out,
        settings,
        parts,
        names or STUDIED,
        members=members or bench.split.cross_folds,
        device=stage.device,
        threads=stage.threads,
    )
    if part is not None:
        return
    records = sizes_report.summarise(table, stage.seed)
    sizes_report.print_tables(records, click.echo)
    if json_file:
        write_json(json_file, records)
    if figure_file:
        sizes_report.draw(table, figure_file, shots=figure_shots)


STUDIES = (study_biased_support, study_forgetting, study_shots, study_size)
