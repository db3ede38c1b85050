"""Candidates and support as crystal sets, made by the same code as `matml structures`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from matml.config import StructuresSection
from matml.errors import MatmlError
from matml.files import read_table
from matml.screening.support import Support
from matml.structures.crystal import Crystal, document_crystals
from matml.structures.ingest import crystal_row, ingest
from matml.structures.read import is_table, read_inputs

CANDIDATE_TABLE = "candidates.parquet"
INGESTED_TABLE = "structures.parquet"


def read_candidates(
    inputs: Sequence[Path], out: Path, settings: StructuresSection, threads: int | None
) -> pd.DataFrame:
    """Ingest candidates into `out`; return their table, columns as in `structures.parquet`.

    Parameters
    ----------
    inputs
        What `matml structures ingest` reads; a folder written by `matml candidates` stands for
        its table, one written by `matml structures ingest` is taken as it is.

    Raises
    ------
    MatmlError
        Where an input cannot be read or not one candidate can be used; what fails singly is in
        `out/quarantine.csv`.
    """
    tables, raw = [], []
    for path in inputs:
        if (path / INGESTED_TABLE).is_file():
            tables.append(read_table(path / INGESTED_TABLE))
        elif path.name == INGESTED_TABLE:
            tables.append(read_table(path))
        elif (path / CANDIDATE_TABLE).is_file():
            raw.append(path / CANDIDATE_TABLE)
        else:
            raw.append(path)
    if raw:
        ingest(raw, out, settings, threads=threads)
        tables.append(with_texts(read_table(out / INGESTED_TABLE), raw))
    table = pd.concat(tables, ignore_index=True)
    if not table["id"].is_unique:
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise MatmlError(f"--candidates: the id {twice!r} stands in two inputs; rename one file")
    return table


def with_texts(table: pd.DataFrame, inputs: Sequence[Path]) -> pd.DataFrame:
    """Add the text columns of Parquet candidate tables, which ingest passes over.

    Numbers come through ingest as labels; texts such as `oxidation_states` do not.
    """
    parts = []
    for path in inputs:
        if is_table(path.name) and path.suffix == ".parquet":
            given = read_table(path)
            texts = given.select_dtypes(exclude="number").drop(columns="poscar")
            texts = texts[[name for name in texts if name not in table]]
            parts.append(texts.assign(source=path.name, row=range(len(given))))
    if not parts:
        return table
    extra = pd.concat(parts, ignore_index=True).drop_duplicates(["source", "row"])
    return table.merge(extra, on=["source", "row"], how="left", validate="many_to_one")


def support_table(
    support: Support, known: pd.DataFrame, settings: StructuresSection
) -> pd.DataFrame:
    """The crystals of a support set, in its order, columns as in `structures.parquet`.

    Raises
    ------
    MatmlError
        Where a file of the support holds no usable crystal, or more than one.
    """
    by_id = known.set_index("id", drop=False)
    rows = []
    for name, file in zip(support.ids, support.files, strict=True):
        if file is None:
            rows.append(by_id.loc[name].to_dict())
        else:
            rows.append(_read_one(file, settings))
    return pd.DataFrame(rows)


def _read_one(file: Path, settings: StructuresSection) -> dict:
    documents = read_inputs([file], settings).items
    results = [result for document in documents for result in document_crystals(document, settings)]
    if len(results) != 1:
        raise MatmlError(f"{file}: holds {len(results)} crystals; one support row names one")
    _, crystal = results[0]
    if not isinstance(crystal, Crystal):
        raise MatmlError(f"{file}: {crystal.reason}; {crystal.remedy}")
    return crystal_row(str(file), file.name, -1, "", crystal)
