"""`matml candidates` and `matml screen`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from matml.cli.options import FILE, RESULTS

EXISTING_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)
EXISTING_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
known_option = click.option(
    "--known",
    type=EXISTING_FOLDER,
    help="Ingested known crystals; by default the 6,175 that ship with matml, read once.",
)


inputs_option = click.option(
    "--input",
    "own_inputs",
    multiple=True,
    help="Column of the support and of the candidates' tables, such as a computed value, from "
    "which a property of your own is learned too; repeatable.",
)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out",
    type=RESULTS,
    default="candidates",
    show_default=True,
    help="Folder for candidates.parquet and summary.json.",
)
@click.option("--family", help="Label or common name; default from the settings.")
@click.option(
    "--structures",
    type=EXISTING_FOLDER,
    help="Ingested crystals, which give the prototype of any ionic family and calibrate its "
    "volume; by default those that ship with matml.",
)
@click.option(
    "--relax/--no-relax",
    default=None,
    help="Relax cells and positions with CHGNet; default from the settings (no). Goes on where it "
    "was interrupted; what fails keeps the guessed cell and is marked.",
)
@click.option("--threads", type=click.IntRange(min=1), help="For --relax; default: all allowed.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
@click.pass_context
def candidates(
    context: click.Context,
    out: Path,
    family: str | None,
    structures: Path | None,
    relax: bool | None,
    threads: int | None,
    config: Path | None,
) -> None:
    """Make charge-neutral candidate crystals by exchanging ions in a family's prototype.

    `candidates.parquet` is a table that `matml structures ingest` and `matml screen` read.
    """
    if context.invoked_subcommand is not None:
        return
    from matml.screening.data.known import known_folder
    from matml.screening.generate.files import make_candidates

    make_candidates(out, family, known_folder(structures), config, relax, threads)


@candidates.command()
@click.option(
    "--structures",
    type=EXISTING_FOLDER,
    help="Ingested crystals; by default those that ship with matml.",
)
@click.option("--family", help="Label or common name; default from the settings.")
@click.option(
    "--property",
    "properties",
    multiple=True,
    help="Label column, repeatable; default: all of the settings.",
)
@click.option("--shots", type=click.IntRange(min=2), help="How many; default from the settings.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=FILE, required=True, help="CSV to write.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
def support(
    structures: Path | None,
    family: str | None,
    properties: tuple[str, ...],
    shots: int | None,
    seed: int,
    out: Path,
    config: Path | None,
) -> None:
    """Draw a few labelled members of a family as the support of `matml screen`."""
    from matml.screening.data.known import known_folder
    from matml.screening.generate.files import make_support

    make_support(known_folder(structures), family, properties, shots, seed, out, config)


# of the group, whose other commands take others
NEEDED = ("support", "inputs")
MODEL_HELP = "Trained few-shot predictor; by default the one that comes with matml."


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", type=EXISTING_FOLDER, help=MODEL_HELP)
@click.option(
    "--property",
    "property_name",
    help="Label column, of any property; default from the settings.",
)
@click.option(
    "--goal",
    type=click.Choice(["minimise", "maximise"]),
    help="Default: settings; without any, low energies and high values of all else.",
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    help="In place of --property and --goal, repeatable, the leading one first: "
    "'bulk_modulus_GPa >= 150', '1 <= band_gap_eV <= 2', 'band_gap_eV = 1.5', "
    "'formation_energy_eV_per_atom minimise', 'energy_above_hull_eV_per_atom <= 0.1', "
    "'raw_material_cost_per_kg minimise'.",
)
@click.option(
    "--unit",
    "units",
    multiple=True,
    help="Unit of a property of your own: K, or NAME=K where there are several; by default what "
    "the end of its name says.",
)
@inputs_option
@click.option(
    "--prices",
    type=EXISTING_FILE,
    help="CSV of elements for objectives on raw_material_cost_per_kg: element, price_per_kg and, "
    "if known, volatility per year and currency; default: pymatgen's of 2013.",
)
@click.option(
    "--price-horizon",
    "price_horizon_years",
    type=click.FloatRange(0, 30, min_open=True),
    help="Years ahead to which the cost's band refers; default from the settings (1).",
)
@click.option(
    "--rank-by",
    type=click.Choice(["prediction", "probability", "expected_improvement", "pareto"]),
    help="Default: settings.",
)
@click.option(
    "--support",
    type=EXISTING_FILE,
    help="CSV: id, file or poscar, and a column named as each property.  [required]",
)
@click.option(
    "--candidates",
    "inputs",
    type=EXISTING,
    multiple=True,
    help="Structures in any form that ingest reads, or a folder it wrote; may be repeated.  "
    "[required]",
)
@known_option
@click.option("--known-graphs", type=EXISTING_FOLDER, help="Their graphs.")
@click.option(
    "--out", type=RESULTS, default="screening", show_default=True, help="Folder for the shortlist."
)
@click.option("--top", type=click.IntRange(min=1), help="Candidates written as CIF.")
@click.option("--keep", type=click.IntRange(min=1), help="Rows of the shortlist.")
@click.option(
    "--trust-labels", is_flag=True, help="Accept labels that look as if they were in another unit."
)
@click.option("--diversity", type=click.FloatRange(0, 1, max_open=True), help="0: by score alone.")
@click.option("--shard", type=click.IntRange(min=0), help="Screen this share only; then merge.")
@click.option("--shards", type=click.IntRange(min=1), help="Number of shares.")
@click.option("--config", type=FILE, help="YAML with the keys of the screening section.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Default: all processors allowed.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.pass_context
def screen(context: click.Context, property_name: str | None, **options: Any) -> None:
    """Rank candidates of a new family after adapting a predictor to a few labelled members.

    Writes shortlist.csv (best first), candidates/*.cif of the top, scores.parquet of all
    candidates, crystals/quarantine.csv, summary.json. Candidates in tables are streamed: their
    number does not matter for memory.
    """
    if context.invoked_subcommand is not None:
        return
    if missing := [name for name in NEEDED if not options[name]]:
        named = {"inputs": "candidates"}.get(missing[0], missing[0])
        raise click.UsageError(f"Missing option '--{named}'.")
    from matml.screening.select.run import screen_candidates

    given = (unit.rpartition("=")[::2] for unit in options["units"])
    options["units"] = {name or property_name or "": unit for name, unit in given}
    options["columns"] = options.pop("own_inputs")
    screen_candidates(property=property_name, **options)


@screen.command()
@click.option("--model", type=EXISTING_FOLDER, help=MODEL_HELP)
@click.option("--property", "property_name", required=True, help="Label column.")
@click.option(
    "--goal",
    type=click.Choice(["minimise", "maximise"]),
    help="Default: low energies and high values of all else.",
)
@click.option("--unit", help="Unit of a property of your own; by default the end of its name.")
@inputs_option
@click.option(
    "--support",
    type=EXISTING_FILE,
    help="CSV of the labels so far: id, file or poscar, and the label.",
)
@click.option(
    "--candidates",
    "inputs",
    type=EXISTING,
    required=True,
    multiple=True,
    help="What may be labelled next: a shortlist's CIFs, or any structures.",
)
@known_option
@click.option("--known-graphs", type=EXISTING_FOLDER, help="Their graphs.")
@click.option("--number", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--strategy",
    type=click.Choice(["top", "improvement", "mean", "information"]),
    default="top",
    show_default=True,
    help="By probability of the best tenth, expected improvement, prediction, or information.",
)
@click.option(
    "--out",
    type=FILE,
    default="to_label.csv",
    show_default=True,
    help="CSV of what to label, in order.",
)
@click.option("--only-elements", help="Of which all of a candidate must be, such as Mg,Al,O.")
@click.option("--without-elements", help="None of which a candidate may hold, such as Pb,Cd.")
@click.option("--prices", type=EXISTING_FILE, help="CSV of elements: element, price_per_kg.")
@click.option(
    "--most-price",
    type=click.FloatRange(min=0),
    help="Highest price of a candidate by kg, from --prices by its mass fractions.",
)
@click.option(
    "--costs",
    type=EXISTING_FILE,
    help="CSV of what a label of each candidate costs: id, cost. A label counts by what it brings "
    "per cost.",
)
@click.option("--budget", type=click.FloatRange(min=0), help="That all may cost together.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
def suggest(
    property_name: str,
    only_elements: str | None,
    without_elements: str | None,
    prices: Path | None,
    most_price: float | None,
    costs: Path | None,
    budget: float | None,
    **options: Any,
) -> None:
    """Choose which candidates to label next, as a batch.

    With the stacked Gaussian process the choice is from its joint posterior over the labelled
    crystals and the candidates; each is chosen as if those before it had come out as predicted.
    """
    from matml.screening.acquire.constraints import Limits
    from matml.screening.acquire.suggest import suggest_labels

    only, without = (
        [symbol.strip() for symbol in text.split(",")] if text else []
        for text in (only_elements, without_elements)
    )
    limits = Limits(only, without, prices, most_price, costs, budget)
    suggest_labels(property_name=property_name, limits=limits, **options)


SHARED_OPTIONS = (
    click.option(
        "--model",
        "models",
        type=EXISTING_FOLDER,
        required=True,
        multiple=True,
        help="Exported predictor; repeat for those of a cross-validation, whose test families add "
        "up.",
    ),
    click.option("--structures", type=EXISTING_FOLDER, required=True, help="Ingested crystals."),
    click.option("--graphs", type=EXISTING_FOLDER, required=True, help="Their graphs."),
    click.option(
        "--property", "names", multiple=True, help="Repeatable; by default the embedded four."
    ),
    click.option(
        "--input",
        "own_inputs",
        multiple=True,
        help="Column of the crystals from which a property of your own is learned too, and without "
        "it beside; repeatable.",
    ),
    click.option("--part", type=click.Choice(["test", "validation"]), default="test"),
    click.option("--smallest-family", default=15, show_default=True, help="Labelled members."),
    click.option("--json", "json_file", type=FILE, help="Write tidy records."),
    click.option("--table", type=FILE, help="Write every draw, CSV or Parquet."),
    click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
    click.option("--device", default="cpu", show_default=True, help="torch device."),
)


def shared_options(command: Callable) -> Callable:
    """Add the options that the tests on held-out families share."""
    for option in reversed(SHARED_OPTIONS):
        command = option(command)
    return command


@screen.command()
@click.option("--shots", multiple=True, type=click.IntRange(0), help="Labels; 0, 5, 10, 20.")
@click.option("--draws", default=20, show_default=True, help="Supports per family and size.")
@shared_options
def retrospective(shots: tuple[int, ...], draws: int, **options: Any) -> None:
    """Test on real families never seen: is the true top among the predicted top?

    The best tenth of a family (at least three crystals) is looked for among the predicted best
    tenth and fifth, ours and baselines on the same draws.
    """
    from matml.screening.evaluation import retrospective as study
    from matml.screening.evaluation.held_out import run_study

    run_study(study, options, shots=list(shots or (0, 5, 10, 20)), draws=draws)


@screen.command("closed-loop")
@click.option("--starts", default=20, show_default=True, help="Random starts per family.")
@click.option("--start-size", default=2, show_default=True, help="Labels at random at the start.")
@click.option(
    "--strategy",
    "strategies",
    multiple=True,
    type=click.Choice(["top", "improvement", "mean", "information"]),
    help="Repeatable; by default `top`.",
)
@shared_options
def closed_loop(starts: int, start_size: int, strategies: tuple[str, ...], **options: Any) -> None:
    """Simulate labelling one crystal after another until the best tenth is found.

    Ours, extra-trees + GP and a global GP choose from the same random starts; random choice
    stands beside.
    """
    from matml.screening.evaluation import closed_loop as study
    from matml.screening.evaluation.held_out import run_study

    run_study(
        study,
        options,
        starts=starts,
        start_size=start_size,
        strategies=strategies or ("top",),
    )


@screen.command()
@click.option(
    "--shard",
    "shards",
    type=EXISTING_FOLDER,
    required=True,
    multiple=True,
    help="Folder of a share that `matml screen --shard` wrote; repeat for all.",
)
@click.option("--out", type=RESULTS, required=True, help="Folder for the shortlist.")
def merge(shards: tuple[Path, ...], out: Path) -> None:
    """Join the shares of a screening into one shortlist."""
    from matml.screening.select.shortlist import finish

    finish(shards, out)
