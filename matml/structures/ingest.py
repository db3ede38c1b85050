"""`matml structures ingest`: inputs to a table of good crystals and a quarantine of the rest."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.core.parallel import heartbeat, map_ordered
from matml.core.text.words import plural, readable
from matml.structures.crystal import Crystal, crystal_of, crystal_of_cell
from matml.structures.disorder.atoms import sites_of
from matml.structures.duplicates import find_duplicates, note_undecided
from matml.structures.errors import BadCrystal, hinted
from matml.structures.io.documents import Document, Documents, other_content
from matml.structures.io.entries import HINT, declared_symmetry, names_of, other_crystal
from matml.structures.io.json.pages import warn_of_missing_pages
from matml.structures.io.minerals import NAMES, OTHER_NAME, Name, other_than_named
from matml.structures.io.parse import bounded_work, parse
from matml.structures.io.poscar import read_poscar
from matml.structures.io.read import read_inputs
from matml.structures.labels.files import (
    ONE_ROW,
    LabelEntry,
    LabelFile,
    other_values,
    read_label_file,
)
from matml.structures.labels.names import CrystalNames, refuse_lost_labels
from matml.structures.labels.values import odd_scale
from matml.structures.settings import STRUCTURES, TABLE, StructuresSection
from matml.structures.symmetry.cell import widest_gap_A
from matml.structures.symmetry.subgroups import refuse_other_symmetry
from matml.structures.table import (
    QUARANTINE_COLUMNS,
    crystal_row,
    family_table,
    quarantine_row,
)

VACUUM_A = 10.0
"""A wider gap without atoms is a vacuum: of the 6,175 embedded crystals four have one (SnS, NbS2,
LaSe, PbS), all others' are below 8.6."""


def document_crystals(
    document: Document, settings: StructuresSection
) -> list[tuple[str, Crystal | BadCrystal]]:
    """Every crystal of a document with its id, or why it is none."""
    if document.bad is not None:
        return [(document.id, document.bad)]
    try:
        declared = declared_symmetry(document.said)
    except BadCrystal as bad:
        return [(document.id, bad)]
    if document.kind == "poscar":
        # no pymatgen structure on the way, which takes longer than all the rest
        try:
            with bounded_work():
                lattice, coords, numbers, notes = read_poscar(document.text, settings.max_sites)
                crystal = crystal_of_cell(lattice, coords, numbers, settings, notes, declared)
            title = Name(document.text.lstrip().split("\n", 1)[0][:200], True, True, comment=True)
            return [(document.id, _as_said(crystal, document, [title]))]
        except BadCrystal as bad:
            return [(document.id, other_content("poscar", document.text) or bad)]
    results: list[tuple[str, Crystal | BadCrystal]] = []
    for suffix, structure, notes in parse(document.kind, document.text, settings.max_sites):
        try:
            if isinstance(structure, BadCrystal):
                raise structure
            if len(structure) > settings.max_sites:
                raise BadCrystal(
                    f"{len(structure)} sites, more than {settings.max_sites}",
                    "give the primitive cell, or raise structures.max_sites",
                )
            with bounded_work(), hinted(structure.properties.get(HINT, "")):
                crystal = crystal_of(structure, settings, notes, declared)
            named = structure.properties.get(NAMES, [])
            results.append((readable(document.id + suffix), _as_said(crystal, document, named)))
        except BadCrystal as bad:
            results.append((readable(document.id + suffix), bad.noting(notes)))
    return results


def _as_said(crystal: Crystal, document: Document, named: Sequence[Name]) -> Crystal:
    """Return a crystal that is not another than its row and its names say.

    Raises
    ------
    BadCrystal
        Where it certainly is; what is less certain is noted.
    """
    if other := other_crystal(document.said, crystal.formula, crystal.volume_per_atom_A3):
        raise BadCrystal(*other)
    notes = [crystal.notes] if crystal.notes else []
    for name in (*named, *names_of(document.said)):
        if other_name := other_than_named(name, crystal.formula, crystal.space_group_number):
            reason, certain = other_name
            if certain:
                raise BadCrystal(reason, OTHER_NAME)
            notes.append(reason)
    return replace(crystal, notes="; ".join(notes)) if notes else crystal


