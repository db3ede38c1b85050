"""Crystals to describe, from files."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.structures.ingest import gather
from matml.structures.io.read import read_inputs
from matml.structures.settings import STRUCTURES, TABLE, StructuresSection


def read_crystals(
    inputs: Sequence[Path], labelled: str | None = None, threads: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return crystals, columns as in `structures.parquet`, and what could not be read.

    Parameters
    ----------
    inputs
        What `matml structures ingest` reads, and folders that it wrote.
    labelled
        Column that a crystal must have a value in; all crystals by default.

    Raises
    ------
    MatmlError
        Where nothing can be read, or no crystal is labelled so.
    """
    ingested = [path for path in inputs if (path / TABLE).is_file()]
    tables = [read_table(path / TABLE, STRUCTURES) for path in ingested]
    quarantine = pd.DataFrame()
    if others := [path for path in inputs if path not in ingested]:
        settings = StructuresSection()
        gathered = gather(read_inputs(others, settings), settings, None, threads)
        gathered.refuse_nothing(", ".join(map(str, others)))
        tables.append(gathered.table)
        quarantine = gathered.quarantine
        quarantine = quarantine[quarantine["dropped"] == "crystal"]
    table = pd.concat(tables, ignore_index=True)
    if labelled is not None:
        if labelled not in table or not table[labelled].notna().any():
            shown = ", ".join(map(str, inputs))
            raise MatmlError(
                f"{shown}: no crystal has a value of {labelled!r}; leave --labelled out"
            )
        table = table[table[labelled].notna()].reset_index(drop=True)
    if twice := table["id"][table["id"].duplicated()].tolist():
        raise MatmlError(
            f"crystal {twice[0]}: stands in several of the inputs; describe them into several files"
        )
    return table, quarantine
