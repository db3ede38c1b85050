"""Which crystal a label is for: one way to resolve names, in ingest, adaptation and screening."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from matml.core.errors import MatmlError
from matml.structures.labels.files import LabelFile

SHOWN = 3
"""Names that a message shows."""


class CrystalNames:
    """Names by which crystals may be called, the surest first.

    A crystal is called by its id or the id of its database; by its file, also as the end of a
    longer path or of a path within a zip; and by either without the file's ending.

    Parameters
    ----------
    names
        For every crystal its id, its database's id ('' if none) and its file.
    """

    def __init__(self, names: Iterable[tuple[str, str, str]]) -> None:
        self._by: tuple[dict[str, list[int]], ...] = ({}, {}, {})
        exact, ends, bare = self._by
        for index, (identity, material_id, source) in enumerate(names):
            for name in dict.fromkeys((identity, material_id, source)):
                if name:
                    exact.setdefault(name, []).append(index)
            for name in dict.fromkeys((identity, source)):
                for end in _ends(name):
                    ends.setdefault(end, []).append(index)
                    stem = str(PurePosixPath(end).with_suffix("")) if end not in ("", ".") else end
                    bare.setdefault(stem, []).append(index)

    def find(self, key: str) -> list[int]:
        """Return the crystals that a key may name; none, one or several."""
        exact, ends, bare = self._by
        if key in exact:
            return exact[key]
        path = _plain(key)
        # the key may be the longer path
        for end in (path, *_ends(path)):
            if end in ends:
                return list(dict.fromkeys(ends[end]))
        return list(dict.fromkeys(bare.get(path, [])))

    def near(self, key: str) -> list[str]:
        """Return up to three names like a key."""
        return (
            difflib.get_close_matches(key, self._by[0], n=SHOWN, cutoff=0.5)
            or list(self._by[0])[:SHOWN]
        )


def _plain(path: str) -> str:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    return "/".join(parts)


def _ends(path: str) -> list[str]:
    """Return a path and all ends of it: `a/b/c`, `b/c`, `c`."""
    parts = _plain(path).split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def refuse_lost_labels(
    label_file: LabelFile, names: CrystalNames, unmatched: Sequence[str], kept: dict[str, int]
) -> None:
    """Refuse a label file that would vanish: before anything is learned from the rest.

    Parameters
    ----------
    unmatched
        Keys of its rows that name no crystal.
    kept
        Values kept, by the label columns that have any in the file.

    Raises
    ------
    MatmlError
        Where most rows name no crystal, or a column keeps no value.
    """
    rows = [entry for entry in label_file.entries if not entry.reason]
    if 2 * len(unmatched) > len(rows):
        shown = ", ".join(map(repr, unmatched[:SHOWN]))
        more = " …" if len(unmatched) > SHOWN else ""
        raise MatmlError(
            f"{label_file.path}: {len(unmatched)} of {len(rows)} rows name no crystal of the "
            f"inputs by their `{label_file.key}` ({shown}{more}); the inputs are called "
            f"{', '.join(map(repr, names.near(unmatched[0])))}. Correct the column "
            f"`{label_file.key}`"
        )
    for name, number in kept.items():
        if number:
            continue
        dropped = [
            (entry.row, reason, remedy)
            for entry in rows
            for label, reason, remedy in entry.dropped
            if label == name
        ]
        first_row = next((entry for entry in rows if name in entry.labels), rows[0])
        said = f"correct the names of its rows: see `id` and `file` of row {first_row.row}"
        line, reason, remedy = dropped[0] if dropped else (0, "", said)
        first = f"; the first, in row {line}: {reason}" if dropped else ""
        raise MatmlError(f"{label_file.path}: column {name} keeps no value{first}; {remedy}")
