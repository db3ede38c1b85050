"""`matml kinetics run`: all that the workflow does with a data set, in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from matml.cli.kinetics.options import stage_options
from matml.cli.options import RESULTS

if TYPE_CHECKING:
    from matml.kinetics.settings import KineticsSection


@click.command()
@click.option("--dataset", required=True, help="Name of a data set in the configuration.")
@click.option("--out", type=RESULTS, required=True)
@stage_options
def run(dataset: str, out: Path, settings: KineticsSection, seed: int) -> None:
    """Prepare a configured data set, learn from it, calibrate held-out alloys, compare methods.

    The commands prepare, learn, calibrate and benchmark, one after the other.
    """
    from matml.kinetics.data.prepare import prepare_dataset, read_and_report

    prepare_dataset(dataset, settings, out, seed)
    from matml.kinetics.evaluation.pipeline import benchmark_stage
    from matml.kinetics.pipeline import calibrate_stage, learn_stage

    data, alloys = out / "observations.csv", out / "alloys.csv"
    equation = settings.datasets[dataset].equation
    observations, place = read_and_report(data, alloys), out / "population"
    learn_stage(data, observations, equation, settings, place, settings.held_out, seed)
    calibrate_stage(
        [place / "population.json"],
        data,
        observations,
        out / "calibration",
        [],
        True,
        None,
        settings,
        seed,
    )
    benchmark_stage([(dataset, data, alloys, equation)], settings, out, None, seed)
