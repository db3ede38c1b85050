"""What the coordinator's SuperLink runs: round after round, until the study is learned.

A round's file goes to all laboratories as it is, and the next is made of the files that come back,
as of files by mail: what is refused there is refused here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from logging import INFO, WARNING
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.supercore import log

from matml.core.errors import MatmlError
from matml.federated.flower.answers import FILE, REFUSED
from matml.federated.flower.link import SAID

if TYPE_CHECKING:
    from matml.federated.files import SharedPrior
    from matml.federated.network_files import NetworkRound

app = ServerApp()
POLL_S = 0.5


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Take all rounds from the run's configuration."""
    given = context.run_config
    learn(
        grid,
        Path(str(given["begun"])),
        Path(str(given["out"])),
        str(given["laboratories"]).split(),
        patience_s=float(given["patience_s"]),
        go_on=bool(given["go_on"]),
        trust_equation=bool(given["trust_equation"]),
    )


def learn(
    grid: Grid,
    begun: Path,
    out: Path,
    laboratories: Sequence[str],
    *,
    patience_s: float,
    go_on: bool,
    trust_equation: bool = False,
) -> Path:
    """Return the last round's file; those of all rounds are in `out`.

    Parameters
    ----------
    laboratories
        Who takes part.
    patience_s
        A round waits so long for laboratories that are gone, and asks them again when they are
        back.
    go_on
        Then go on without them, in place of ending. Who was gone in the round before is not waited
        for; who is back takes part again.

    Raises
    ------
    MatmlError
        Where a laboratory refuses or is gone, and where `step` does.
    """
    gone: list[str] = []
    while not _is_learned(shared := _load(begun, trust_equation)):
        with tempfile.TemporaryDirectory() as folder:
            files, refused = _asked(
                grid, begun, shared, Path(folder), laboratories, gone, patience_s
            )
            gone = [name for name in laboratories if name not in files]
            if gone:
                told = "; ".join(
                    f"{name}: {refused.get(name, f'no answer in {patience_s:g} s')}"
                    for name in gone
                )
                if not go_on or not files:
                    raise MatmlError(
                        f"{begun.name}: {told}; start their SuperNodes again and learn from this "
                        "round's file, or let rounds go on without who is gone (--go-on)"
                    )
                log(WARNING, "%s%s: %s", SAID, begun.name, told)
            stem, _, number = begun.stem.rpartition("-")
            begun = out / f"{stem}-{int(number) + 1}{begun.suffix}"
            _next(shared, list(files.values()), laboratories, gone).save(begun)
        log(INFO, "%s%s: of %s", SAID, begun, ", ".join(sorted(files)))
    return begun


def _asked(
    grid: Grid,
    begun: Path,
    shared: SharedPrior | NetworkRound,
    folder: Path,
    laboratories: Sequence[str],
    gone: Collection[str],
    patience_s: float,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Return answers' files by laboratory, and what those said that have none."""
    files: dict[str, Path] = {}
    failed: dict[str, str] = {}
    refused: dict[str, str] = {}
    asked: dict[str, tuple[str, str]] = {}
    left: set[str] = set()
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        there = {node.name: node for node in grid.get_nodes() if node.name in laboratories}
        for name, node in there.items():
            # who was killed and is back is asked again: the message died with it
            if name in files or asked.get(name, ("", ""))[1] == node.last_activated_at:
                continue
            refused.pop(name, None)
            content: dict[str, str | bytes] = {"name": begun.name, "content": begun.read_bytes()}
            message = Message(
                RecordDict({FILE: ConfigRecord(content)}),  # type: ignore[arg-type]
                dst_node_id=node.node_id,
                message_type=MessageType.QUERY,
                ttl=patience_s,
                group_id=begun.name,
            )
            # one by one: of what cannot be sent no number comes back, and no error
            if number := next(iter(grid.push_messages([message])), None):
                asked[name] = number, node.last_activated_at
        for name in asked.keys() - {*there, *files, *left}:
            log(WARNING, "%s%s: %s is gone; asked again when it is back", SAID, begun.name, name)
            left.add(name)
        names = {
            number: name for name, (number, _) in asked.items() if number and name not in files
        }
        for reply in grid.pull_messages(list(names)) if names else ():
            name = names[reply.metadata.reply_to_message_id]
            if reply.has_error():
                # of Flower itself, as where the answering process was killed: asked again
                failed[name], asked[name] = reply.error.reason, ("", "")
                continue
            told = reply.content.config_records[FILE]
            if REFUSED in told:
                refused[name] = str(told[REFUSED])
                continue
            path = folder / f"{name}{begun.suffix}"
            path.write_bytes(bytes(told["content"]))  # type: ignore[arg-type]
            _check_owner(path, shared, name)
            files[name] = path
        if ({*laboratories} - {*gone} | {*there}) <= {*files, *refused}:
            break
        time.sleep(POLL_S)
    return files, failed | refused


def _load(begun: Path, trust_equation: bool) -> SharedPrior | NetworkRound:
    """Return what a round's file holds; only what that needs is imported."""
    if begun.suffix == ".json":
        from matml.federated.files import SharedPrior

        return SharedPrior.load(begun, trust_equation=trust_equation)
    from matml.federated.network_files import NetworkRound

    return NetworkRound.load(begun)


def _is_learned(shared: SharedPrior | NetworkRound) -> bool:
    from matml.federated.files import SharedPrior

    if isinstance(shared, SharedPrior):
        return shared.converged
    return shared.state.round >= shared.settings.rounds


def _check_owner(path: Path, shared: SharedPrior | NetworkRound, name: str) -> None:
    """Refuse an answer that is of another laboratory than the key that it came under."""
    from matml.federated.files import SharedPrior

    if isinstance(shared, SharedPrior):
        from matml.federated.masks import load_and_merge

        told = load_and_merge([path], shared).laboratories
    else:
        from matml.federated.network_files import load_answer

        told = [load_answer(path, shared)[0]]
    if told != [name]:
        raise MatmlError(
            f"{path.name}: is of {', '.join(told)}, but came under the key of {name}; let it start "
            f"its SuperNode with --laboratory {name}"
        )


def _next(
    shared: SharedPrior | NetworkRound,
    paths: Sequence[Path],
    laboratories: Collection[str],
    gone: Collection[str],
) -> SharedPrior | NetworkRound:
    """Return the next round."""
    from matml.federated.files import SharedPrior

    if isinstance(shared, SharedPrior):
        from matml.federated.kinetics import next_round

        return next_round(shared, paths, expected=laboratories, without=gone)
    return shared.step(paths, expected=laboratories, without=gone)