@dataclass(frozen=True)
class Gathered:
    """What documents hold.

    Attributes
    ----------
    table
        Good crystals with their labels, columns as in `structures.parquet`; `duplicate_of` empty.
    quarantine
        Columns as in `quarantine.csv`.
    label_names, ignored, notes
        Label columns; files and table columns that were left out; how tables were understood.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame
    label_names: list[str]
    ignored: list[str]
    notes: list[str]

    def refuse_nothing(self, place: str | Path) -> None:
        """Refuse where no crystal is good, naming the file of the quarantine."""
        if len(self.table):
            return
        first = self.quarantine.iloc[0]
        raise MatmlError(
            f"{place}: none of the {len(self.quarantine)} crystals can be used; "
            f"the first, {first['id']}: {first['reason']}; remedy: {first['remedy']}"
        )


def gather(
    documents: Documents,
    settings: StructuresSection,
    labels: str | Path | None = None,
    threads: int | None = None,
) -> Gathered:
    """Return the crystals of documents, checked and classified, with their labels."""
    label_file = read_label_file(labels) if labels else None
    warn_of_missing_pages(documents.items)
    work = partial(document_crystals, settings=settings)
    found = map_ordered(work, documents.items, threads, "crystals")

    rows, label_rows, quarantine = [], [], []
    for document, results in zip(documents.items, found, strict=True):
        for identity, result in results:
            place = (identity, document.source, document.row)
            if isinstance(result, BadCrystal):
                quarantine.append(
                    quarantine_row(*place, "crystal", "", result.reason, result.remedy)
                )
                continue
            row = crystal_row(*place, document.material_id, result)
            if document.family:
                row["family"] = document.family
            rows.append(row)
            label_rows.append(dict(document.labels))
            for name, reason, remedy in document.dropped:
                quarantine.append(quarantine_row(*place, "label", name, reason, remedy))
    names, ignored, notes = list(documents.label_names), list[str](), list[str]()
    if label_file is not None:
        ignored, notes = label_file.ignored, label_file.notes
        refused = [entry for entry in quarantine if entry["dropped"] == "crystal"]
        quarantine += attach_labels(label_file, rows, label_rows, refused)
        names += [name for name in label_file.label_names if name not in names]
    table = pd.DataFrame(rows)
    values = pd.DataFrame(label_rows, index=table.index).reindex(columns=names)
    said = [in_vacuum(table), *(odd_scale(name, values[name]) for name in names)]
    return Gathered(
        pd.concat([table, values.astype(np.float64)], axis=1),
        pd.DataFrame(quarantine, columns=QUARANTINE_COLUMNS),
        names,
        [*documents.ignored, *ignored],
        [*documents.notes, *notes, *filter(None, said)],
    )


def in_vacuum(table: pd.DataFrame) -> str:
    """Return a note on crystals with a gap as wide as around a sheet or slab, '' without any."""
    found = {}
    for name, edges, places in zip(
        *(table.get(column, []) for column in ("id", "lattice", "frac_coords")), strict=True
    ):
        gap = widest_gap_A(np.reshape(edges, (3, 3)), np.reshape(places, (-1, 3)))
        if gap > VACUUM_A:
            found[name] = gap
    if not found:
        return ""
    shown = ", ".join(f"{name} ({gap:.1f} A)" for name, gap in list(found.items())[:3])
    return (
        f"{len(found)} {plural('crystal', len(found))} with a gap of more than {VACUUM_A:g} A "
        f"without atoms: {shown}{' …' if len(found) > 3 else ''}: sheets or slabs in a vacuum? "
        "Predictions are of bulk crystals"
    )


def ingest(
    inputs: Sequence[str | Path],
    out: str | Path,
    settings: StructuresSection,
    labels: str | Path | None = None,
    threads: int | None = None,
) -> dict[str, Any]:
    """Read, check and classify all crystals of `inputs`; write the four files of `out`.

    Returns
    -------
    dict
        The content of `summary.json`.

    Raises
    ------
    MatmlError
        Where nothing is found, or no crystal is good (`quarantine.csv` is written then, too).
    """
    begin = time.perf_counter()
    out = Path(out)
    with heartbeat(lambda: "reading the inputs"):
        documents = read_inputs(inputs, settings)
    gathered = gather(documents, settings, labels, threads)
    table, names, quarantine_table = gathered.table, gathered.label_names, gathered.quarantine
    write_table(out / "quarantine.csv", quarantine_table)
    gathered.refuse_nothing(out / "quarantine.csv")
    with heartbeat(lambda: "looking for duplicates"):
        table["duplicate_of"], undecided = find_duplicates(table, threads)
    note_undecided(table, undecided)
    families = family_table(table, names)
    summary = {
        "accepted": len(table),
        "quarantined_crystals": int((quarantine_table["dropped"] == "crystal").sum()),
        "dropped_labels": int((quarantine_table["dropped"] != "crystal").sum()),
        "disordered": int(table["disordered"].sum()),
        "duplicates": int((table["duplicate_of"] != "").sum()),
        "undecided_duplicates": len(undecided),
        "families": len(families),
        "families_of_10_or_more": int((families["n_crystals"] >= 10).sum()),
        "labels": {name: int(table[name].notna().sum()) for name in names},
        "sources": {str(k): int(v) for k, v in table["source"].value_counts(sort=False).items()}
        if table["source"].nunique() <= 20
        else {},
        "ignored": gathered.ignored[:100],
        "notes": gathered.notes,
        "crystals_with_notes": int((table["notes"] != "").sum()),
        "settings": settings.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - begin, 3),
    }
    write_table(out / TABLE, table, STRUCTURES)
    write_table(out / "families.csv", families)
    write_json(out / "summary.json", summary)
    return summary


def attach_labels(
    label_file: LabelFile, rows: list[dict], label_rows: list[dict], refused: list[dict]
) -> list[dict[str, Any]]:
    """Put a user's labels and families on their crystals; return what goes to quarantine.

    Parameters
    ----------
    refused
        Crystals in quarantine: their labels go there, too.

    Raises
    ------
    MatmlError
        Where most rows name no crystal, or a column keeps no value.
    """
    names = CrystalNames((row["id"], row["material_id"], row["source"]) for row in rows)
    unread = CrystalNames((row["id"], "", row["file"]) for row in refused)
    kept = dict.fromkeys(label_file.filled, 0)
    quarantine, unmatched = [], []
    taken: dict[int, LabelEntry] = {}
    for entry in label_file.entries:
        place = (entry.key, label_file.path.name, entry.row)
        if entry.reason:
            quarantine.append(
                quarantine_row(*place, "label row", label_file.key, entry.reason, entry.remedy)
            )
            continue
        targets = names.find(entry.key)
        if len(targets) != 1:
            if not targets and len(lost := unread.find(entry.key)) == 1:
                reason = f"its crystal cannot be used: {refused[lost[0]]['reason']}"
                remedy = refused[lost[0]]["remedy"]
            elif targets:
                reason = f"{label_file.key} {entry.key!r} names {len(targets)} crystals"
                several = ", ".join(repr(rows[i]["id"]) for i in targets[:2])
                remedy = f"give each its own row, named by a column `id`: {several} …"
            else:
                unmatched.append(entry.key)
                reason = f"{label_file.key} {entry.key!r} names no crystal of the inputs"
                remedy = "correct the name, or add the structure to the inputs"
            quarantine.append(quarantine_row(*place, "label row", label_file.key, reason, remedy))
            continue
        try:
            _refuse_other_crystal(entry.said, rows[targets[0]])
        except BadCrystal as bad:
            quarantine.append(quarantine_row(*place, "label row", "", bad.reason, bad.remedy))
            continue
        if entry.file and targets[0] not in (other := names.find(entry.file)):
            means = f"{rows[other[0]]['id']!r}" if other else "no crystal of the inputs"
            reason = f"id {entry.key!r} names another crystal than file {entry.file!r}: {means}"
            quarantine.append(
                quarantine_row(*place, "label row", "file", reason, "correct one of the two")
            )
            continue
        first = taken.setdefault(targets[0], entry)
        if first is not entry:
            reason = (
                f"{label_file.key} {entry.key!r} names the crystal of row {first.row}, "
                f"{first.key!r}, again{other_values(entry.labels, first)}"
            )
            quarantine.append(quarantine_row(*place, "label row", label_file.key, reason, ONE_ROW))
            continue
        label_rows[targets[0]].update(entry.labels)
        for name in entry.labels:
            kept[name] += 1
        if entry.family:
            rows[targets[0]]["family"] = entry.family
        for name, reason, remedy in entry.dropped:
            quarantine.append(quarantine_row(*place, "label", name, reason, remedy))
    refuse_lost_labels(label_file, names, unmatched, kept)
    return quarantine


def _refuse_other_crystal(said: Mapping[str, str], row: Mapping[str, Any]) -> None:
    """Refuse a label whose row tells another formula, density or symmetry than its crystal has."""
    if wrong := other_crystal(said, row["formula"], row["volume_per_atom_A3"]):
        raise BadCrystal(*wrong)
    for name in names_of(said):
        other = other_than_named(name, row["formula"], row["space_group_number"])
        if other and other[1]:
            raise BadCrystal(other[0], OTHER_NAME)
    declared = declared_symmetry(said)
    if all(row["space_group_number"] in may for may in declared.values()):
        return
    sites = next(sites_of(pd.DataFrame([row])))
    lattice = np.reshape(row["lattice"], (3, 3))
    refuse_other_symmetry(lattice, sites.frac_coords, sites.kinds, declared)


def check_labels(inputs: Sequence[str | Path], labels: Path, settings: StructuresSection) -> str:
    """Return how many rows of a label file are for the crystals of some inputs, not parsing these.

    Raises
    ------
    MatmlError
        Where it cannot be read, most of its rows name no crystal, or a column keeps no value.
    """
    label_file = read_label_file(labels)
    items = read_inputs(inputs, settings).items
    names = CrystalNames((item.id, item.material_id, item.source) for item in items)
    kept, unmatched = dict.fromkeys(label_file.filled, 0), []
    for entry in label_file.entries:
        if entry.reason:
            continue
        # `file.cif#2` is the second crystal of a file
        if names.find(entry.key) or names.find(entry.key.split("#")[0]):
            for name in entry.labels:
                kept[name] += 1
        else:
            unmatched.append(entry.key)
    refuse_lost_labels(label_file, names, unmatched, kept)
    rows = sum(not entry.reason for entry in label_file.entries)
    said = [f"{rows - len(unmatched)} of {rows} rows name a crystal of the inputs"]
    if unmatched:
        near = ", ".join(map(repr, names.near(unmatched[0])))
        said.append(f"{unmatched[0]!r} is none; the nearest names are {near}")
    return f"{labels}: {'; '.join([*said, *label_file.notes])}"
