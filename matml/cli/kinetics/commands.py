"""`matml kinetics …`: simulate, prepare, learn, calibrate, benchmark."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matml.cli.kinetics.app import app
from matml.cli.kinetics.check import (
    compare_equations,
    equations,
    make_populations,
    populations,
    recovery,
)
from matml.cli.kinetics.convert import convert, inspect
from matml.cli.kinetics.diagram import diagram
from matml.cli.kinetics.options import (
    FOLDER,
    READABLE,
    Duration,
    bound_threads,
    json_option,
    settings_options,
    stage_options,
    threads_number,
    trust_option,
)
from matml.cli.kinetics.run import run
from matml.cli.options import RESULTS

if TYPE_CHECKING:
    from matml.kinetics.inference.run_offsets import RunOffsets
    from matml.kinetics.settings import KineticsSection

EQUATION_HELP = (
    "Name of an equation, such as jmak (`matml kinetics equations` lists them), or a Python file "
    "that defines EQUATION."
)
PRIOR_HELP = (
    "population.json of `learn`, or the name of one that comes with matml (`matml kinetics "
    "populations` lists them)."
)
data_option = click.option(
    "--data", type=READABLE, required=True, help="CSV of observations (see the README)."
)
alloys_option = click.option("--alloys", type=READABLE, help="CSV with one row per alloy.")
POPULATION = click.Path(path_type=Path)
"""A population's file, the folder that holds it, or its name."""
prior_option = click.option("--prior", type=POPULATION, required=True, help=PRIOR_HELP)
out_option = click.option("--out", type=RESULTS, required=True)
REAL = "Folder with the measured sets stainless_ttt and tempering"


def real_option(help: str, required: bool = False) -> Callable:
    """Return the option of the folder of measured sets."""
    return click.option(
        "--real", type=FOLDER, envvar="MATML_KINETICS_DATA", required=required, help=help
    )


def offset_options(command: Callable) -> Callable:
    """Add the options of errors that runs share."""
    for name, what in (
        ("--offset-time", "s of the start time that the observations of a run share."),
        (
            "--offset-temperature",
            "K of the temperature error that the observations of a run share (column `run`).",
        ),
    ):
        option = click.option(
            name, type=click.FloatRange(min=0), help=f"Standard deviation in {what}"
        )
        command = option(command)
    return command


def _offsets(temperature: float | None, time: float | None) -> RunOffsets | None:
    from matml.kinetics.inference.run_offsets import RunOffsets

    if temperature is None and time is None:
        return None
    return RunOffsets(temperature or 0.0, time or 0.0)


@click.group()
def kinetics() -> None:
    """Learn and calibrate kinetic equations of phase transformations."""


for command in (
    app,
    inspect,
    convert,
    recovery,
    equations,
    compare_equations,
    diagram,
    populations,
    make_populations,
    run,
):
    kinetics.add_command(command)


@kinetics.command()
@click.option(
    "--set", "name", type=click.Choice(["jmak", "ttt"]), required=True, help="Published alloys."
)
@out_option
@settings_options
def simulate(name: str, out: Path, settings: KineticsSection, seed: int) -> None:
    """Simulate observations of published alloys: observations.csv, alloys.csv, truth.csv."""
    from matml.kinetics.data.prepare import simulate_dataset

    simulate_dataset(name, settings, out, seed)


@kinetics.command()
@click.option("--dataset", required=True, help="Name of a data set in the configuration.")
@out_option
@settings_options
def prepare(dataset: str, out: Path, settings: KineticsSection, seed: int) -> None:
    """Write a configured data set in checked, tidy form: simulated, or read from its files."""
    from matml.kinetics.data.prepare import prepare_dataset

    prepare_dataset(dataset, settings, out, seed)


@kinetics.command()
@data_option
@alloys_option
@click.option("--equation", required=True, help=EQUATION_HELP)
@out_option
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.9),
    help="Fraction of composition groups held out of learning; 0 learns from all.",
)
@offset_options
@settings_options
@threads_number
def learn(
    data: Path,
    alloys: Path | None,
    settings: KineticsSection,
    held_out: float | None,
    offset_temperature: float | None,
    offset_time: float | None,
    threads: int,
    **options: Any,
) -> None:
    """Learn a population of alloys: population.json, training_parameters.csv, learn.json."""
    from matml.kinetics.data.prepare import read_and_report
    from matml.kinetics.equation_names import check_equation

    # before torch, so that a faulty file is refused at once
    check_equation(options["equation"])
    observations = read_and_report(data, alloys)
    bound_threads(threads)
    from matml.kinetics.inference.run_offsets import NO_OFFSETS
    from matml.kinetics.pipeline import learn_stage

    learn_stage(
        data,
        observations,
        settings=settings,
        held_out=settings.held_out if held_out is None else held_out,
        offsets=_offsets(offset_temperature, offset_time) or NO_OFFSETS,
        **options,
    )


