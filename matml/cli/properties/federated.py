"""`matml federated crystals …`: a network that laboratories train together by files."""

from __future__ import annotations

from pathlib import Path

import click

from matml.cli.options import FILE, FOLDER, participant_options

round_argument = click.argument("begun", metavar="ROUND", type=FILE)
structures_option = click.option(
    "--structures", type=FOLDER, required=True, help="Folder of `matml structures ingest`."
)
graphs_option = click.option(
    "--graphs", type=FOLDER, required=True, help="Folder of `matml structures graph`."
)
out_option = click.option("--out", type=FILE, required=True)


@click.group()
def crystals() -> None:
    """Train one network of a property of crystals, which stay in their laboratories.

    The coordinator makes ROUND (`start`) and sends it; each laboratory takes a few steps on its own
    crystals (`answer`); the coordinator makes the next round of all answers (`step`).
    """


@crystals.command()
@structures_option
@graphs_option
@click.option("--study", required=True, help="A name that no other study has.")
@click.option("--property", "name", required=True, help="Column of the labels.")
@click.option("--mean", type=float, required=True, help="Of typical labels; need not be exact.")
@click.option("--deviation", type=float, required=True, help="Of typical labels.")
@click.option("--rounds", type=click.IntRange(min=1), default=100, show_default=True)
@click.option(
    "--local-steps",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Of a laboratory in a round.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Crystals in a step.",
)
@click.option(
    "--largest-update",
    type=click.FloatRange(min=0, min_open=True),
    default=float("inf"),
    help="Norm that a laboratory's change is clipped to; not clipped by default.",
)
@click.option("--width", type=click.IntRange(min=8, max=1024), default=64, show_default=True)
@click.option("--layers", type=click.IntRange(min=1, max=12), default=3, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@out_option
def start(
    structures: Path,
    graphs: Path,
    study: str,
    name: str,
    mean: float,
    deviation: float,
    rounds: int,
    local_steps: int,
    batch_size: int,
    largest_update: float,
    width: int,
    layers: int,
    seed: int,
    out: Path,
) -> None:
    """Begin a study: round 0, for graphs made as these are."""
    from matml.federated.network_files import NetworkRound
    from matml.federated.networks import Rounds
    from matml.structures.crystals import CrystalSet

    settings = Rounds(rounds, local_steps, batch_size, largest_update=largest_update, seed=seed)
    known = CrystalSet.open(structures, graphs)
    network = {"width": width, "layers": layers}
    NetworkRound.begin(study, known, name, mean, deviation, settings, network).save(out)
    click.echo(f"round 0, nothing learned yet: send {out} to all laboratories")


@crystals.command()
@round_argument
@structures_option
@graphs_option
@click.option("--laboratory", required=True, help="Its name.")
@out_option
def answer(begun: Path, structures: Path, graphs: Path, laboratory: str, out: Path) -> None:
    """Take a round's steps on a laboratory's labelled crystals; what leaves it is `--out`."""
    from matml.federated.network_files import NetworkRound, save_answer
    from matml.structures.crystals import CrystalSet

    shared = NetworkRound.load(begun)
    update = shared.answer(CrystalSet.open(structures, graphs), laboratory, graphs)
    save_answer(out, update, laboratory, shared)
    click.echo(
        f"round {shared.state.round}, {laboratory}: {update.crystals} crystals; send {out} "
        f"({out.stat().st_size:,} bytes) back"
    )


@crystals.command()
@round_argument
@click.argument("answers", type=FILE, nargs=-1, required=True)
@participant_options
@out_option
def step(
    begun: Path,
    answers: tuple[Path, ...],
    expected: tuple[str, ...],
    without: tuple[str, ...],
    out: Path,
) -> None:
    """Make the next round from ROUND and all laboratories' ANSWERS to it."""
    from matml.federated.network_files import NetworkRound

    following = NetworkRound.load(begun).step(answers, expected=expected, without=without)
    following.save(out)
    told = ", ".join(f"{name} {count}" for name, count in following.laboratories.items())
    if without:
        click.echo(f"without {'; '.join(sorted(without))}")
    done, rounds = following.state.round, following.settings.rounds
    what = "learned: `predict`" if done == rounds else f"send {out} to all laboratories"
    click.echo(f"round {done} of {rounds} (crystals: {told}): {what}")


@crystals.command("head-sums")
@round_argument
@structures_option
@graphs_option
@click.option("--property", "name", required=True, help="Column of the labels.")
@click.option("--laboratory", required=True, help="Its name.")
@out_option
def head_sums(
    begun: Path, structures: Path, graphs: Path, name: str, laboratory: str, out: Path
) -> None:
    """Write the sums over a laboratory's crystals that a head of any property is made of."""
    from matml.federated.heads import HeadSums
    from matml.federated.network_files import NetworkRound
    from matml.structures.crystals import CrystalSet

    known = CrystalSet.open(structures, graphs)
    sums = HeadSums.of(NetworkRound.load(begun), known, name, laboratory, graphs)
    sums.save(out)
    size = out.stat().st_size
    click.echo(f"{laboratory}: {sums.crystals} crystals; send {out} ({size:,} bytes) back")


@crystals.command()
@round_argument
@click.argument("sums", type=FILE, nargs=-1, required=True)
@out_option
def head(begun: Path, sums: tuple[Path, ...], out: Path) -> None:
    """Make the head of all laboratories' SUMS: that of the pooled crystals."""
    from matml.federated.heads import merged
    from matml.federated.network_files import NetworkRound

    whole = merged(sums, NetworkRound.load(begun))
    whole.solve().save(out)
    click.echo(f"{out}: {whole.item.name} of {whole.crystals} crystals: `predict --head`")


@crystals.command()
@round_argument
@structures_option
@graphs_option
@click.option(
    "--adapt/--as-it-is",
    default=True,
    show_default=True,
    help="To the labelled ones of the crystals first.",
)
@click.option("--head", "head_file", type=FILE, help="From `head`, in place of the network's.")
@out_option
def predict(
    begun: Path, structures: Path, graphs: Path, adapt: bool, head_file: Path | None, out: Path
) -> None:
    """Predict crystals, by the network adapted to those of them that have a label."""
    from matml.core.files import write_table
    from matml.federated.network_files import NetworkRound
    from matml.structures.crystals import CrystalSet

    shared, known = NetworkRound.load(begun), CrystalSet.open(structures, graphs)
    if head_file:
        from matml.federated.heads import Head

        found = Head.load(head_file, shared).predict(shared, known, graphs)
        write_table(out, known.table[["id", "family"]].assign(prediction=found))
        click.echo(f"{out}: {len(known)} crystals, by the head of all laboratories")
        return
    table = shared.predict(known, graphs, adapt=adapt)
    write_table(out, table)
    labels = int(table["label"].notna().sum())
    how = f"adapted to {labels} labels" if adapt and labels else "as all laboratories learned it"
    click.echo(f"{out}: {len(table)} crystals, {how}")
    if shared.state.round < shared.settings.rounds:
        click.echo(f"only {shared.state.round} of {shared.settings.rounds} rounds are done")
