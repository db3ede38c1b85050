"""Checksums of plain files (CSV, JSON, YAML, CIF), which cannot hold their own: in a file beside.

`.scores.csv.sha256` belongs to `scores.csv`, and says which command wrote it; `sha256sum -c` reads
it, too. Jobs of a run and commands that fill a folder write them; what matml reads is compared
wherever there is one.
"""

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from matml.core.errors import MatmlError
from matml.core.integrity.owner import VARIABLE

PLAIN = (".csv", ".json", ".yaml", ".cif")
CHECKSUMS = "checksums.json"
COMMAND = "# made by: "
LONGEST = 1000
"""Characters of a command that a message shows."""
_wanted = VARIABLE in os.environ


@contextmanager
def noting() -> Iterator[None]:
    """Have this process write the checksum of every plain file beside it, during the block."""
    global _wanted
    before, _wanted = _wanted, True
    try:
        yield
    finally:
        _wanted = before


def beside(path: Path) -> Path:
    """Return where the checksum of a file stands."""
    return path.with_name(f".{path.name}.sha256")


def checksum_before(path: Path, written: Path) -> str | None:
    """Return what `beside(path)` is to say before `written` gets the name `path`; None: nothing.

    What was there before is listed, too: where a process is killed in between, either is right.
    """
    place = beside(path)
    if path.suffix not in PLAIN or not (_wanted or place.exists()):
        return None
    before = [line for line in _lines(place) if not line.startswith(COMMAND)][:1]
    command = f"{COMMAND}{shlex.join(['matml', *sys.argv[1:]])}"
    return "\n".join([f"{_sha256(written)}  {path.name}", *before, command, ""])


def check_beside(path: Path) -> None:
    """Refuse a file that is not as it was written, where there is a checksum beside it.

    Where there is none, as in a copy without hidden files, the list of the whole run's is asked.

    Raises
    ------
    MatmlError
        With the command that makes it again.
    """
    lines = _lines(beside(path))
    known = [line.split(" ")[0] for line in lines if not line.startswith(COMMAND)]
    known = known or _of_the_run(path)
    if not known or not path.is_file() or _sha256(path) in known:
        return
    raise MatmlError(
        f"{path}: is damaged, or was changed after it was written (its checksum differs); "
        f"{_again(path, lines)}, or use a copy elsewhere, which is taken as it is"
    )


def _again(path: Path, lines: list[str]) -> str:
    """Return how a file is made again; a run asks for what is gone."""
    if not lines or not lines[-1].startswith(COMMAND):
        return "delete it and start the run again that wrote it"
    command = lines[-1].removeprefix(COMMAND)
    if len(command) > LONGEST:
        return f"make it again with the command in the last line of {beside(path)}"
    return f"make it again with `{command}`"


def _of_the_run(path: Path) -> list[str]:
    """Return the checksum of a file in the list of the run whose results it is among."""
    for folder in path.absolute().parents:
        listed = folder / CHECKSUMS
        if listed.is_file() and folder / path.name != listed:
            with suppress(OSError, ValueError, LookupError, TypeError):
                name = path.absolute().relative_to(folder).as_posix()
                return [json.loads(listed.read_text(encoding="utf-8"))[name]["sha256"]]
            return []
    return []


def _lines(path: Path) -> list[str]:
    # a list that cannot be read tells nothing of its file
    with suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8").splitlines()
    return []


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
