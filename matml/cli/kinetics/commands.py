"""`matml kinetics …`: simulate, prepare, learn, calibrate, benchmark."""

from collections.abc import Callable
from pathlib import Path

import click

from matml.cli.kinetics.check import equations, recovery
from matml.cli.kinetics.convert import convert
from matml.cli.kinetics.run import run

READABLE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)

config_option = click.option(
    "--config",
    type=READABLE,
    help="YAML with the keys of the kinetics section; by default its defaults.",
)
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
threads_option = click.option(
    "--threads", type=click.IntRange(min=1), default=1, show_default=True, help="At most."
)
data_option = click.option(
    "--data", type=READABLE, required=True, help="CSV of observations (see the README)."
)
alloys_option = click.option("--alloys", type=READABLE, help="CSV with one row per alloy.")
EQUATION_HELP = (
    "Name of an equation, such as jmak (`matml kinetics equations` lists them), or a Python file "
    "that defines EQUATION."
)

equation_option = click.option(
    "--equation",
    required=True,
    help=EQUATION_HELP,
)

trust_option = click.option(
    "--trust-equation",
    is_flag=True,
    help="Run the Python file that the population names as its equation; needed once per content.",
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


@click.group()
def kinetics() -> None:
    """Learn and calibrate kinetic equations of phase transformations."""


kinetics.add_command(convert)
kinetics.add_command(recovery)
kinetics.add_command(equations)
kinetics.add_command(run)


@kinetics.command()
@click.option(
    "--set", "name", type=click.Choice(["jmak", "ttt"]), required=True, help="Published alloys."
)
@click.option("--out", type=FOLDER, required=True)
@config_option
@seed_option
def simulate(name: str, out: Path, config: Path | None, seed: int) -> None:
    """Simulate observations of published alloys: observations.csv, alloys.csv, truth.csv."""
    from matml.core.settings import read_section
    from matml.kinetics.data.prepare import simulate_dataset
    from matml.kinetics.settings import KineticsSection

    simulate_dataset(name, read_section(KineticsSection, config), out, seed)


@kinetics.command()
@click.option("--dataset", required=True, help="Name of a data set in the configuration.")
@click.option("--out", type=FOLDER, required=True)
@config_option
@seed_option
def prepare(dataset: str, out: Path, config: Path | None, seed: int) -> None:
    """Write a configured data set in checked, tidy form: simulated, or read from its files."""
    from matml.core.settings import read_section
    from matml.kinetics.data.prepare import prepare_dataset
    from matml.kinetics.settings import KineticsSection

    prepare_dataset(dataset, read_section(KineticsSection, config), out, seed)


@kinetics.command()
@data_option
@alloys_option
@equation_option
@click.option("--out", type=FOLDER, required=True)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.9),
    help="Fraction of composition groups held out of learning; 0 learns from all.",
)
@offset_options
@config_option
@seed_option
@threads_option
def learn(
    data: Path,
    alloys: Path | None,
    equation: str,
    out: Path,
    held_out: float | None,
    offset_temperature: float | None,
    offset_time: float | None,
    config: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Learn a population of alloys: population.json, training_parameters.csv, learn.json."""
    from matml.core.settings import read_section
    from matml.kinetics.inference.run_offsets import RunOffsets
    from matml.kinetics.pipeline import learn_stage, limit_threads
    from matml.kinetics.settings import KineticsSection

    limit_threads(threads)
    settings = read_section(KineticsSection, config)
    held = settings.held_out if held_out is None else held_out
    offsets = RunOffsets(offset_temperature or 0.0, offset_time or 0.0)
    learn_stage(data, alloys, equation, settings, out, held, seed, offsets)


@kinetics.command()
@click.option("--prior", type=READABLE, required=True, help="population.json of `learn`.")
@trust_option
@data_option
@alloys_option
@click.option("--out", type=FOLDER, required=True, help="One folder per alloy is made in it.")
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
    "--mcmc",
    is_flag=True,
    help="Check the posterior by the No-U-Turn sampler (needs matml[mcmc]; minutes): mcmc.csv.",
)
@config_option
@seed_option
@threads_option
def calibrate(
    prior: Path,
    trust_equation: bool,
    data: Path,
    alloys: Path | None,
    out: Path,
    names: tuple[str, ...],
    held_out: bool,
    points: int | None,
    without_outliers: bool,
    robust: bool,
    offset_temperature: float | None,
    offset_time: float | None,
    mcmc: bool,
    config: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Calibrate alloys: parameters with intervals, band, diagram (PNG, SVG), JSON and CSV."""
    from matml.core.settings import read_section
    from matml.kinetics.inference.run_offsets import RunOffsets
    from matml.kinetics.pipeline import calibrate_stage, limit_threads
    from matml.kinetics.settings import KineticsSection

    limit_threads(threads)
    settings = read_section(KineticsSection, config)
    offsets = None
    if offset_temperature is not None or offset_time is not None:
        offsets = RunOffsets(offset_temperature or 0.0, offset_time or 0.0)
    calibrate_stage(
        prior,
        data,
        alloys,
        out,
        list(names),
        held_out,
        points,
        settings,
        seed,
        without_outliers=without_outliers,
        mcmc=mcmc,
        robust=robust,
        offsets=offsets,
        trust_equation=trust_equation,
    )


@kinetics.command()
@click.option("--prior", type=READABLE, required=True, help="population.json of `learn`.")
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
@click.option("--points", type=click.IntRange(min=1, max=50), default=3, show_default=True)
@click.option("--out", type=FOLDER, required=True)
@seed_option
@threads_option
def design(
    prior: Path,
    trust_equation: bool,
    data: Path | None,
    alloys: Path | None,
    name: str | None,
    temperature: tuple[float, float] | None,
    time: tuple[float, float] | None,
    feasible_temperature: tuple[float, float] | None,
    feasible_time: tuple[float, float] | None,
    heating_rate: tuple[float, float] | None,
    points: int,
    out: Path,
    seed: int,
    threads: int,
) -> None:
    """Propose the next experiments: design.csv, candidates.csv, design.png."""
    from matml.kinetics.design.pipeline import design_stage
    from matml.kinetics.pipeline import limit_threads

    limit_threads(threads)
    wanted = (temperature, time, heating_rate)
    feasible = (feasible_temperature or temperature, feasible_time or time, heating_rate)
    design_stage(
        *(prior, data, alloys, name, wanted, feasible, points, out, seed),
        trust_equation=trust_equation,
    )


@kinetics.command()
@click.option(
    "--real",
    type=FOLDER,
    envvar="MATML_KINETICS_DATA",
    required=True,
    help="Folder with the measured sets stainless_ttt and tempering.",
)
@click.option("--most", type=click.IntRange(min=2), default=10, show_default=True, help="Points.")
@click.option("--draws", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--json", "json_path", type=READABLE, help="Also write tidy records here.")
@config_option
@seed_option
@threads_option
def design_benchmark(
    real: Path,
    most: int,
    draws: int,
    json_path: Path | None,
    config: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Compare chosen points with random ones and a regular grid on the measured sets."""
    from matml.core.settings import read_section, validate
    from matml.kinetics.evaluation.pipeline import design_benchmark_stage, measured_sets
    from matml.kinetics.pipeline import limit_threads
    from matml.kinetics.settings import KineticsSection

    limit_threads(threads)
    settings = read_section(KineticsSection, config)
    settings = validate(KineticsSection, settings.model_dump() | {"folds": 6}, "command line")
    design_benchmark_stage(measured_sets(real), settings, most, draws, json_path, seed)


@kinetics.command()
@click.option(
    "--real",
    type=FOLDER,
    envvar="MATML_KINETICS_DATA",
    help="Folder with the measured sets stainless_ttt and tempering: both are run, by default "
    "with 1, 2, 3, 4, 6, 10 shots, 20 draws, 6 folds.",
)
@click.option("--data", type=READABLE, help="CSV of observations, instead of --real.")
@alloys_option
@click.option("--equation", help="With --data: " + EQUATION_HELP)
@click.option("--out", type=FOLDER, help="Write scores.csv, scores_by_alloy.csv, summary.json.")
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
@click.option("--json", "json_path", type=READABLE, help="Also write tidy records here.")
@config_option
@seed_option
@threads_option
def benchmark(
    real: Path | None,
    data: Path | None,
    alloys: Path | None,
    equation: str | None,
    out: Path | None,
    name: str | None,
    shots: str | None,
    draws: int | None,
    folds: int | None,
    nuts: bool,
    json_path: Path | None,
    config: Path | None,
    seed: int,
    threads: int,
) -> None:
    """Compare methods on held-out alloys, of one set or of both measured ones."""
    from matml.core.errors import MatmlError
    from matml.core.settings import read_section, validate
    from matml.kinetics.evaluation.pipeline import benchmark_stage, measured_sets
    from matml.kinetics.pipeline import limit_threads
    from matml.kinetics.settings import KineticsSection

    limit_threads(threads)
    settings = read_section(KineticsSection, config)
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
    settings = validate(KineticsSection, settings.model_dump() | given, "command line")
    if data is not None:
        if equation is None:
            raise MatmlError("--data needs --equation: " + EQUATION_HELP)
        label = name or data.resolve().parent.name
        sets = [(label, data, alloys, equation)]
    elif real is not None:
        sets = measured_sets(real)
    else:
        raise MatmlError("give --data FILE with --equation, or --real FOLDER")
    benchmark_stage(sets, settings, out, json_path, seed, nuts=nuts)
