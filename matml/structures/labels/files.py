"""A user's own labels: a CSV keyed by `id` or `file`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import FIRST_ROW, read_text_table
from matml.structures.labels.values import (
    LOOKS_LIKE,
    RANGES,
    RESERVED,
    as_known,
    check_label,
    doubtful_cell,
    label_columns,
    plain_number,
)

ONE_ROW = "keep one row per structure (the first was used)"


@dataclass(frozen=True)
class LabelEntry:
    """One row of a label file.

    Attributes
    ----------
    key, row
        What it is keyed by, and its row in the file, the header being row 1.
    labels, family
        Good values; the user's own family ('' if none).
    dropped
        Name, reason and remedy of each bad value.
    reason, remedy
        Why the row as a whole cannot be used ('' if it can).
    file
        Its file, where it is keyed by `id` and names that, too.
    said
        Its row, which may tell formula and symmetry.
    """

    key: str
    row: int
    labels: dict[str, float]
    family: str
    dropped: tuple[tuple[str, str, str], ...]
    reason: str = ""
    remedy: str = ""
    file: str = ""
    said: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelFile:
    """A label file: its path, the name of its key column, its label columns and its rows.

    `ignored` names the columns that were left out, `notes` says how the table was understood.
    """

    path: Path
    key: str
    label_names: list[str]
    entries: list[LabelEntry]
    ignored: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def filled(self) -> list[str]:
        """Label columns that hold anything, good or bad."""
        held = {name for entry in self.entries for name in entry.labels}
        held |= {name for entry in self.entries for name, _, _ in entry.dropped}
        return [name for name in self.label_names if name in held]


def read_label_file(path: str | Path) -> LabelFile:
    """Read a CSV of labels.

    Raises
    ------
    MatmlError
        Where it is no table, has no key column or no label column.
    """
    path = Path(path)
    table = as_known(read_text_table(path), path)
    key = next((name for name in ("id", "file") if name in table.columns), None)
    if key is None:
        raise MatmlError(
            f"{path}: has no column `id` or `file` (its columns are {', '.join(table.columns)}); "
            "one of them must name the structure of each row"
        )
    _refuse_other_units(table, path)
    names, left_out = label_columns(table, {key, "family", *RESERVED})
    if table.empty:
        raise MatmlError(f"{path}: has no row; add labelled structures")
    has_family = "family" in table.columns
    if not names and not has_family:
        doubt = doubtful_cell(table, left_out)
        raise MatmlError(
            f"{path}: has no column of numbers (its columns are {', '.join(table.columns)}"
            f"{f'; {doubt}' if doubt else ''}); "
            + ("write plain numbers" if doubt else "add one such as bulk_modulus_GPa")
        )
    entries: list[LabelEntry] = []
    seen: dict[str, LabelEntry] = {}
    for line, record in zip(table.index, table.to_dict("records"), strict=True):
        row = line + FIRST_ROW
        name = record[key].strip()
        reason, remedy = table.attrs["short"].get(line, ""), "give every cell, empty ones too"
        if reason:
            record = dict.fromkeys(record, "")
        elif not name:
            reason, remedy = f"the {key} is missing", f"fill in the column `{key}`"
            if not any(map(plain_number, record.values())):
                remedy += ", or delete the row if it holds units or titles"
        elif name in seen:
            reason, remedy = f"{key} {name!r} stands in row {seen[name].row} already", ONE_ROW
        labels, dropped = {}, []
        for label in names:
            value, why, help_ = check_label(label, record[label])
            if why:
                dropped.append((label, why, help_))
            elif value == value:
                labels[label] = value
        if reason and name in seen:
            reason += other_values(labels, seen[name])
        family = record["family"].strip() if has_family else ""
        file = record.get("file", "").strip() if key == "id" else ""
        entry = LabelEntry(name, row, labels, family, tuple(dropped), reason, remedy, file, record)
        entries.append(entry)
        if not reason:
            seen[name] = entry
    ignored = [f"{path.name}: column {name}" for name in left_out]
    doubts = [doubt for name in left_out if (doubt := doubtful_cell(table, [name]))]
    told = (*table.attrs["notes"], *_odd(names, entries), *(f"left out: {x}" for x in doubts))
    notes = [f"{path.name}: {note}" for note in told]
    return LabelFile(path, key, names, entries, ignored, notes)


def other_values(labels: Mapping[str, float], first: LabelEntry) -> str:
    """Return, to go on with, which labels differ from those of a crystal's first row."""
    return "".join(
        f", with {label} = {first.labels[label]:g}, here {value:g}"
        for label, value in labels.items()
        if first.labels.get(label, value) != value
    )


def _odd(names: Sequence[str], entries: Sequence[LabelEntry]) -> Iterator[str]:
    """Yield which columns may be in another unit, of which some values are out of range."""
    entries = [entry for entry in entries if not entry.reason]
    for label in names:
        reasons = [why for entry in entries for name, why, _ in entry.dropped if name == label]
        units = [unit for why in reasons if (unit := why.partition(LOOKS_LIKE)[2])]
        kept = sum(label in entry.labels for entry in entries)
        if len(units) > 1 and kept:
            yield (
                f"{len(units)} values of column {label} look like {units[0]} and were dropped; the "
                f"other {kept} are possible as they stand: are they, too?"
            )


def _refuse_other_units(table: pd.DataFrame, path: Path) -> None:
    """Refuse a table whose first row names another unit than a column does."""
    for name in table.columns.intersection(list(RANGES)):
        said = table[name].iloc[0].strip() if len(table) else ""
        if said in RANGES[name].mistakes:
            raise MatmlError(
                f"{path}: column {name} is in {RANGES[name].unit} by its name, but row "
                f"{table.index[0] + FIRST_ROW} says {said!r}; convert the values, or delete it"
            )