@kinetics.command()
@click.option(
    "--prior",
    "priors",
    type=POPULATION,
    multiple=True,
    help=PRIOR_HELP + " Several are mixed by the evidence of the observations.",
)
@click.option(
    "--equation",
    help="Without a population: the prior is generic, the typical ranges of this equation. "
    + EQUATION_HELP,
)
@trust_option
@data_option
@alloys_option
@click.option(
    "--out",
    type=RESULTS,
    default=Path("calibration"),
    show_default=True,
    help="One folder per alloy is made in it.",
)
@click.option("--alloy", "names", multiple=True, help="Alloy to calibrate; by default all.")
@click.option(
    "--held-out",
    is_flag=True,
    help="Calibrate the alloys that the population was not learned from, from a few random points "
    "(settings calibration_points, calibrated_alloys), and score the others.",
)
@click.option("--points", type=click.IntRange(min=1), help="Use this many random points.")
@click.option(
    "--without-outliers",
    is_flag=True,
    help="Leave out observations that are improbable given the others.",
)
@click.option(
    "--robust",
    is_flag=True,
    help="Heavy-tailed errors (Student t, 2 degrees of freedom) of single observations: a gross "
    "one pulls little, whether or not it is found out.",
)
@offset_options
@click.option(
    "--temperature",
    nargs=2,
    type=float,
    metavar="LOW HIGH",
    help="Temperatures in C that the diagrams span; by default those of the data.",
)
@click.option(
    "--mcmc",
    is_flag=True,
    help="Check the posterior by the No-U-Turn sampler (needs matml[mcmc]; minutes): mcmc.csv.",
)
@settings_options
@threads_number
def calibrate(
    names: tuple[str, ...],
    data: Path,
    alloys: Path | None,
    offset_temperature: float | None,
    offset_time: float | None,
    threads: int,
    **options: Any,
) -> None:
    """Calibrate alloys: parameters with intervals, band, diagram (PNG, SVG), JSON and CSV."""
    from matml.core.errors import MatmlError
    from matml.kinetics.data.prepare import read_and_report
    from matml.kinetics.equation_names import check_equation

    # before torch, so that a faulty file is refused at once
    if not options["priors"] and options["equation"] is None:
        raise MatmlError(
            "give --prior, a population that comes with matml (`matml kinetics populations` lists "
            "them) or the population.json of `matml kinetics learn`, or, where there is none, "
            "--equation NAME (`matml kinetics equations` lists them)"
        )
    if options["equation"] is not None:
        check_equation(options["equation"])
    observations = read_and_report(data, alloys)
    bound_threads(threads)
    from matml.kinetics.pipeline import calibrate_stage

    offsets = _offsets(offset_temperature, offset_time)
    calibrate_stage(
        names=list(names), data=data, observations=observations, offsets=offsets, **options
    )


@kinetics.command()
@prior_option
@trust_option
@click.option("--data", type=READABLE, help="CSV of what was measured so far, if anything.")
@alloys_option
@click.option("--alloy", "name", help="Alloy; needed if the files hold several.")
@click.option(
    "--temperature",
    nargs=2,
    type=float,
    help="Lowest and highest temperature in C that matter; by default the population's.",
)
@click.option("--time", nargs=2, type=float, help="Shortest and longest time in s that matters.")
@click.option("--feasible-temperature", nargs=2, type=float, help="What can be measured, C.")
@click.option("--feasible-time", nargs=2, type=float, help="What can be measured, s.")
@click.option("--heating-rate", nargs=2, type=float, help="Slowest and fastest in K/s (peaks).")
@click.option(
    "--longest",
    "longest_s",
    type=Duration(),
    help="Longest experiment, such as 8h, 90min or 3600 (s), by what is expected of it.",
)
@click.option(
    "--cost",
    nargs=2,
    type=click.FloatRange(min=0),
    help="Of an experiment, and of each hour that it takes, in any currency: most is learned for "
    "it.",
)
@click.option("--points", "count", type=click.IntRange(min=1, max=50), default=3, show_default=True)
@click.option("--out", type=RESULTS, default="design", show_default=True, help="Folder.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@threads_number
def design(
    temperature: tuple[float, float] | None,
    time: tuple[float, float] | None,
    feasible_temperature: tuple[float, float] | None,
    feasible_time: tuple[float, float] | None,
    heating_rate: tuple[float, float] | None,
    data: Path | None,
    alloys: Path | None,
    threads: int,
    **options: Any,
) -> None:
    """Propose the next experiments: design.csv, candidates.csv, design.png."""
    from matml.kinetics.data.prepare import read_and_report

    # what cannot be read is told before torch is there, which takes seconds
    observations = None if data is None else read_and_report(data, alloys)
    bound_threads(threads)
    from matml.kinetics.design.pipeline import design_stage

    wanted = (temperature, time, heating_rate)
    feasible = (feasible_temperature or temperature, feasible_time or time, heating_rate)
    design_stage(
        observations=observations, alloys=alloys, wanted=wanted, feasible=feasible, **options
    )


@kinetics.command()
@prior_option
@trust_option
@click.option("--data", type=READABLE, help="CSV of what was measured so far, if anything.")
@alloys_option
@click.option("--alloy", "name", help="Alloy; needed if the files hold several.")
@click.option("--target", required=True, help="Such as 'hardness_HRC = 45 +- 1'.")
@click.option(
    "--cost",
    type=click.Choice(["trials", "time", "energy"]),
    default="trials",
    show_default=True,
    help="What is to be spared.",
)
@click.option("--furnace", type=READABLE, help="YAML of the furnace; see the documentation.")
@json_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@threads_number
def reach(
    target: str,
    furnace: Path | None,
    data: Path | None,
    alloys: Path | None,
    threads: int,
    **options: Any,
) -> None:
    """Say what to try next so that a new alloy reaches a target."""
    from matml.core.settings import read_section
    from matml.kinetics.data.prepare import read_and_report
    from matml.kinetics.reach.furnace import Furnace
    from matml.kinetics.reach.target import Target

    wanted, able = Target.of(target), read_section(Furnace, furnace)
    observations = None if data is None else read_and_report(data, alloys)
    bound_threads(threads)
    from matml.kinetics.reach.pipeline import reach_stage

    reach_stage(observations=observations, alloys=alloys, target=wanted, furnace=able, **options)


@kinetics.command()
@real_option("Folder with the measured set tempering.", required=True)
@click.option("--tolerance", type=click.FloatRange(min=0, min_open=True), default=1.0)
@json_option
@stage_options
def reach_benchmark(real: Path, settings: KineticsSection, **options: Any) -> None:
    """Count the trials that policies need to reach a hardness, on measured series."""
    from matml.kinetics.evaluation.pipeline import measured_sets
    from matml.kinetics.reach.pipeline import reach_benchmark_stage

    sets = [found for found in measured_sets(real) if found[0] == "tempering"]
    reach_benchmark_stage(sets, _changed(settings, {"folds": 6}), **options)


@kinetics.command()
@real_option(f"{REAL}.", required=True)
@click.option("--most", type=click.IntRange(min=2), default=10, show_default=True, help="Points.")
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True)
@json_option
@stage_options
def design_benchmark(real: Path, settings: KineticsSection, **options: Any) -> None:
    """Compare chosen points with random ones and a regular grid on the measured sets."""
    from matml.kinetics.evaluation.pipeline import design_benchmark_stage, measured_sets

    design_benchmark_stage(measured_sets(real), _changed(settings, {"folds": 6}), **options)


