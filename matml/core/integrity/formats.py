"""What a file of ours says of itself: its kind, the version of its format, and its checksum.

A binary file (Parquet, safetensors) holds the SHA-256 of its own bytes, taken while zeros stood in
that place; a JSON document that of its content. So each is checked alone, wherever it was copied.
"""

import hashlib
import json
import mmap
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matml.core.errors import MatmlError

MARK, DIGITS = b"matml-sha256:", 64
UNSEALED = (MARK + b"0" * DIGITS).decode()
"""Stands where `seal` writes the checksum."""
FORMAT_KEY, CHECKSUM_KEY = "format", "checksum"
HEADER = "matml"
"""Key of a safetensors file's metadata; one, since several would stand in another order each time.
"""
PIECE = 1 << 22


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    name, version
        As in "matml kinetic population, version 5".
    remedy
        How a file that cannot be used is made again, with its command.
    """

    name: str
    version: int
    remedy: str

    def __str__(self) -> str:
        return f"matml {self.name}, version {self.version}"

    def check(self, found: object, path: Path) -> None:
        """Refuse a file that is of another kind, or of another version.

        Parameters
        ----------
        found
            What the file says; None where it says nothing.

        Raises
        ------
        MatmlError
            With the remedy.
        """
        if found != str(self):
            said = "says no format" if found is None else f"format {found!r}"
            name, _, version = str(found).rpartition(", version ")
            newer = name == f"matml {self.name}" and version.isdecimal()
            remedy = self.remedy
            if newer and int(version) > self.version:
                remedy = f"install the newer matml that wrote it, or {remedy}"
            raise MatmlError(f"{path}: {said}, this version of matml reads {self}; {remedy}")

    def damaged(self, path: Path) -> MatmlError:
        """Return the error of a file whose checksum is another."""
        return MatmlError(
            f"{path}: is damaged, or was changed after it was written (its checksum differs); "
            f"{self.remedy}"
        )


def sealed(value: dict[str, Any], form: Format) -> dict[str, Any]:
    """Return a JSON document with its format before it and the checksum of both behind."""
    document = {FORMAT_KEY: str(form)} | value
    return document | {CHECKSUM_KEY: _content_hash(document)}


def open_sealed(document: Any, path: Path, form: Format) -> dict[str, Any]:
    """Return what `sealed` was given.

    Raises
    ------
    MatmlError
        For another format or checksum.
    """
    form.check(document.get(FORMAT_KEY) if isinstance(document, dict) else None, path)
    content = {key: value for key, value in document.items() if key != CHECKSUM_KEY}
    if document.get(CHECKSUM_KEY) != _content_hash(content):
        raise form.damaged(path)
    del content[FORMAT_KEY]
    return content


def _content_hash(document: dict[str, Any]) -> str:
    """Return the SHA-256 of what is read from a document, however it is laid out."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def header(form: Format, state: Any) -> dict[str, str]:
    """Return the metadata of a safetensors file that `seal` is going to be called on."""
    said = {FORMAT_KEY: str(form), "state": state, CHECKSUM_KEY: UNSEALED}
    return {HEADER: json.dumps(said)}


def read_header(metadata: dict[str, str], path: Path, form: Format) -> Any:
    """Return the state that `header` was given.

    Raises
    ------
    MatmlError
        For another format.
    """
    said = json.loads(metadata.get(HEADER, "{}"))
    form.check(said.get(FORMAT_KEY), path)
    return said["state"]


def seal(path: Path) -> None:
    """Write a file's checksum where it says `UNSEALED`."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        place = data.find(UNSEALED.encode()) + len(MARK)
        data[place : place + DIGITS] = _hash_without(data, place).encode()


def check_seal(path: Path, form: Format, *, required: bool = True) -> None:
    """Refuse a file whose bytes are not those that were written.

    Parameters
    ----------
    required
        Whether a file without a checksum is refused, too.

    Raises
    ------
    MatmlError
        For another checksum, or none.
    """
    if path.stat().st_size == 0:
        raise form.damaged(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = re.search(re.escape(MARK) + rb"([0-9a-f]{%d})" % DIGITS, data)
        if found is None:
            if required:
                form.check(None, path)
            return
        if _hash_without(data, found.start(1)) != found[1].decode():
            raise form.damaged(path)


def _hash_without(data: mmap.mmap, place: int) -> str:
    """Return the SHA-256 of bytes with zeros in the place of the checksum."""
    digest, end = hashlib.sha256(), place + DIGITS
    for start, stop in ((0, place), (end, len(data))):
        if start:
            digest.update(b"0" * DIGITS)
        for at in range(start, stop, PIECE):
            digest.update(data[at : min(at + PIECE, stop)])
    return digest.hexdigest()
