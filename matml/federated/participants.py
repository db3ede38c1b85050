"""Who takes part in a round: nobody twice, no alloy twice, and nobody missing without a word."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from matml.core.errors import MatmlError


class Part(Protocol):
    """What is added up, by its names."""

    @property
    def laboratories(self) -> list[str]:
        """Whose it is."""

    @property
    def fingerprints(self) -> dict[str, str]:
        """Of alloys, with their laboratories."""


AnyPart = TypeVar("AnyPart", bound=Part)


def in_order(parts: Sequence[AnyPart], names: Sequence[Path | str]) -> list[AnyPart]:
    """Return parts in one order, whatever that of the files.

    Parameters
    ----------
    names
        Of the parts, for messages.

    Raises
    ------
    MatmlError
        Where a laboratory or an alloy is in two of them.
    """
    pairs = sorted(zip(parts, names, strict=True), key=lambda pair: sorted(pair[0].laboratories))
    laboratories: set[str] = set()
    owners: dict[str, str] = {}
    for part, name in pairs:
        if twice := sorted(laboratories & {*part.laboratories}):
            raise MatmlError(f"{name}: the laboratory {twice[0]!r} is there twice; give one file")
        if both := owners.keys() & part.fingerprints.keys():
            alloy = min(both)
            raise MatmlError(
                f"{name}: {len(both)} of the alloys of {part.fingerprints[alloy]!r} are those of "
                f"{owners[alloy]!r} (same name and composition) and would count "
                "twice; let one of the two leave them out (--without)"
            )
        laboratories |= {*part.laboratories}
        owners |= part.fingerprints
    return [part for part, _ in pairs]


def refuse_missing(
    number: int,
    roster: Collection[str],
    present: Collection[str],
    expected: Collection[str],
    without: Collection[str],
) -> None:
    """Refuse a round that laboratories are missing from, unless it goes on without them."""
    if both := sorted({*without} & {*present}):
        raise MatmlError(f"--without {both[0]!r}: its file is given, too; leave it out")
    known = {*roster, *expected}
    if unknown := sorted({*without} - known):
        raise MatmlError(f"--without {unknown[0]!r}: is none of {', '.join(sorted(known))}")
    if missing := sorted(known - {*without} - {*present}):
        raise MatmlError(
            f"round {number}: nothing of {', '.join(missing)}; wait for them, or go on with "
            + " ".join(f"--without {name!r}" for name in missing)
        )
