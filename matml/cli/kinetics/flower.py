"""`matml federated flower …`: rounds over a network, by Flower, in place of files by mail."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

import click

from matml.cli.kinetics.options import READABLE, trust_option
from matml.cli.options import FILE, FOLDER
from matml.core.errors import MatmlError

LOOPBACK, PORT = "127.0.0.1", 8000
superlink_option = click.option(
    "--superlink", required=True, metavar="HOST:PORT", help="Where it listens."
)
authority_option = click.option(
    "--authority", type=READABLE, required=True, help="ca.crt of the SuperLink's certificates."
)


@click.group()
def flower() -> None:
    """Take rounds over a network: TLS, and each laboratory known by its key.

    The coordinator makes `certificates` once and runs a `superlink`; each laboratory makes a `key`
    once and runs a `supernode`, which answers rounds by the command that it is given; `learn` takes
    all rounds. Needs `pip install "matml[federated]"`.
    """
    if not find_spec("flwr"):
        raise MatmlError('Flower is not installed: pip install "matml[federated]"')


@flower.command()
@click.option(
    "--host",
    "hosts",
    multiple=True,
    default=[LOOPBACK],
    show_default=True,
    help="Name or address that laboratories reach the SuperLink by; repeatable; its own machine "
    "reaches it by the default one, too.",
)
@click.option("--out", type=FOLDER, required=True)
def certificates(hosts: tuple[str, ...], out: Path) -> None:
    """Make the SuperLink's certificate and key, and an authority's that vouches for it alone."""
    from matml.federated.flower.keys import AUTHORITY, DAYS, make_certificates

    make_certificates(out, [*dict.fromkeys((LOOPBACK, *hosts))])
    click.echo(f"for {DAYS} days: send {out / AUTHORITY} to all laboratories, keep the rest")


@flower.command()
@click.option("--laboratory", required=True, help="Its name, in one word.")
@click.option("--secret", type=FILE, required=True, help="File that the laboratory keeps.")
@click.option("--out", type=FILE, required=True, help="File that goes to the coordinator.")
def key(laboratory: str, secret: Path, out: Path) -> None:
    """Make the key by which the SuperLink knows a laboratory (masks have keys of their own)."""
    from matml.federated.flower.keys import make_key

    make_key(laboratory, secret, out)
    click.echo(f"send {out} to the coordinator; keep {secret} to yourself")


@flower.command()
@click.argument("keys", type=READABLE, nargs=-1, required=True)
@click.option("--certificates", "folder", type=FOLDER, required=True, help="From `certificates`.")
@click.option("--host", default=LOOPBACK, show_default=True, help="To listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True)
def superlink(keys: tuple[Path, ...], folder: Path, host: str, port: int) -> None:
    """Run the SuperLink, which the laboratories of KEYS may join, until it is interrupted."""
    from matml.federated.flower.keys import laboratories_of
    from matml.federated.flower.processes import serve

    named = laboratories_of(keys)
    _end_when_told()

    def ready() -> None:
        click.echo(f"{host}:{port}: {', '.join(named)} may join; `learn` from this machine")

    serve(folder, host, port, named, ready)


@flower.command(context_settings={"ignore_unknown_options": True})
@superlink_option
@authority_option
@click.option("--key", type=READABLE, required=True, help="The secret one, from `key`.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_context
def supernode(
    context: click.Context, superlink: str, authority: Path, key: Path, command: tuple[str, ...]
) -> None:
    """Run a laboratory's SuperNode, which answers rounds by COMMAND, until it is interrupted.

    COMMAND, behind `--`, is `sums` or `crystals answer` with its options, but for the round's file
    and `--out`.
    """
    from matml.federated.flower.processes import join

    names = ("crystals", "answer") if command[0] == "crystals" else ("sums",)
    if command[: len(names)] != names:
        raise MatmlError(f"{command[0]!r}: give `sums …` or `crystals answer …` behind --")
    answering = context.parent.parent.command  # type: ignore[union-attr]
    for name in names:
        answering = answering.commands[name]  # type: ignore[union-attr]

    def words(asked: Path, answered: Path) -> list[str]:
        return [str(asked), *command[len(names) :], "--out", str(answered)]

    # told now, in place of at the first round; any file stands for the round's
    told = answering.make_context(names[-1], words(key, key))
    click.echo(f"{told.params['laboratory']}: answers rounds of {superlink} by {names[-1]}")
    _end_when_told()

    def answer(asked: Path, answered: Path) -> None:
        answering.main(words(asked, answered), standalone_mode=False)

    join(superlink, authority, key, answer)


@flower.command()
@click.argument("begun", metavar="ROUND", type=READABLE)
@superlink_option
@authority_option
@click.option(
    "--laboratory", "laboratories", multiple=True, required=True, help="Takes part; repeatable."
)
@click.option(
    "--patience",
    "patience_s",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="Seconds that a round waits for a laboratory that is gone, and asks it again when it is "
    "back.",
)
@click.option("--go-on", is_flag=True, help="Then without it, in place of ending.")
@trust_option
@click.option("--out", type=FOLDER, required=True, help="For the files of all rounds.")
def learn(
    begun: Path,
    superlink: str,
    authority: Path,
    laboratories: tuple[str, ...],
    patience_s: float,
    go_on: bool,
    trust_equation: bool,
    out: Path,
) -> None:
    """Take all rounds from ROUND on (prior-0.json or round-0.safetensors, from `start`)."""
    from matml.federated.flower.link import Link

    if not begun.stem.rpartition("-")[2].isdigit():
        raise MatmlError(f"{begun}: give the file a name that ends with its round, as prior-0.json")
    _end_when_told()
    out.mkdir(parents=True, exist_ok=True)
    Link(superlink, authority).learn(
        click.echo,
        begun=str(begun.absolute()),
        out=str(out.absolute()),
        laboratories=" ".join(laboratories),
        patience_s=patience_s,
        go_on=go_on,
        trust_equation=trust_equation,
    )
    click.echo("learned")


def _end_when_told() -> None:
    """End in order where a service manager asks to; waiting is no work that is told of."""
    logging.getLogger("matml.cli.main").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
