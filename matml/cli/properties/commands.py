"""`matml properties …`: split, train, meta-train, evaluate, export; adapt, predict, ship."""

import click

from matml.cli.options import FILE, FOLDER, prepare, shared_options
from matml.cli.properties.predict import COMMANDS
from matml.cli.studies import STUDIES


@click.group()
def properties() -> None:
    """Train and test few-shot predictors of crystal properties."""


@properties.command()
@click.option("--out", required=True, type=FOLDER, help="Folder of the properties' results.")
@click.option("--fold", type=int, help="Test fold of a cross-validation over families.")
@click.option("--folds", default=5, show_default=True, help="Folds of that cross-validation.")
@shared_options
def split(out, fold, folds, structures, graphs, config_file, threads, device, seed) -> None:
    """Split families into training, validation and test; draw the episodes."""
    settings = prepare(config_file, threads)
    from matml.properties.dataset import make_split

    make_split(structures, graphs, out, settings, seed, fold=fold, folds=folds)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", required=True, type=int, help="Number of the ensemble's member.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the member.")
@shared_options
def pretrain(run, member, out, structures, graphs, config_file, threads, device, seed) -> None:
    """Pre-train one member without the families of its fold."""
    settings = prepare(config_file, threads)
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.train_and_predict import train_member

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
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.train_and_predict import metatrain_member

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
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.train_and_predict import evaluate_member

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
    from matml.core.processors import usable_threads
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.train_and_predict import evaluate_baseline

    bench = Workbench.open(structures, graphs, run, settings)
    evaluate_baseline(
        bench, run, out, model_out, settings, name=name, seed=seed, threads=usable_threads(threads)
    )


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--property", "name", required=True, help="Property's column.")
@click.option(
    "--member", "members", multiple=True, required=True, type=FOLDER, help="Folder of each member."
)
@click.option("--out", required=True, type=FILE, help="Table of predictions to write.")
@click.option("--model-out", required=True, type=FILE, help="Fitted stack to write.")
@shared_options
def stack(
    run, name, members, out, model_out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Fit the stacked Gaussian process of one property and predict all its episodes."""
    settings = prepare(config_file, threads)
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.train_and_predict import evaluate_stack

    bench = Workbench.open(structures, graphs, run, settings)
    evaluate_stack(
        bench, run, members, out, model_out, settings, name=name, seed=seed, device=device
    )


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option(
    "--member", "members", multiple=True, required=True, type=FILE, help="Predictions of a member."
)
@click.option(
    "--baseline", "baselines", multiple=True, required=True, type=FILE, help="Those of baselines."
)
@click.option("--stack", "stacks", multiple=True, type=FILE, help="Those of stacks.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the scores.")
@shared_options
def compare(
    run, members, baselines, stacks, out, structures, graphs, config_file, threads, device, seed
) -> None:
    """Choose methods on validation families and score all of them on test families."""
    settings = prepare(config_file, threads)
    from matml.properties.dataset import Workbench
    from matml.properties.evaluation.summarise import summarise

    bench = Workbench.open(structures, graphs, run, settings)
    summarise(bench, run, members, [*baselines, *stacks], out)


@properties.command()
@click.option("--run", required=True, type=FOLDER, help="Folder that `split` wrote.")
@click.option("--member", "members", multiple=True, type=FOLDER, help="Folder of a member.")
@click.option("--baseline", "baselines", multiple=True, type=FILE, help="Fitted baselines.")
@click.option("--stack", "stacks", multiple=True, type=FILE, help="Fitted stacks.")
@click.option("--evaluation", required=True, type=FOLDER, help="Folder that `compare` wrote.")
@click.option("--out", required=True, type=FOLDER, help="Folder of the predictor.")
@shared_options
def export(
    run,
    members,
    baselines,
    stacks,
    evaluation,
    out,
    structures,
    graphs,
    config_file,
    threads,
    device,
    seed,
) -> None:
    """Gather the members and the chosen methods into one predictor."""
    settings = prepare(config_file, threads)
    from matml.properties.dataset import EPISODES, Workbench
    from matml.properties.predictor.export import export_predictor

    bench = Workbench.open(structures, graphs, run, settings)
    export_predictor(
        bench,
        members,
        baselines,
        stacks,
        evaluation,
        out,
        structures,
        run / EPISODES,
        settings,
        seed=seed,
    )


@properties.command()
@click.option("--out", required=True, type=FOLDER, help="Folder to keep the folds in.")
@click.option(
    "--setting",
    type=click.Choice(["A", "B", "C"]),
    default="A",
    show_default=True,
    help="A: new families; B: a new property; C: energies of zeolites and perovskites.",
)
@click.option("--run", type=FOLDER, help="Folder of the trained members, for setting C.")
@click.option("--frameworks", type=FILE, help="Zeolites for setting C; those of `zeose` else.")
@click.option("--folds", type=click.IntRange(3), help="Folds; 5, and 6 in setting B.")
@click.option("--fold", "which", multiple=True, type=int, help="Run only this fold; repeatable.")
@click.option("--property", "names", multiple=True, help="Property to score; all by default.")
@click.option("--smallest-family", default=15, show_default=True, help="Members of a family.")
@click.option("--shots", multiple=True, type=int, help="Support size; 0, 1, 2, 5, 10, 20.")
@click.option("--draws", default=20, show_default=True, help="Supports per family and size.")
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(["meta-learning", "fine-tuning", "potential"]),
    help="Leave these methods out; the first two take longest.",
)
@click.option(
    "--methods",
    help="Methods of meta-learning, separated by commas; all by default.",
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Processes.")
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
@shared_options
def benchmark(
    out,
    setting,
    run,
    frameworks,
    folds,
    which,
    names,
    smallest_family,
    shots,
    draws,
    skip,
    methods,
    jobs,
    json_file,
    structures,
    graphs,
    config_file,
    threads,
    device,
    seed,
) -> None:
    """New families, cross-validated: all methods on the same episodes."""
    from matml.core.errors import MatmlError

    settings = prepare(config_file, threads)
    folds = folds or (6 if setting == "B" else 5)
    if wrong := [fold for fold in which if not 0 <= fold < folds]:
        raise MatmlError(f"--fold {wrong[0]}: must be from 0 to {folds - 1}, for --folds {folds}")
    from matml.core.files import write_json
    from matml.core.processors import usable_threads
    from matml.core.settings import validate
    from matml.properties.benchmark.new_family import PROPERTIES, run_benchmark
    from matml.properties.benchmark.report import print_tables, tidy_records
    from matml.properties.networks.metatrain import ALL_METHODS
    from matml.properties.settings import PropertiesSection

    methods = tuple(ALL_METHODS) if methods is None else tuple(methods.split(","))
    if unknown := [method for method in methods if method not in ALL_METHODS]:
        raise MatmlError(f"--methods {unknown[0]!r}: known are {', '.join(ALL_METHODS)}")
    adapting = {
        "methods": () if "meta-learning" in skip else methods,
        "fine_tune": "fine-tuning" not in skip,
    }
    own = {
        "smallest_family": smallest_family,
        "held_out": [],
        "shots": list(shots or (0, 1, 2, 5, 10, 20)),
        "test_draws": draws,
    }
    if setting == "C":
        # the members were trained with the run's own settings
        own = {"test_draws": draws}
    settings = validate(PropertiesSection, settings.model_dump() | own, "benchmark")
    if setting != "A":
        from matml.properties.benchmark import new_property_report
        from matml.properties.benchmark.other_settings import run_setting_b, run_setting_c

        common = {"seed": seed, "device": device}
        if setting == "B":
            common |= adapting
            common |= {"names": names, "folds": folds, "potential": "potential" not in skip}
            common |= {"threads": usable_threads(threads), "jobs": jobs}
            scores = run_setting_b(structures, graphs, out, settings, **common)
        else:
            common |= {"run": run, "frameworks": frameworks}
            scores = run_setting_c(structures, graphs, out, settings, **common)
        new_property_report.print_tables(scores, click.echo)
        if json_file is not None:
            write_json(json_file, new_property_report.tidy_records(scores, seed))
        return
    scores = run_benchmark(
        structures,
        graphs,
        out,
        settings,
        which=which or range(folds),
        folds=folds,
        names=names or PROPERTIES,
        potential="potential" not in skip,
        **adapting,
        seed=seed,
        device=device,
        threads=usable_threads(threads),
        jobs=jobs,
    )
    print_tables(scores, click.echo)
    if json_file is not None:
        write_json(json_file, tidy_records(scores, seed))


for command in (*COMMANDS, *STUDIES):
    properties.add_command(command)
