"""`matml properties …`: split, train, meta-train, evaluate, export; adapt, predict, ship."""

from pathlib import Path
from typing import Any

import click

from matml.cli.options import FILE, FOLDER
from matml.cli.properties.benchmark import BENCHMARK
from matml.cli.properties.options import (
    Stage,
    member_option,
    methods_option,
    property_option,
    run_option,
    stage_options,
)
from matml.cli.properties.predict import COMMANDS
from matml.cli.properties.studies import STUDIES

member_out_option = click.option("--out", required=True, type=FOLDER, help="Folder of the member.")
table_option = click.option(
    "--out", required=True, type=FILE, help="Table of predictions to write."
)


@click.group()
def properties() -> None:
    """Train and test few-shot predictors of crystal properties."""


@properties.command()
@click.option("--out", required=True, type=FOLDER, help="Folder of the properties' results.")
@click.option("--fold", type=int, help="Test fold of a cross-validation over families.")
@click.option("--folds", default=5, show_default=True, help="Folds of that cross-validation.")
@stage_options
def split(stage: Stage, out: Path, fold: int | None, folds: int) -> None:
    """Split families into training, validation and test; draw the episodes."""
    from matml.properties.dataset import make_split

    make_split(
        stage.structures, stage.graphs, out, stage.settings, stage.seed, fold=fold, folds=folds
    )


@properties.command()
@run_option
@member_option
@methods_option
@click.option("--no-meta-learning", is_flag=True, help="Leave meta-training out.")
@click.option("--no-fine-tuning", is_flag=True, help="Predict without fine-tuning.")
@click.option("--property", "names", multiple=True, help="Property to predict; all by default.")
@stage_options
def member(
    stage: Stage,
    run: Path,
    member: int,
    methods: tuple[str, ...],
    no_meta_learning: bool,
    no_fine_tuning: bool,
    names: tuple[str, ...],
) -> None:
    """Train one member and predict all episodes with it: pretrain, metatrain and evaluate in one.

    Methods are MAML and FOMAML unless given. Writes members/<member> and predictions in the run's
    folder. A stopped run goes on where it was.
    """
    from matml.cli.sources import source_hash

    options: dict[str, Any] = {
        "methods": [] if no_meta_learning else list(methods) or ["maml", "fomaml"],
        "fine_tune": not no_fine_tuning,
        "names": list(names),
    }
    sources = source_hash("matml.cli.properties.commands:member")
    made_with = stage.made_with(run, **options, sources=sources)
    bench = stage.open(run, whole=False)
    from matml.properties.evaluation.member_job import member_job

    own: dict[str, Any] = {"member": member, "made_with": made_with} | options
    member_job(bench, run, stage.settings, **own, **stage.training)


@properties.command("property")
@run_option
@property_option
@stage_options
def of_property(stage: Stage, run: Path, name: str) -> None:
    """Fit and test what is fitted to one property: the baselines and the stack, in one.

    Reads the members of the run, and writes baselines, stacks and predictions in its folder.
    """
    bench = stage.open(run)
    from matml.properties.evaluation.property_job import property_job

    property_job(bench, run, stage.settings, name=name, threads=stage.threads, **stage.training)


@properties.command()
@run_option
@member_option
@member_out_option
@stage_options
def pretrain(stage: Stage, run: Path, member: int, out: Path) -> None:
    """Pre-train one member without the families of its fold."""
    bench = stage.open(run, whole=False)
    from matml.properties.evaluation.train_and_predict import train_member

    train_member(bench, out, stage.settings, member=member, **stage.training)


@properties.command()
@run_option
@member_option
@click.option("--pretrained", required=True, type=FOLDER, help="Folder that `pretrain` wrote.")
@member_out_option
@stage_options
def metatrain(stage: Stage, run: Path, member: int, pretrained: Path, out: Path) -> None:
    """Meta-train one member by MAML and FOMAML on families that it has not seen."""
    bench = stage.open(run, whole=False)
    from matml.properties.evaluation.train_and_predict import metatrain_member

    metatrain_member(bench, pretrained, out, stage.settings, member=member, **stage.training)


