"""`matml kinetics populations`, `equations` and `recovery`: what comes with matml, and checks."""

import json
from pathlib import Path
from typing import Any

import click

from matml.cli.kinetics.options import (
    FOLDER,
    READABLE,
    bound_threads,
    json_option,
    threads_number,
    threads_option,
)
from matml.cli.options import RESULTS


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the cards as JSON.")
def populations(as_json: bool) -> None:
    """List the populations that come with matml: `--prior NAME` takes one."""
    from matml.kinetics.listing import population_cards

    cards = population_cards()
    if as_json:
        click.echo(json.dumps(cards, indent=1))
        return
    from matml.kinetics.data.units import ZERO_CELSIUS

    for card in cards:
        learned = "simulated from published parameters" if card["simulated"] else "measured"
        ranges = {
            "temperature": ("temperature_K", ZERO_CELSIUS, "C"),
            "time": ("time_s", 0.0, "s"),
        }
        told = [
            f"{what} {card[name][0] - off:.4g} to {card[name][1] - off:.4g} {unit}"
            for what, (name, off, unit) in ranges.items()
            if name in card
        ]
        elements = [
            f"{name.split('_')[0]} {low:g} to {high:g}"
            for name, (low, high) in card["composition"].items()
            if high > 0
        ]
        click.echo(f"{card['name']}: {card['title']}")
        click.echo(
            f"  equation {card['equation']}, {card['alloys']} alloys, {card['observations']} "
            f"observations, {learned}"
        )
        click.echo(f"  range: {', '.join(told)}")
        if elements:
            click.echo(f"  composition (%): {', '.join(elements)}")
        click.echo(f"  good for: {card['good_for']}")
        click.echo(f"  source: {card['source']}")


@click.command()
@click.option("--data", type=READABLE, required=True, help="CSV of observations.")
@click.option("--alloys", type=READABLE, help="CSV with one row per alloy.")
@click.option("--alloy", "names", multiple=True, help="Alloy to look at; by default all.")
@click.option("--out", type=RESULTS, default=Path("equations"), show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@threads_number
def compare_equations(
    data: Path, alloys: Path | None, names: tuple[str, ...], threads: int, **options: Any
) -> None:
    """Weigh equations by the evidence of each alloy's observations, and Q over the conversion.

    Plateau, incubation, two stages, exponent free or held; Friedman, Vyazovkin and KAS.
    """
    from matml.kinetics.data.prepare import read_and_report

    # what cannot be read is told before torch is there, which takes seconds
    observations = read_and_report(data, alloys)
    bound_threads(threads)
    from matml.kinetics.evaluation.which_equation import compare_equations_stage

    compare_equations_stage(data, observations, list(names), **options)


@click.command()
@click.option("--real", type=FOLDER, envvar="MATML_KINETICS_DATA", required=True)
@click.option("--out", type=FOLDER, default=Path("matml/models/kinetics"), show_default=True)
@threads_option
def make_populations(real: Path, out: Path) -> None:
    """Learn the populations that come with matml anew, from the folder of measured sets."""
    from matml.kinetics.shipped import make_populations

    make_populations(real, out)


@click.command()
@click.option("--points", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--alloys", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--training", type=click.IntRange(min=4), default=40, show_default=True)
@click.option("--repetitions", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--nuts", is_flag=True, help="Also time the No-U-Turn sampler (matml[mcmc]).")
@json_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@threads_option
def recovery(
    points: int,
    alloys: int,
    training: int,
    repetitions: int,
    nuts: bool,
    json_path: Path | None,
    seed: int,
) -> None:
    """Calibrate simulated alloys of the published population: coverage, bias, seconds."""
    import torch

    from matml.core.files import write_json
    from matml.core.project import input_path
    from matml.kinetics.evaluation.recovery import nuts_seconds, recover, recovery_records
    from matml.kinetics.settings import KineticsSimulation

    published = input_path(KineticsSimulation().jmak_table)
    table, seconds = recover(published, training, alloys, points, repetitions, seed)
    records = recovery_records(table, alloys, points, seed)
    click.echo(
        f"Simulated (synthetic) alloys like the published ones: prior of {training}, {alloys} "
        f"others with {points} fractions each, {repetitions} repetitions"
    )
    for record in records:
        own = table.loc[table["parameter"] == record["setting"].split(", ")[1], record["metric"]]
        interval = "" if record["low"] is None else f" [{record['low']:.4f}, {record['high']:.4f}]"
        click.echo(
            f"{record['metric']:18}{record['setting'].split(', ')[1]:28}{record['value']:+.4f}"
            f"{interval}, repetitions {own.min():+.4f} to {own.max():+.4f}"
        )
    said = {
        "learn_population": f"learning the population of {training} alloys",
        "laplace_one": "Laplace, one alloy",
        "laplace_all": f"Laplace, {alloys} alloys in one batch",
        "draws_one": "posterior draws, one alloy",
        "draws_all": f"posterior draws, {alloys} alloys in one batch",
    }
    if nuts:
        for name, tasks in (("nuts_one", 1), ("nuts_many", 20)):
            seconds[name] = nuts_seconds(published, training, points, tasks, seed)
            said[name] = f"No-U-Turn sampler, per alloy, {tasks} in a chain"
    for name, value in seconds.items():
        click.echo(f"{said[name]:52}{value:10.4f} s of processor time")
        records.append(
            {
                "benchmark": "kinetics recovery",
                "setting": f"{torch.get_num_threads()} thread(s), {alloys} alloys",
                "method": said[name],
                "is_default": not name.startswith("nuts"),
                "shots": points,
                "metric": f"{name} / s",
                "value": value,
                "low": None,
                "high": None,
                "n_tasks": alloys,
                "seed": seed,
            }
        )
    if nuts:
        alone, many = seconds["nuts_one"], seconds["nuts_many"] * alloys
        click.echo(
            f"No-U-Turn over Laplace: {alone / seconds['laplace_one']:.0f} for one alloy, "
            f"{many / seconds['laplace_all']:.0f} per alloy in a batch; over posterior draws: "
            f"{alone / seconds['draws_one']:.0f} and {many / seconds['draws_all']:.0f}"
        )
    if json_path is not None:
        write_json(json_path, records)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False))
def equations(name: str | None, json_path: Path | None) -> None:
    """List the equations: columns they need, parameters with units and ranges, source."""
    from matml.kinetics.listing import described_by_name, format_equation

    chosen = described_by_name(name)
    print("\n\n".join(format_equation(what) for what in chosen))
    if json_path is not None:
        from matml.core.files import write_json

        write_json(json_path, chosen)
