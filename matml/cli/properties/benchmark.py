"""`matml properties benchmark`, and the stages that its workflow adds to those of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from matml.cli.options import FILE, FOLDER
from matml.cli.properties.options import (
    Stage,
    member_option,
    methods_option,
    property_option,
    run_option,
    stage_options,
)

if TYPE_CHECKING:
    import pandas as pd

    from matml.properties.benchmark.plan import Benchmark

potential_option = click.option("--potential", type=FILE, help="The potential's features.")
names_option = click.option(
    "--property", "names", multiple=True, help="Property to score; all by default."
)
fold_option = click.option("--fold", required=True, type=int, help="Number in the table.")
table_option = click.option("--out", required=True, type=FILE, help="Table to write.")
json_option = click.option("--json", "json_file", type=FILE, help="Write tidy records.")


@click.command()
@run_option
@property_option
@potential_option
@stage_options
def features(stage: Stage, run: Path, name: str, potential: Path | None) -> None:
    """Predict all episodes of one property from the support alone and with frozen features."""
    bench = stage.open(run)
    from matml.core.files import write_table
    from matml.properties.benchmark.new_family import FEATURES, predict_by_features
    from matml.properties.evaluation.layout import predictions_of

    table = predict_by_features(
        bench, run, stage.settings, name=name, potential=potential, **stage.training
    )
    write_table(predictions_of(run, FEATURES, name), table)


@click.command("score-run")
@run_option
@names_option
@fold_option
@table_option
@stage_options
def score_run(stage: Stage, run: Path, names: tuple[str, ...], fold: int, out: Path) -> None:
    """Score all methods on the test families of one fold."""
    bench = stage.open(run)
    from matml.core.files import write_table
    from matml.properties.benchmark.new_family import score_run as scores_of

    scores = scores_of(bench, run, stage.settings.members, names or bench.names)
    write_table(out, scores.assign(fold=fold))


@click.command("new-property-member")
@run_option
@member_option
@methods_option
@click.option("--no-meta-learning", is_flag=True, help="Leave meta-training out.")
@stage_options
def new_property_member(
    stage: Stage, run: Path, member: int, methods: tuple[str, ...], no_meta_learning: bool
) -> None:
    """Train one member, and meta-train it to take up a property that it does not know."""
    from matml.cli.sources import source_hash

    chosen = [] if no_meta_learning else list(methods)
    sources = source_hash("matml.cli.properties.benchmark:new_property_member")
    made_with = stage.made_with(run, methods=chosen, sources=sources)
    bench = stage.open(run)
    from matml.properties.benchmark.new_property import new_property_member as train

    own: dict[str, Any] = {"member": member, "methods": chosen, "made_with": made_with}
    train(bench, run, stage.settings, **own, **stage.training)


@click.command("score-new-property")
@run_option
@property_option
@fold_option
@methods_option
@click.option("--no-meta-learning", is_flag=True, help="Leave all of its methods out.")
@click.option("--no-fine-tuning", is_flag=True, help="Leave fine-tuning out.")
@potential_option
@table_option
@stage_options
def score_new_property(
    stage: Stage,
    run: Path,
    name: str,
    fold: int,
    methods: tuple[str, ...],
    no_meta_learning: bool,
    no_fine_tuning: bool,
    potential: Path | None,
    out: Path,
) -> None:
    """Score all methods on a property that the members of a run were trained without."""
    bench = stage.open(run)
    from matml.core.files import write_table
    from matml.properties.benchmark.new_property import score_new_property as scores_of

    scores = scores_of(
        bench,
        run,
        stage.settings,
        name=name,
        potential=potential,
        methods=() if no_meta_learning else methods,
        fine_tune=not no_fine_tuning,
        **stage.training,
    )
    write_table(out, scores.assign(fold=fold))


@click.command()
@table_option
@stage_options
def potential(stage: Stage, out: Path) -> None:
    """Compute what the potential CHGNet says of all crystals."""
    stage.limit_torch()
    from matml.core.errors import MatmlError
    from matml.potentials.named import CHGNET, HOW
    from matml.properties.baselines.chgnet import potential_features
    from matml.structures.crystals import CrystalSet

    if potential_features(CrystalSet.open(stage.structures, stage.graphs), out) is None:
        raise MatmlError(f"{out}: takes {CHGNET}; {HOW}")


@click.command("benchmark-tables")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FAMILIES.CSV…")
@click.option("--setting", required=True, type=click.Choice(["A", "B"]))
@click.option("--seed", default=0, show_default=True, help="Seed that the records name.")
@json_option
def benchmark_tables(
    files: tuple[Path, ...], setting: str, seed: int, json_file: Path | None
) -> None:
    """Print the benchmark's tables from the scores of its runs."""
    report(setting, list(files), seed, json_file)


def report(setting: str, files: list[Path], seed: int, json_file: Path | None) -> None:
    """Print the tables of a setting, and write its records where they are wanted."""
    import pandas as pd

    from matml.core.files import read_table

    scores = pd.concat([read_table(path) for path in files], ignore_index=True)
    if setting == "B":
        scores = scores.assign(setting="B, " + scores["setting"])
    print_scores(setting, scores, seed, json_file)


def print_scores(setting: str, scores: pd.DataFrame, seed: int, json_file: Path | None) -> None:
    """Print the tables of some scores, and write their records where they are wanted."""
    from matml.core.files import write_json
    from matml.properties.benchmark import new_property_report
    from matml.properties.benchmark import report as new_family_report

    tables = new_family_report if setting == "A" else new_property_report
    tables.print_tables(scores, click.echo)
    if json_file is not None:
        write_json(json_file, tables.tidy_records(scores, seed))