@properties.command()
@run_option
@member_option
@click.option("--folder", required=True, type=FOLDER, help="Folder of the member.")
@click.option("--shard", default=0, show_default=True, help="Which share of the episodes.")
@click.option("--shards", default=1, show_default=True, help="Number of shares.")
@table_option
@stage_options
def evaluate(stage: Stage, run: Path, folder: Path, out: Path, **own: Any) -> None:
    """Predict all episodes with one member, adapted in each way."""
    bench = stage.open(run, whole=False)
    from matml.properties.evaluation.train_and_predict import evaluate_member

    evaluate_member(bench, run, folder, out, stage.settings, device=stage.device, **own)


@properties.command()
@run_option
@property_option
@table_option
@click.option("--model-out", required=True, type=FILE, help="Fitted models to write.")
@stage_options
def baseline(stage: Stage, run: Path, name: str, out: Path, model_out: Path) -> None:
    """Predict all episodes of one property with the baselines."""
    bench = stage.open(run)
    from matml.properties.evaluation.train_and_predict import evaluate_baseline

    training: dict[str, Any] = {"seed": stage.seed, "threads": stage.threads}
    evaluate_baseline(bench, run, out, model_out, stage.settings, name=name, **training)


@properties.command()
@run_option
@property_option
@click.option(
    "--member", "members", multiple=True, required=True, type=FOLDER, help="Folder of each member."
)
@table_option
@click.option("--model-out", required=True, type=FILE, help="Fitted stack to write.")
@stage_options
def stack(
    stage: Stage, run: Path, name: str, members: tuple[Path, ...], out: Path, model_out: Path
) -> None:
    """Fit the stacked Gaussian process of one property and predict all its episodes."""
    bench = stage.open(run)
    from matml.properties.evaluation.train_and_predict import evaluate_stack

    evaluate_stack(bench, run, members, out, model_out, stage.settings, name=name, **stage.training)


@properties.command("new-property")
@run_option
@click.option(
    "--member", "members", multiple=True, required=True, type=FOLDER, help="Folder of each member."
)
@click.option("--out", required=True, type=FILE, help="File to write.")
@stage_options
def learn_new_property(stage: Stage, run: Path, members: tuple[Path, ...], out: Path) -> None:
    """Learn how to take up a property that no training stage knew, from those that are known."""
    bench = stage.open(run)
    from matml.properties.new_property.model import NewPropertyModel

    NewPropertyModel.learn(bench, members, stage.settings, **stage.training).save(out)


@properties.command()
@run_option
@click.option(
    "--member", "members", multiple=True, required=True, type=FILE, help="Predictions of a member."
)
@click.option(
    "--baseline", "baselines", multiple=True, required=True, type=FILE, help="Those of baselines."
)
@click.option("--stack", "stacks", multiple=True, type=FILE, help="Those of stacks.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the scores.")
@stage_options
def compare(
    stage: Stage,
    run: Path,
    members: tuple[Path, ...],
    baselines: tuple[Path, ...],
    stacks: tuple[Path, ...],
    out: Path,
) -> None:
    """Choose methods on validation families and score all of them on test families."""
    bench = stage.open(run, networks=False)
    from matml.properties.evaluation.summarise import summarise

    summarise(bench, run, members, [*baselines, *stacks], out)


@properties.command()
@run_option
@click.option("--member", "members", multiple=True, type=FOLDER, help="Folder of a member.")
@click.option("--baseline", "baselines", multiple=True, type=FILE, help="Fitted baselines.")
@click.option("--stack", "stacks", multiple=True, type=FILE, help="Fitted stacks.")
@click.option(
    "--new-property", required=True, type=FILE, help="What `properties new-property` learned."
)
@click.option("--evaluation", required=True, type=FOLDER, help="Folder that `compare` wrote.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the predictor.")
@stage_options
def export(stage: Stage, run: Path, **files: Any) -> None:
    """Gather the members and the chosen methods into one predictor."""
    bench = stage.open(run)
    from matml.properties.dataset import EPISODES
    from matml.properties.predictor.export import export_predictor

    export_predictor(
        bench,
        structures=stage.structures,
        episodes=run / EPISODES,
        settings=stage.settings,
        seed=stage.seed,
        **files,
    )


for command in (*BENCHMARK, *COMMANDS, *STUDIES):
    properties.add_command(command)
