"""Tables and support as crystal sets, made by the same code as `matml structures`."""

from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.screening.data.support import Support
from matml.structures.crystal import Crystal
from matml.structures.ingest import document_crystals
from matml.structures.io.entries import other_formula
from matml.structures.io.read import read_named
from matml.structures.settings import StructuresSection
from matml.structures.table import crystal_row


def support_table(
    support: Support, known: pd.DataFrame, settings: StructuresSection
) -> pd.DataFrame:
    """The crystals of a support set, in its order, columns as in `structures.parquet`.

    Raises
    ------
    MatmlError
        Where a file of the support holds no usable crystal, or more than one, or another formula
        than its row says.
    """
    by_id = known.set_index("id", drop=False)
    rows = []
    for name, file, formula in zip(support.ids, support.files, support.formulas, strict=True):
        row = by_id.loc[name].to_dict() if file is None else _read_one(file, settings)
        if wrong := other_formula({"formula": formula}, row["formula"]):
            raise MatmlError(f"support crystal {name or file}: {'; '.join(wrong)}")
        rows.append(row)
    return pd.DataFrame(rows)


def _read_one(file: Path, settings: StructuresSection) -> dict:
    documents = read_named(file, settings)
    results = [result for document in documents for result in document_crystals(document, settings)]
    if len(results) != 1:
        raise MatmlError(f"{file}: holds {len(results)} crystals; one support row names one")
    _, crystal = results[0]
    if not isinstance(crystal, Crystal):
        raise MatmlError(f"{file}: {crystal.reason}; {crystal.remedy}")
    return crystal_row(str(file), file.name, -1, "", crystal)
