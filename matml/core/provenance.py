"""Where results come from: versions of packages, checksums of results."""

import hashlib
import importlib.metadata
import json
import logging
import platform
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matml
from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.integrity.beside import CHECKSUMS
from matml.core.integrity.formats import Format
from matml.core.processors import usable_threads
from matml.core.project import project_root

log = logging.getLogger(__name__)
PACKAGES = (
    "matml",
    "moyopy",
    "numpy",
    "pandas",
    "plotly",
    "pymatgen",
    "scikit-learn",
    "scipy",
    "snakemake",
    "torch",
    "torch-geometric",
)
# written while a run goes on or after it, so they tell nothing about the results' health
FORMAT = Format("checksums", 1, "make it again: delete it, and start the run again")
UNCHECKED = ("logs", "benchmarks", CHECKSUMS, "origin.json")


def versions() -> dict[str, str]:
    """Return the versions of Python, of the platform and of the packages that shape results."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def origin() -> dict[str, str]:
    """Return when, on what machine and with which commit of matml results are made now.

    The commit is that of the clone that runs, with `+` where files of it were changed since; an
    installed package names its version instead.
    """
    root = project_root()
    commit = f"matml {importlib.metadata.version('matml')}, installed"
    if (root / ".git").exists():
        call = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        found = subprocess.run(call, capture_output=True, text=True, check=False)
        commit = found.stdout.strip() or commit
    count = usable_threads(1_000_000)
    machine = f"{platform.machine()}, {count} processor{'' if count == 1 else 's'}"
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit,
        "machine": f"{machine}, {platform.system()}, Python {platform.python_version()}",
    }


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def package_hash(*packages: str) -> str:
    """Return a hash of the sources of packages of matml, such as `meta` or `properties/networks`.

    For work that is resumed; rules of the workflow follow the imports of their command instead.
    """
    root, digest = Path(matml.__file__).parent, hashlib.sha256()
    for path in sorted(path for name in packages for path in (root / name).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def result_files(results: Path) -> list[Path]:
    """Return every result file below `results`, sorted, without logs and run times."""
    return sorted(
        path
        for path in results.rglob("*")
        if path.is_file()
        and path.relative_to(results).parts[0] not in UNCHECKED
        and not any(part.startswith(".") for part in path.relative_to(results).parts)
    )


def write_checksums(results: Path, out: Path) -> int:
    """Write size and SHA-256 of every result file to the JSON file `out`; return their number.

    Raises
    ------
    MatmlError
        Where `results` is not a folder.
    """
    if not results.is_dir():
        raise MatmlError(f"{results}: no such folder of results")
    table = {
        path.relative_to(results).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": file_hash(path),
        }
        for path in result_files(results)
    }
    write_json(out, table, FORMAT)
    return len(table)


def to_make_again(results: Path, made: Callable[[str], bool]) -> list[str]:
    """Return results that the last whole run listed and that are gone, to ask for them.

    Snakemake makes again what another rule still needs, and would say that nothing is to be done
    where none does. Of what no rule names the command is told that makes it again.

    Parameters
    ----------
    made
        Whether a rule names a file.
    """
    names: list[str] = []
    with suppress(MatmlError):
        listed = read_json(results / CHECKSUMS, FORMAT)
        names = [name for name in listed if not (results / name).exists()]
    asked = {name: (results / name).as_posix() for name in names}
    asked = {name: path for name, path in asked.items() if made(path)}
    if others := [name for name in names if name not in asked]:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        log.warning(
            "%s: missing of the last whole run: %s%s; `%s` makes %s again",
            results,
            others[0],
            more,
            making_again(results, others),
            "them" if more else "it",
        )
    return list(asked.values())


def verify_checksums(results: Path) -> int:
    """Return how many files of `results` were verified against its `checksums.json`.

    Raises
    ------
    MatmlError
        Where a file is missing, cut short or changed; every such file is named.
    """
    listed = results / CHECKSUMS
    table = read_json(listed, FORMAT)
    problems: dict[str, str] = {}
    for name, entry in table.items():
        path = results / name
        if not path.is_file():
            problems[name] = f"{name} is missing"
        elif path.stat().st_size != entry["bytes"]:
            problems[name] = f"{name} has {path.stat().st_size} bytes, not {entry['bytes']}"
        elif file_hash(path) != entry["sha256"]:
            problems[name] = f"{name} has changed"
    if problems:
        told, again = "; ".join(problems.values()), making_again(results, list(problems))
        raise MatmlError(
            f"{listed}: {len(problems)} of {len(table)} files differ: {told}. "
            f"Where the run was started, make them again with `{again}`"
        )
    return len(table)


def started_again(files: Sequence[str | Path], settings: Mapping[str, Any]) -> str:
    """Return the command of a run with configuration files and settings of `--config`."""
    here = Path.cwd()
    words = ["matml", "run"]
    for path in (Path(file).resolve() for file in files):
        named = path.relative_to(here) if path.is_relative_to(here) else path
        words += ["--configfile", named.as_posix()]
    given = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return shlex.join([*words, *(["--config", *given] if given else [])])


def making_again(results: Path, names: list[str]) -> str:
    """Return the command by which a whole run makes result files again.

    It names the configuration of the run, and in place of a file in a folder that a rule makes as
    one the folder, as `origin.json` tells; without that the file alone.
    """
    started: dict[str, Any] = {}
    with suppress(MatmlError):
        said = read_json(results / "origin.json", shape=dict[str, Any]).get("started")
        started = said if isinstance(said, dict) else {}
    place, folders = started.get("results", results.as_posix()), started.get("folders", [])
    whole = (next((f for f in folders if name.startswith(f"{f}/")), name) for name in names)
    targets = shlex.join(f"{place}/{name}" for name in dict.fromkeys(whole))
    return f"{started.get('command', 'matml run')} --forcerun {targets}"


def watched_files(paths: list[Path], most: int = 1000) -> list[str]:
    """Return the files behind the given files and folders, for Snakemake to watch.

    A folder stands for itself and the files below it; one with more than `most` files only for
    itself, since Snakemake looks at every input of every rule whenever it starts. It takes braces
    for wildcards and cannot note names that are no UTF-8: of such a file its folder is watched.
    """
    watched: list[Path] = []
    for path in paths:
        below = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
        watched += [path, *below] if len(below) <= most else [path]
    return list(dict.fromkeys(map(_watchable, watched)))


def _watchable(path: Path) -> str:
    """Return a path, or its nearest folder that Snakemake can watch."""
    while any("{" in part or "\udc80" <= max(part) <= "\udcff" for part in path.parts):
        path = path.parent
    return path.as_posix()
