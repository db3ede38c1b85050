"""`matml federated …`: laboratories that keep their data learn together; only files travel."""

from __future__ import annotations

from pathlib import Path

import click

from matml.cli.kinetics.flower import flower
from matml.cli.kinetics.options import READABLE, bound_threads, threads_number, trust_option
from matml.cli.options import FILE, participant_options
from matml.cli.properties.federated import crystals

PRIOR_HELP = "File of the round, from `start` or `step`."
prior_argument = click.argument("prior", type=READABLE)
sums_argument = click.argument("sums", type=READABLE, nargs=-1, required=True)
out_option = click.option("--out", type=FILE, required=True)


@click.group()
def federated() -> None:
    """Learn a kinetic population from several laboratories' alloys, which stay where they are.

    The coordinator makes PRIOR (`start`) and sends it; each laboratory answers with its sums
    (`sums`); the coordinator makes the next prior of all (`step`), until it says that the prior is
    learned; `population` makes of it what `matml kinetics calibrate --prior` takes.

    `crystals`: a network of crystals' properties, in the same way. `flower`: over a network.
    """


federated.add_command(crystals)
federated.add_command(flower)


@federated.command()
@click.option("--equation", required=True, help="Name, or a Python file that defines EQUATION.")
@click.option("--kind", help="Of observation; needed where the equation describes several.")
@click.option(
    "--reference-temperature",
    "reference_K",
    type=click.FloatRange(min=0, min_open=True),
    help="In K, for alloys that give none; where the equation refers to one.",
)
@click.option("--study", required=True, help="A name that no other study has.")
@out_option
def start(
    equation: str, kind: str | None, reference_K: float | None, study: str, out: Path
) -> None:
    """Begin a study: the prior of round 0."""
    from matml.kinetics.equation_names import check_equation

    # a wrong name is told before torch is there, which takes seconds
    check_equation(equation)
    from matml.federated.kinetics import begin
    from matml.kinetics.equations import equation_named

    declared = equation_named(equation)
    begin(declared, declared.kind_or_only(kind, "--kind"), reference_K, study).save(out)
    click.echo(f"round 0, nothing learned yet: send {out} to all laboratories")


@federated.command()
@click.option("--laboratory", required=True, help="Its name.")
@click.option("--secret", type=FILE, required=True, help="File that the laboratory keeps.")
@click.option("--out", type=FILE, required=True, help="File that goes to all other laboratories.")
def key(laboratory: str, secret: Path, out: Path) -> None:
    """Make the keys by which a laboratory's sums are masked, for a whole study."""
    from matml.federated.masks import make_keys

    make_keys(laboratory, secret, out)
    click.echo(f"send {out} to all other laboratories; keep {secret} to yourself")


@federated.command()
@prior_argument
@click.option("--data", type=READABLE, required=True, help="CSV of the laboratory's observations.")
@click.option("--alloys", type=READABLE, help="CSV with one row per alloy.")
@click.option("--laboratory", required=True, help="Its name.")
@click.option("--without", multiple=True, help="Alloy that is left out; repeatable.")
@click.option("--secret", type=READABLE, help="Its secret key: sums are masked.")
@click.option(
    "--with", "others", type=READABLE, multiple=True, help="Another one's public key; repeatable."
)
@trust_option
@out_option
@threads_number
def sums(
    prior: Path,
    data: Path,
    alloys: Path | None,
    laboratory: str,
    without: tuple[str, ...],
    secret: Path | None,
    others: tuple[Path, ...],
    trust_equation: bool,
    out: Path,
    threads: int,
) -> None:
    """Write the sums over a laboratory's alloys under PRIOR, which is all that leaves it.

    With `--secret`, and `--with` for each other laboratory that takes part in the round, under
    masks that cancel in the total of all.
    """
    if (secret is None) != (not others):
        raise click.UsageError("masks need both --secret and --with, one for each other laboratory")
    from matml.kinetics.data.prepare import read_and_report

    # what cannot be read is told before torch is there, which takes seconds
    observations = read_and_report(data, alloys)
    bound_threads(threads)
    from matml.federated.files import SharedPrior
    from matml.federated.kinetics import Laboratory

    shared = SharedPrior.load(prior, trust_equation=trust_equation)
    found = Laboratory(shared, observations, laboratory, without).sums(shared)
    if secret:
        from matml.federated.masks import Keys

        Keys.load(secret, others).mask(found).save(out)
    else:
        found.save(out)
    click.echo(
        f"round {found.round}, {laboratory}: {found.sums.tasks} alloys, "
        f"{found.sums.observations} observations; send {out} ({out.stat().st_size:,} bytes) back"
    )


@federated.command()
@prior_argument
@sums_argument
@out_option
@trust_option
def merge(prior: Path, sums: tuple[Path, ...], out: Path, trust_equation: bool) -> None:
    """Add up SUMS under PRIOR, so that whoever makes the step sees no single laboratory's."""
    from matml.federated.files import SharedPrior
    from matml.federated.masks import load_and_merge

    shared = SharedPrior.load(prior, trust_equation=trust_equation)
    whole = load_and_merge(sums, shared)
    whole.save(out)
    click.echo(f"round {whole.round}: {', '.join(whole.laboratories)}: {out}")


@federated.command()
@prior_argument
@sums_argument
@participant_options
@out_option
@trust_option
def step(
    prior: Path,
    sums: tuple[Path, ...],
    expected: tuple[str, ...],
    without: tuple[str, ...],
    out: Path,
    trust_equation: bool,
) -> None:
    """Make the prior of the next round from PRIOR and all laboratories' SUMS under it."""
    from matml.federated.files import SharedPrior
    from matml.federated.kinetics import next_round

    shared = SharedPrior.load(prior, trust_equation=trust_equation)
    following = next_round(shared, sums, expected=expected, without=without)
    following.save(out)
    number = len(following.laboratories)
    laboratories = "1 laboratory" if number == 1 else f"{number} laboratories"
    told = f"{following.alloys} alloys of {laboratories}"
    if without:
        click.echo(f"without {'; '.join(sorted(without))}")
    if following.converged:
        click.echo(f"learned from {told} in {following.round} rounds: `matml federated population`")
    else:
        click.echo(f"round {following.round} ({told}): send {out} to all laboratories")


@federated.command()
@prior_argument
@out_option
@trust_option
def population(prior: Path, out: Path, trust_equation: bool) -> None:
    """Write the population of a learned PRIOR, for `matml kinetics calibrate --prior`."""
    from matml.federated.files import SharedPrior
    from matml.federated.kinetics import population as of_prior

    shared = SharedPrior.load(prior, trust_equation=trust_equation)
    of_prior(shared).save(out)
    click.echo(f"{out}: of {shared.alloys} alloys of {', '.join(shared.laboratories)}")
    if not shared.converged:
        click.echo("the prior is not learned to the end: more rounds would change it")
