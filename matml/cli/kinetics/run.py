"""`matml kinetics run`: all that the workflow does with a data set, in one."""

from pathlib import Path

import click

READABLE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--dataset", required=True, help="Name of a data set in the configuration.")
@click.option("--out", type=FOLDER, required=True)
@click.option("--config", type=READABLE, help="YAML with the kinetics section's keys.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="At most."
)
def run(dataset: str, out: Path, config: Path | None, seed: int, threads: int) -> None:
    """Prepare a configured data set, learn from it, calibrate held-out alloys, compare methods.

    The commands prepare, learn, calibrate and benchmark, one after the other.
    """
    from matml.core.settings import read_section
    from matml.kinetics.data.prepare import prepare_dataset
    from matml.kinetics.settings import KineticsSection

    settings = read_section(KineticsSection, config)
    prepare_dataset(dataset, settings, out, seed)
    from matml.kinetics.evaluation.pipeline import benchmark_stage
    from matml.kinetics.pipeline import calibrate_stage, learn_stage, limit_threads

    limit_threads(threads)
    data, alloys = out / "observations.csv", out / "alloys.csv"
    equation = settings.datasets[dataset].equation
    learn_stage(data, alloys, equation, settings, out / "population", settings.held_out, seed)
    calibrate_stage(
        out / "population/population.json",
        data,
        alloys,
        out / "calibration",
        [],
        True,
        None,
        settings,
        seed,
    )
    benchmark_stage([(dataset, data, alloys, equation)], settings, out, None, seed)