@click.command()
@click.option("--out", required=True, type=FOLDER, help="Folder to keep the folds in.")
@click.option(
    "--setting",
    type=click.Choice(["A", "B", "C"]),
    default="A",
    show_default=True,
    help="A: new families; B: a new property; C: energies of zeolites and perovskites.",
)
@click.option("--run", type=FOLDER, help="Folder of the trained members, for setting C.")
@click.option(
    "--frameworks", type=FILE, help="Zeolites for setting C; by default those of `zeose`."
)
@click.option("--folds", type=click.IntRange(3), help="Folds; 5, and 6 in setting B.")
@click.option("--fold", "which", multiple=True, type=int, help="Run only this fold; repeatable.")
@names_option
@click.option("--smallest-family", default=15, show_default=True, help="Members of a family.")
@click.option("--shots", multiple=True, type=int, help="Support size; 0, 1, 2, 5, 10, 20.")
@click.option("--draws", default=20, show_default=True, help="Supports per family and size.")
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(["meta-learning", "fine-tuning", "potential"]),
    help="Leave these methods out; the first two take longest.",
)
@click.option("--methods", help="Methods of meta-learning, separated by commas; all by default.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@json_option
@stage_options
def benchmark(
    stage: Stage,
    out: Path,
    setting: str,
    run: Path | None,
    frameworks: Path | None,
    folds: int | None,
    which: tuple[int, ...],
    names: tuple[str, ...],
    methods: str | None,
    skip: tuple[str, ...],
    jobs: int,
    json_file: Path | None,
    **own: Any,
) -> None:
    """Compare all methods on the same episodes of new families, or of a new property.

    Folds, members and properties are jobs of Snakemake, whose files are kept in --out: a stopped
    benchmark goes on where it was.
    """
    from matml.core.errors import MatmlError
    from matml.properties.benchmark.plan import FOLDS, META_METHODS, Benchmark

    if setting == "C":
        _zeolites(stage, out, run, frameworks, own["draws"], json_file)
        return
    count = folds or FOLDS[setting]
    if wrong := [fold for fold in which if not 0 <= fold < count]:
        raise MatmlError(f"--fold {wrong[0]}: must be from 0 to {count - 1}, for --folds {count}")
    chosen = META_METHODS if methods is None else tuple(methods.split(","))
    if unknown := [method for method in chosen if method not in META_METHODS]:
        raise MatmlError(f"--methods {unknown[0]!r}: known are {', '.join(META_METHODS)}")
    plan = Benchmark.of(
        setting,
        stage.settings,
        stage.seed,
        folds=folds,
        properties=names,
        methods=() if "meta-learning" in skip else chosen,
        fine_tune="fine-tuning" not in skip,
        potential="potential" not in skip,
        **own,
    )
    report(setting, run_workflow(plan, stage, out, which, jobs), stage.seed, json_file)


def run_workflow(
    plan: Benchmark, stage: Stage, out: Path, which: tuple[int, ...], jobs: int
) -> list[Path]:
    """Make the runs of a benchmark by Snakemake; return the scores of all finished ones.

    Parameters
    ----------
    which
        Folds to run now; all where empty.

    Raises
    ------
    MatmlError
        Where the folder was made with something else, or a job fails.
    """
    import yaml

    from matml.core.errors import MatmlError
    from matml.core.files import write_text
    from matml.core.project import project_root
    from matml.properties.benchmark.plan import FAMILIES, POTENTIAL, check_made_with, with_potential

    out = out.resolve()
    plan = with_potential(plan, out / POTENTIAL)
    check_made_with(out, plan.model_dump(mode="json"))
    for name, section in plan.sections().items():
        path, text = out / f"settings{name}.yaml", yaml.safe_dump(section, sort_keys=False)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
    runs = plan.runs("", "settings", POTENTIAL)
    now = [name for name in runs if not which or int(name.rpartition("-")[2]) in which]
    targets = [str(out / name / FAMILIES) for name in now]
    command = [sys.executable, "-m", "snakemake", *targets]
    command += ["--snakefile", str(project_root() / "workflow/benchmark.smk")]
    command += ["--workflow-profile", "none", "--directory", str(out), "--cores", str(jobs)]
    command += ["--rerun-incomplete", "--quiet", "host", "reason", "progress"]
    places = {"structures": stage.structures.resolve(), "graphs": stage.graphs.resolve()}
    command += ["--config", *(f"{key}={place}" for key, place in places.items())]
    command += [f"device={stage.device}"]
    if subprocess.run(command, stdout=2, check=False).returncode:
        raise MatmlError(f"{out}: a job of the benchmark has failed; its log is in {out / 'logs'}")
    return [out / name / FAMILIES for name in runs if (out / name / FAMILIES).exists()]


def _zeolites(
    stage: Stage,
    out: Path,
    run: Path | None,
    frameworks: Path | None,
    draws: int,
    json_file: Path | None,
) -> None:
    """Run setting C; the members were trained with the run's own settings."""
    stage.limit_torch()
    from matml.core.settings import validate
    from matml.properties.benchmark.zeolites import run_frameworks
    from matml.properties.settings import PropertiesSection

    values = stage.settings.model_dump() | {"test_draws": draws}
    settings = validate(PropertiesSection, values, "benchmark")
    scores = run_frameworks(
        stage.structures, stage.graphs, run, out, settings, frameworks=frameworks, **stage.training
    )
    print_scores("C", scores, stage.seed, json_file)


BENCHMARK = (
    features,
    score_run,
    new_property_member,
    score_new_property,
    potential,
    benchmark_tables,
    benchmark,
)