def _changed(settings: KineticsSection, given: dict[str, object]) -> KineticsSection:
    """Return settings with what the command line gives."""
    from matml.core.settings import validate

    return validate(type(settings), settings.model_dump() | given, "command line")


@kinetics.command()
@real_option(f"{REAL}: both are run, by default with 1, 2, 3, 4, 6, 10 shots, 20 draws, 6 folds.")
@click.option("--data", type=READABLE, help="CSV of observations, instead of --real.")
@alloys_option
@click.option("--equation", help="With --data: " + EQUATION_HELP)
@click.option("--out", type=RESULTS, help="Write scores.csv, scores_by_alloy.csv, summary.json.")
@click.option("--name", help="Name of the data set in the results; by default the folder's.")
@click.option("--shots", help="Comma-separated numbers of observations, for instance 1,2,3,5,10.")
@click.option("--draws", type=click.IntRange(min=1), help="Random draws per alloy.")
@click.option("--folds", type=click.IntRange(min=2), help="Grouped folds over alloys.")
@click.option(
    "--nuts",
    is_flag=True,
    help="Also compare the default with the No-U-Turn sampler on the same posterior, one draw per "
    "alloy (needs matml[mcmc]; minutes for each number of shots).",
)
@json_option
@stage_options
def benchmark(
    settings: KineticsSection,
    real: Path | None,
    data: Path | None,
    alloys: Path | None,
    equation: str | None,
    name: str | None,
    shots: str | None,
    draws: int | None,
    folds: int | None,
    **options: Any,
) -> None:
    """Compare methods on held-out alloys, of one set or of both measured ones."""
    from matml.core.errors import MatmlError
    from matml.kinetics.evaluation.pipeline import benchmark_stage, measured_sets

    changed: dict[str, object] = {"draws": draws, "folds": folds}
    if data is None:
        # the design of the published comparison, unless the command line says otherwise
        changed = {"draws": draws or 20, "folds": folds or 6, "shots": [1, 2, 3, 4, 6, 10]}
    if shots is not None:
        try:
            changed["shots"] = [int(part) for part in shots.split(",")]
        except ValueError:
            raise MatmlError(
                f"--shots {shots!r}: give whole numbers with commas, as 1,2,5"
            ) from None
    given = {key: value for key, value in changed.items() if value is not None}
    settings = _changed(settings, given)
    if data is not None:
        if equation is None:
            raise MatmlError("--data needs --equation: " + EQUATION_HELP)
        label = name or data.resolve().parent.name
        sets = [(label, data, alloys, equation)]
    elif real is not None:
        sets = measured_sets(real)
    else:
        raise MatmlError("give --data FILE with --equation, or --real FOLDER")
    benchmark_stage(sets, settings, **options)
