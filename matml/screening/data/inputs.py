"""Candidates and support as tables, made by the same code as `matml structures`, and columns."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.screening.data.reader import Chunk
from matml.screening.data.support import InTable, Support
from matml.structures.crystal import Crystal
from matml.structures.errors import BadCrystal
from matml.structures.given import column_names
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document
from matml.structures.io.entries import other_formula
from matml.structures.io.read import read_named
from matml.structures.settings import StructuresSection
from matml.structures.table import crystal_row, quarantine_row


def support_table(
    support: Support,
    known: pd.DataFrame,
    settings: StructuresSection,
    inputs: Sequence[str] = (),
) -> pd.DataFrame:
    """The crystals of a support set, in its order, columns as in `structures.parquet`.

    Parameters
    ----------
    inputs
        Columns of which each is to have a value: that of its row, or of the known crystal.

    Raises
    ------
    MatmlError
        Where a file of the support holds no usable crystal, or more than one, or another formula
        than its row says; where a crystal has no value of an input.
    """
    by_id = known.set_index("id", drop=False)
    rows = []
    given = zip(support.ids, support.files, support.formulas, support.columns, strict=True)
    for name, file, formula, columns in given:
        row = by_id.loc[name].to_dict() if file is None else _read_one(file, settings)
        if wrong := other_formula({"formula": formula}, row["formula"]):
            raise MatmlError(f"support crystal {name or file}: {'; '.join(wrong)}")
        row |= columns
        for column in inputs:
            if not np.isfinite(row.get(column, np.nan)):
                raise MatmlError(
                    f"support crystal {name or file}: has no value of the input {column}; give one "
                    f"in a column {column} of its row, or leave the crystal out"
                )
        rows.append(row)
    return pd.DataFrame(rows)


def _read_one(file: Path | InTable, settings: StructuresSection) -> dict:
    if isinstance(file, InTable):
        documents = [Document(str(file), "", -1, file.kind, file.text)]
    else:
        documents = read_named(file, settings)
    results = [result for document in documents for result in document_crystals(document, settings)]
    if len(results) != 1:
        raise MatmlError(f"{file}: holds {len(results)} crystals; one support row names one")
    _, crystal = results[0]
    if not isinstance(crystal, Crystal):
        raise MatmlError(f"{file}: {crystal.reason}; {crystal.remedy}")
    source = file.name if isinstance(file, Path) else str(file)
    return crystal_row(str(file), source, -1, "", crystal)


def read_chunk(
    chunk: Chunk, settings: StructuresSection, columns: Sequence[str] = ()
) -> tuple[pd.DataFrame, pd.DataFrame, list[dict]]:
    """The good crystals of a chunk, what their table says beyond, and rows of the quarantine.

    Parameters
    ----------
    columns
        That the crystals have beside the usual ones; NaN where a value is not given.
    """
    if chunk.crystals is not None:
        given = chunk.crystals.reset_index(drop=True)
        own = given[given["duplicate_of"] == ""].reset_index(drop=True)
        return own.reindex(columns=list(dict.fromkeys([*own, *columns]))), own[[]], []
    rows, places, quarantine = [], [], []
    for place, document in enumerate(chunk.documents):
        where = document.source, document.row
        for identity, result in document_crystals(document, settings):
            if isinstance(result, BadCrystal):
                quarantine.append(
                    quarantine_row(identity, *where, "crystal", "", result.reason, result.remedy)
                )
                continue
            if bad := [said for said in document.dropped if said[0] in columns]:
                quarantine.append(quarantine_row(identity, *where, "crystal", *bad[0]))
                continue
            own = {name: document.labels.get(name, np.nan) for name in columns}
            rows.append(crystal_row(identity, *where, document.material_id, result) | own)
            places.append(place)
    table = pd.DataFrame(rows)
    return table, chunk.extra.iloc[places].reset_index(drop=True), quarantine


def check_inputs(inputs: Sequence[str], names: Sequence[str], known: Collection[str]) -> None:
    """Refuse columns that no property takes, that are predicted, or that every crystal's row has.

    Parameters
    ----------
    names, known
        Properties that are asked for, and those that the model knows, which take none.
    """
    if inputs and all(name in known for name in names):
        raise MatmlError(
            f"input {inputs[0]}: serves properties that the model does not know, and it knows "
            f"{', '.join(names)}; leave it out, or give the labels another name"
        )
    if both := [name for name in column_names(inputs) if name in names]:
        raise MatmlError(
            f"input {both[0]}: is asked for as a property, too; leave out one of the two, or give "
            "what is known of every crystal another name"
        )


def without_values(
    table: pd.DataFrame, inputs: Sequence[str], unfit: dict[int, tuple[str, str]]
) -> tuple[np.ndarray, list[dict]]:
    """Which candidates lack a value of an input, [n], and their rows of the quarantine.

    Parameters
    ----------
    unfit
        Rows whose values cannot be taken, with the column and the reason.
    """
    found = dict(unfit)
    for name in inputs:
        for row in np.flatnonzero(table[name].isna()).tolist():
            found[row] = name, f"has no value of the input {name}"
    remedy = "give candidates as a table with that column, or ignore this: the crystal is left out"
    quarantine = []
    for row, why in sorted(found.items()):
        own = table.loc[row]
        place = own["id"], own["source"], own["row"], "crystal"
        quarantine.append(quarantine_row(*place, *why, remedy))
    return np.isin(np.arange(len(table)), list(found)), quarantine
