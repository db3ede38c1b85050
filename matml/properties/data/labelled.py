"""Labelled crystals from files: structures and labels told apart, read, and put together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import read_text_table
from matml.structures.ingest import gather
from matml.structures.io.documents import Documents, is_table
from matml.structures.io.read import read_inputs, read_named
from matml.structures.io.tables import CRYSTALS, is_there
from matml.structures.labels.files import LabelFile, read_label_file
from matml.structures.settings import StructuresSection
from matml.structures.table import quarantine_row

QUARANTINE = "quarantine.csv"
"""Of what cannot be used."""


@dataclass(frozen=True)
class Labelled:
    """Labelled crystals from files.

    Attributes
    ----------
    table
        Columns as in `structures.parquet`, the property, and `origin`: how messages name the row.
    property_name
        The column of the labels.
    quarantine
        What could not be used; columns as in `quarantine.csv`.
    """

    table: pd.DataFrame
    property_name: str
    quarantine: pd.DataFrame


def read_labelled(
    inputs: Sequence[Path],
    labels: Path | None,
    settings: StructuresSection,
    known: Collection[str],
    property_name: str | None,
    threads: int = 1,
    own_inputs: Sequence[str] = (),
) -> Labelled:
    """Read structures and their labels.

    Parameters
    ----------
    inputs
        What `matml structures ingest` reads: tables with a column `poscar` bring their labels
        along; a CSV without one, keyed by `id` or `file`, is taken for `labels`, and so is the
        only such CSV of a folder. Where nothing but that CSV is given, its column `file` names
        the structures, seen from its folder.
    labels
        That CSV, given by itself.
    settings, known
        Of the model: how crystals are read, and the properties that it predicts.
    property_name
        By default the only label column that the model predicts.
    own_inputs
        Further columns, of which each crystal is to have a value.

    Raises
    ------
    MatmlError
        Names file, row, field and remedy of what is missing; what fails singly is in quarantine.
    """
    inputs, labels = _find_labels(inputs, labels)
    given = None if labels is None else read_label_file(labels)
    if inputs or given is None:
        documents = read_inputs(inputs, settings)
    else:
        documents = _named_files(given, settings)
    property_name = _label_column(documents, given, known, property_name)
    if given is not None:
        _refuse_contradictions(given, property_name)
    gathered = gather(documents, settings, labels, threads)
    table, quarantine = gathered.table, gathered.quarantine
    shown = ", ".join(str(path) for path in [*inputs, *([labels] if labels else [])])
    gathered.refuse_nothing(shown)
    missing = table[property_name].isna()
    said = set(quarantine.loc[quarantine["field"] == property_name, "id"])
    silent = [
        quarantine_row(
            *(row["id"], row["source"], row["row"], "crystal", property_name),
            f"has no {property_name}",
            "add its label, or ignore this: crystals without a label are not used",
        )
        for _, row in table[missing].iterrows()
        if row["id"] not in said
    ]
    if silent:
        quarantine = pd.concat([quarantine, pd.DataFrame(silent)], ignore_index=True)
    if missing.all():
        why = quarantine.iloc[0]
        place = f"{why['file']}, row {why['row']}" if why["row"] >= 0 else why["id"]
        raise MatmlError(
            f"{shown}: none of the {len(table)} crystals has a usable {property_name}; the first, "
            f"{place}: {why['reason']}; {why['remedy']}"
        )
    table = table[~missing].reset_index(drop=True)
    table, more = with_values(table, own_inputs, shown)
    quarantine = pd.concat([quarantine, more], ignore_index=True) if len(more) else quarantine
    return Labelled(table.assign(origin=_origins(table, given)), property_name, quarantine)


def with_values(
    table: pd.DataFrame, names: Sequence[str], shown: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the crystals with a value in each of some columns, and the others for quarantine.

    Parameters
    ----------
    shown
        The files, for messages.

    Raises
    ------
    MatmlError
        Where there is no such column, or no crystal has a value in each.
    """
    rows = []
    for name in names:
        if name not in table:
            numbers = [c for c in table.select_dtypes("float64") if c != "volume_per_atom_A3"]
            raise MatmlError(
                f"{shown}: no column {name!r} of numbers, only {', '.join(numbers) or 'none'}; "
                "give the input as a column of the label file or of the structures' table"
            )
        missing = table[name].isna()
        for _, row in table[missing].iterrows():
            place = row["id"], row["source"], row["row"], "crystal", name
            remedy = "give one, or ignore this: the crystal is left out"
            rows.append(quarantine_row(*place, f"has no value of the input {name}", remedy))
        table = table[~missing]
    if rows and table.empty:
        raise MatmlError(
            f"{shown}: none of the {len(rows)} crystals has a value of {' and '.join(names)}; add "
            "them to the label file or to the structures' table"
        )
    return table.reset_index(drop=True), pd.DataFrame(rows)


