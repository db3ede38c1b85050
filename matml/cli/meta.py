"""`matml meta …`: the meta-learner on published test problems."""

from pathlib import Path

import click

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def meta() -> None:
    """Show the meta-learner on published test problems (made-up functions, labelled so)."""


@meta.command()
@click.option("--iterations", default=30_000, show_default=True, type=click.IntRange(1))
@click.option("--test-tasks", default=2_000, show_default=True, type=click.IntRange(2))
@click.option(
    "--seed", default=0, show_default=True, help="Seed of weights, training and test tasks."
)
@click.option("--method", "methods", multiple=True, help="Run only this method; may be repeated.")
@click.option("--threads", default=1, show_default=True, help="Processors to use.")
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def sinusoid(iterations, test_tasks, seed, methods, threads, json_file) -> None:
    """Sine waves of the MAML paper, beside the published figures."""
    import torch

    from matml.core.errors import MatmlError
    from matml.core.files import write_json
    from matml.core.processors import usable_threads
    from matml.meta.toy_problems import METHODS, PUBLISHED
    from matml.meta.toy_problems import sinusoid as run

    torch.set_num_threads(usable_threads(threads))
    if unknown := [name for name in methods if name not in METHODS]:
        raise MatmlError(f"--method {unknown[0]!r}: must be one of {', '.join(METHODS)}")
    shots = (5, 10)
    records = run(
        methods or list(METHODS),
        iterations=iterations,
        tasks=test_tasks,
        seed=seed,
        test_shots=shots,
    )
    click.echo(
        f"Mean squared error over {test_tasks} new sine waves, models meta-trained on 5 points"
    )
    click.echo(f"{'':36}" + "".join(f"{f'{k} test points':>18}{'published':>14}" for k in shots))
    for name in dict.fromkeys(record["method"] for record in records):
        line = f"{name:36}"
        for record in (r for r in records if r["method"] == name):
            half = (record["high"] - record["low"]) / 2
            known = PUBLISHED.get((name, record["shots"]))
            text = f"{record['value']:.2g} +- {half:.1g}"
            if record["value"] > 0.1:
                text = f"{record['value']:.3f} +- {half:.3f}"
            line += f"{text:>18}{f'{known[0]:.2f} +- {known[1]:.2f}' if known else '':>14}"
        click.echo(line)
    if json_file:
        write_json(json_file, records)


@meta.command()
@click.option("--iterations", default=1_500, show_default=True, type=click.IntRange(1))
@click.option("--test-tasks", default=4_000, show_default=True, type=click.IntRange(2))
@click.option("--seed", default=0, show_default=True, help="Seed of the population and all tasks.")
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def linear(iterations, test_tasks, seed, json_file) -> None:
    """Linear functions: the ridge head beside the best error possible."""
    from matml.core.files import write_json
    from matml.meta.toy_problems import linear as run

    records = run(iterations=iterations, tasks=test_tasks, seed=seed)
    best, found = (record["value"] for record in records)
    click.echo(f"Mean squared error over {test_tasks} linear functions, 5 points each")
    for record in records:
        click.echo(f"{record['method']:16}{record['value']:.4f}")
    click.echo(f"{'ratio':16}{found / best:.4f}")
    if json_file:
        write_json(json_file, records)


@meta.command()
@click.option("--batches", default=100, show_default=True, type=click.IntRange(1))
@click.option("--goals", default=100, show_default=True, type=click.IntRange(2), help="New ones.")
@click.option(
    "--sparse", is_flag=True, help="Pay 1 once, within 0.1 of the goal, and nothing else."
)
@click.option("--seed", default=0, show_default=True, help="Seed of weights, paths and goals.")
@click.option("--method", "methods", multiple=True, help="Run only this method; may be repeated.")
@click.option("--threads", default=1, show_default=True, help="Processors to use.")
@click.option("--json", "json_file", type=FILE, help="Write tidy records.")
def navigation(batches, goals, sparse, seed, methods, threads, json_file) -> None:
    """Find an unseen goal by policy gradients: navigation of the MAML paper, beside its figures."""
    import torch

    from matml.core.errors import MatmlError
    from matml.core.files import write_json
    from matml.core.processors import usable_threads
    from matml.studies.navigation import METHODS, PLAIN, PUBLISHED, Settings
    from matml.studies.navigation import navigation as run

    torch.set_num_threads(usable_threads(threads))
    if unknown := [name for name in methods if name not in METHODS]:
        raise MatmlError(f"--method {unknown[0]!r}: must be one of {', '.join(METHODS)}")
    records = run(
        methods or list(METHODS), Settings(batches=batches, seed=seed, sparse=sparse), goals=goals
    )
    click.echo(
        f"Mean return over {goals} new goals after policy-gradient steps of {Settings.paths} paths "
        "each, at the step size that suits each policy on other goals [95 % bootstrap over goals]"
    )
    steps = sorted({record["shots"] for record in records})
    click.echo(f"{'':36}" + "".join(f"{f'{k} steps':>28}" for k in steps))
    for metric, less in (("return", ""), ("gain", f" - {METHODS[PLAIN]}")):
        for name in dict.fromkeys(r["method"] for r in records if r["metric"] == metric):
            if less and name == METHODS[PLAIN]:
                continue
            own = [r for r in records if (r["method"], r["metric"]) == (name, metric)]
            cells = (f"{r['value']:.3g} [{r['low']:.3g}, {r['high']:.3g}]" for r in own)
            click.echo(f"{name + less:36}" + "".join(f"{cell:>28}" for cell in cells))
    for name, values in PUBLISHED.items() if not sparse else ():
        click.echo(f"{name + ', published':36}" + "".join(f"{value:>28.2f}" for value in values))
    if json_file:
        write_json(json_file, records)
