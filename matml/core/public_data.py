"""Public data sets by name: downloaded once, kept only where their SHA-256 is as expected."""

import tempfile
import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path

from matml.core.errors import MatmlError
from matml.core.files import read_json, write_json
from matml.core.provenance import file_hash

RECORD = "matml-data.json"
"""Beside the data: address, checksum and origin of the checksum of each set."""

TIMEOUT_S = 30


@dataclass(frozen=True)
class PublicSet:
    """A public data set: one file.

    Attributes
    ----------
    name, title
        Its name for the command, and what it is.
    url, file
        Where it is downloaded from, and its name here.
    page
        Where a reader finds it, and its licence where none stands here.
    cite
        What to cite.
    sha256
        Checksum; empty where none was published.
    checksum_from
        Who published the checksum.
    licence
        Under which its publisher gives it; empty where the page tells it.
    note
        What a user should know before.
    """

    name: str
    title: str
    url: str
    file: str
    page: str
    cite: str
    sha256: str = ""
    checksum_from: str = ""
    licence: str = ""
    note: str = ""


def read_registry(path: Path | None = None) -> dict[str, PublicSet]:
    """Return the data sets of a registry (TOML, one table per set), matml's own by default.

    Raises
    ------
    MatmlError
        Where it cannot be read, or an entry lacks a key or has an unknown one.
    """
    source = files("matml.core") / "public_data.toml" if path is None else path
    try:
        tables = tomllib.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MatmlError(f"{source}: no such file; give a registry as public_data.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MatmlError(f"{source}: is not valid TOML ({error})") from None
    known = {field.name for field in fields(PublicSet)} - {"name"}
    found = {}
    for name, table in tables.items():
        keys = set(table) if isinstance(table, dict) else set()
        missing = {"title", "url", "file", "page", "cite"} - keys
        if missing or keys - known:
            what = f"lacks {', '.join(sorted(missing))}" if missing else "has an unknown key"
            raise MatmlError(
                f"{source}: entry {name!r} {what}; keys are {', '.join(sorted(known))}"
            )
        found[name] = PublicSet(name, **table)
        if Path(found[name].file).name != found[name].file:
            raise MatmlError(f"{source}: entry {name!r}: file = {found[name].file!r} has a folder")
    return found


def fetch(wanted: PublicSet, to: Path, sha256: str | None = None) -> tuple[Path, str]:
    """Return the path of a data set's file in `to`, and what was done; downloads it if needed.

    A file that is there is checked and not downloaded again. What came is compared with the
    registry's checksum, else with `sha256`, else with the one that an earlier call recorded.
    Nothing is kept of a download that fails or differs.

    Raises
    ------
    MatmlError
        Where the download fails, the checksum differs, or there is none to compare with.
    """
    path = to / wanted.file
    known = to / RECORD
    record = read_json(known, shape=dict[str, dict[str, str | int]]) if known.is_file() else {}
    earlier = record.get(wanted.name, {}).get("sha256", "")
    expected = (wanted.sha256 or sha256 or earlier).lower()
    if sha256 and sha256.lower() != expected:
        raise MatmlError(
            f"{wanted.name}: --sha256 {sha256} is not the checksum {expected} of "
            f"{wanted.checksum_from or 'the registry'}; leave the option out"
        )
    if path.exists():
        _compare(wanted, f"{path}", file_hash(path), expected, f"remove {path} and fetch it again")
        done = "is there already, checksum as expected"
    else:
        _download(wanted, path, expected)
        done = "downloaded, checksum as expected"
    size = path.stat().st_size
    origin = wanted.checksum_from or "given by the user at the first download"
    record[wanted.name] = {
        "file": wanted.file,
        "url": wanted.url,
        "sha256": expected,
        "checksum_from": origin,
        "bytes": size,
        "cite": wanted.cite,
    }
    write_json(known, record)
    return path, f"{done} ({size:,} bytes)"


def _download(wanted: PublicSet, path: Path, expected: str) -> None:
    """Download to `path`, whole and compared, or not at all."""
    try:
        import pooch
        import requests
    except ImportError:
        raise MatmlError("`matml data fetch` needs pooch: pip install pooch") from None

    def stream(url: str, output: str, _: object) -> None:
        # pooch's own downloader leaves a broken connection open
        with (
            requests.get(url, stream=True, timeout=TIMEOUT_S) as response,
            open(output, "wb") as file,
        ):
            response.raise_for_status()
            for chunk in response.iter_content(2**20):
                file.write(chunk)

    pooch.get_logger().setLevel("ERROR")
    made = not path.parent.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
            came = Path(
                pooch.retrieve(
                    wanted.url,
                    known_hash=None,
                    fname=wanted.file,
                    path=folder,
                    downloader=stream,
                )
            )
            _compare(
                wanted,
                f"what came from {wanted.url}",
                file_hash(came),
                expected,
                f"the set may have changed: look at {wanted.page}; nothing was kept",
            )
            came.replace(path)
    except requests.RequestException as error:
        raise MatmlError(
            f"{wanted.name}: {wanted.url} cannot be downloaded ({_reason(error)}); without a "
            f"network, get the file elsewhere (see {wanted.page}), put it at {path}, and run this "
            "again: it is then checked"
        ) from None
    finally:
        # an empty folder of ours is no trace worth leaving
        if made and not any(path.parent.iterdir()):
            path.parent.rmdir()


def _reason(error: Exception) -> str:
    """Return why a download failed, in a few words."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    kind = type(error).__name__
    return {
        "ConnectionError": "no connection: offline, or the server is not there",
        "ConnectTimeout": "no answer in time: offline?",
        "ReadTimeout": "the server stopped answering",
        "ChunkedEncodingError": "the connection broke off",
        "ProxyError": "no connection through the proxy",
        "SSLError": "no secure connection",
    }.get(kind, f"{kind}: {error}")


def _compare(wanted: PublicSet, what: str, came: str, expected: str, remedy: str) -> None:
    """Refuse a checksum that is not the expected one, or that nothing is expected of."""
    if not expected:
        raise MatmlError(
            f"{wanted.name}: no checksum of this set was published to us; the SHA-256 of {what} is "
            f"{came}; compare it with one that you trust and run this again with --sha256 {came} "
            "(it is recorded and checked from then on)"
        )
    if came != expected:
        raise MatmlError(
            f"{wanted.name}: the SHA-256 of {what} is {came}, expected {expected}: {remedy}"
        )