def _is_label_file(path: Path) -> bool:
    """Whether a file is a CSV that names structures instead of holding them."""
    if path.suffix.lower() == ".parquet" or not is_table(path.name):
        return False
    columns = read_text_table(str(path)).columns
    return not set(columns) & {*CRYSTALS[:-2]} and bool({"id", "file"} & set(columns))


def _find_labels(inputs: Sequence[Path], labels: Path | None) -> tuple[list[Path], Path | None]:
    """Tell structures from labels among the inputs.

    Raises
    ------
    MatmlError
        Where there are several files of labels.
    """
    given = [Path(path) for path in inputs]
    found = [path for path in given if path.is_file() and _is_label_file(path)]
    structures = [path for path in given if path not in found]
    if labels is None and not found:
        for folder in (path for path in structures if path.is_dir()):
            found += [
                path for path in sorted(folder.iterdir()) if path.is_file() and _is_label_file(path)
            ]
    found += [] if labels is None else [Path(labels)]
    if len(found) > 1:
        raise MatmlError(
            f"{', '.join(map(str, found))}: {len(found)} files of labels; give one with --labels"
        )
    return structures, found[0] if found else None


def _named_files(known: LabelFile, settings: StructuresSection) -> Documents:
    """Return the structures that the column `file` of a label file names.

    Raises
    ------
    MatmlError
        Where the file is keyed otherwise, or none of its structures is there.
    """
    labels = known.path
    if known.key != "file":
        raise MatmlError(
            f"{labels}: names structures by `id`, but none are given; give their folder or file, "
            "too, or name them by a column `file`"
        )
    documents = Documents()
    for entry in known.entries:
        path = labels.parent / entry.key.replace("\\", "/")
        if not entry.key or entry.reason or not is_there(path):
            continue  # whose label row then says in quarantine that it names no crystal
        items = read_named(path, settings)
        if len(items) == 1:
            items = [replace(items[0], id=entry.key, source=entry.key)]
        documents.items += items
    if not documents.items:
        raise MatmlError(
            f"{labels}: none of the {len(known.entries)} files of its column `file` is there (the "
            f"first: {labels.parent / known.entries[0].key}); name them as seen from the table, or "
            "give their folder as the support and the table with --labels"
            if known.entries
            else f"{labels}: has no row; add labelled structures"
        )
    return documents


def _label_column(
    documents: Documents, labels: LabelFile | None, known: Collection[str], name: str | None
) -> str:
    """Return the column of the labels.

    Raises
    ------
    MatmlError
        Where the model does not predict it, or no structure has it.
    """
    names = list(documents.label_names)
    if labels is not None:
        names += [n for n in labels.label_names if n not in names]
    if name is None:
        fitting = [n for n in names if n in known]
        if len(fitting) != 1:
            near = [close for n in names for close in get_close_matches(n, known)]
            remedy = "name one with --property"
            if not fitting and names:
                remedy += f", or, to learn {names[0]} from its labels alone, that"
            if near and not fitting:
                remedy += f"; if it is the model's {near[0]}, call the column so"
            raise MatmlError(
                f"{labels.path if labels else 'the tables'}: label columns are "
                f"{', '.join(names) or 'none'}, of which the model predicts "
                f"{' and '.join(fitting) or 'none'} (it predicts "
                f"{', '.join(known)}); {remedy}"
            )
        name = fitting[0]
    if name not in names:
        where = labels.path if labels else "the structures' tables"
        near = get_close_matches(name, [n for n in names if n not in known], n=1)
        hint = f"; is it {near[0]!r}?" if near else ""
        raise MatmlError(
            f"{where}: no column {name!r} of numbers, only {', '.join(names) or 'none'}{hint}; "
            "ask for one that holds labels, or add one"
        )
    return name


def _refuse_contradictions(known: LabelFile, name: str) -> None:
    """Refuse a label file that names one structure twice, with different labels."""
    first: dict[str, tuple[int, float]] = {}
    for entry in known.entries:
        value = entry.labels.get(name)
        if value is None:
            continue
        row, before = first.setdefault(entry.key, (entry.row, value))
        if value != before:
            raise MatmlError(
                f"{known.path}: {known.key} {entry.key!r} stands in rows {row} and {entry.row}, "
                f"with {name} {before:g} and {value:g}; keep the right one"
            )


def _origins(table: pd.DataFrame, labels: LabelFile | None) -> list[str]:
    """Return how messages name each crystal: its id, with the file and row of its label."""
    if labels is None:
        return [
            f"{row['id']} ({row['source']}, row {row['row']})" if row["row"] >= 0 else row["id"]
            for _, row in table.iterrows()
        ]
    rows = {entry.key: entry.row for entry in labels.entries if not entry.reason}
    names = []
    for _, row in table.iterrows():
        keys = (row["id"], row["source"], row["material_id"], Path(row["source"]).name)
        number = next((rows[key] for key in keys if key in rows), None)
        names.append(row["id"] if number is None else f"{row['id']} ({labels.path}, row {number})")
    return names
