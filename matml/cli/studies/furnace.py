"""`matml study furnace`: do policies learn the furnace by trials, and does planning beat them?"""

import logging
from pathlib import Path

import click

from matml.cli.options import FILE

log = logging.getLogger(__name__)


@click.command()
@click.option(
    "--real",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="MATML_KINETICS_DATA",
    required=True,
    help="Folder with the measured set tempering.",
)
@click.option("--batches", type=click.IntRange(3), default=300, show_default=True)
@click.option("--threads", default=1, show_default=True, help="Processors to use.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def furnace(real: Path, batches: int, threads: int, seed: int, json_file: Path | None) -> None:
    """Trials to a hardness with a sparse reward: policies that learn beside planning."""
    import torch

    from matml.core.files import write_json
    from matml.core.processors import usable_threads
    from matml.kinetics.data.prepare import read_and_report
    from matml.kinetics.equations import equation_named
    from matml.kinetics.evaluation.pipeline import measured_sets
    from matml.kinetics.settings import KineticsSection
    from matml.studies.furnace import STEPS, Settings, score, summarise

    torch.set_num_threads(usable_threads(threads))
    [(_, data, alloys, equation)] = [s for s in measured_sets(real) if s[0] == "tempering"]
    observations = read_and_report(data, alloys)
    own = KineticsSection(folds=6)
    settings = Settings(batches=batches)
    scores = score(observations, equation_named(equation), own, settings, seed, log.info)
    records = summarise(scores, seed)
    cell = {
        (r["setting"], r["method"], r["metric"], r["shots"]): (
            f"{r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"
        )
        for r in records
    }
    cases = max(r["n_tasks"] for r in records)
    for setting, metrics, shots, title in (
        (
            "first search",
            ("trials", "hit_within_3", "trials_minus_planning"),
            (0,),
            f"{cases} measured steels with a target, at most six trials, a miss counts seven",
        ),
        (
            "adapted",
            ("mean_trials", "trials_minus_ordinary"),
            range(STEPS + 1),
            f"Mean trials after 0 to {STEPS} policy-gradient steps of {settings.episodes} episodes "
            "each on that steel",
        ),
    ):
        click.echo(title)
        heads = [f"{m}, {k} steps" if len(shots) > 1 else m for m in metrics for k in shots]
        click.echo(f"{'':36}" + "".join(f"{head:>30}" for head in heads))
        for method in dict.fromkeys(r["method"] for r in records if r["setting"] == setting):
            cells = [cell[setting, method, m, k] for m in metrics for k in shots]
            click.echo(f"{method:36}" + "".join(f"{text:>30}" for text in cells))
    if json_file:
        write_json(json_file, records)
