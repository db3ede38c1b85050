"""Rows of the tables: `structures.parquet`, `quarantine.csv` and `families.csv`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from matml.structures.crystal import Crystal

QUARANTINE_COLUMNS = ["id", "file", "row", "dropped", "field", "reason", "remedy"]


def quarantine_row(
    identity: str, source: str, row: int, dropped: str, name: str, reason: str, remedy: str
) -> dict[str, Any]:
    """One row of `quarantine.csv`; `dropped` is `crystal`, `label` or `label row`."""
    values = (identity, source, row, dropped, name, reason, remedy)
    return dict(zip(QUARANTINE_COLUMNS, values, strict=True))


def crystal_row(
    identity: str, source: str, row: int, material_id: str, crystal: Crystal
) -> dict[str, Any]:
    """One row of `structures.parquet` without labels."""
    return {
        "id": identity,
        "source": source,
        "row": row,
        "material_id": material_id,
        "formula": crystal.formula,
        "anonymous_formula": crystal.anonymous_formula,
        "n_sites": crystal.n_sites,
        "volume_per_atom_A3": crystal.volume_per_atom_A3,
        "space_group_number": crystal.space_group_number,
        "prototype": crystal.prototype,
        "family": crystal.family,
        "common_name": crystal.common_name,
        "disordered": crystal.disordered,
        "duplicate_of": "",
        "notes": crystal.notes,
        "lattice": crystal.lattice.ravel(),
        "frac_coords": crystal.frac_coords.ravel(),
        "atomic_numbers": crystal.atomic_numbers.astype(np.int16),
        "orbit": crystal.orbit.astype(np.int32),
        "occupancy": crystal.occupancy,
    }


def family_table(table: pd.DataFrame, label_names: Sequence[str]) -> pd.DataFrame:
    """Families by falling size: name, most frequent prototype, crystals, and labels of each."""
    groups = table.groupby("family", sort=True)

    def most_frequent(values: pd.Series) -> str:
        return values.value_counts().index[0]

    families = groups.agg(
        common_name=("common_name", most_frequent),
        prototype=("prototype", most_frequent),
        n_crystals=("id", "size"),
    )
    for name in label_names:
        families[f"n_{name}"] = groups[name].count()
    families = families.reset_index()
    return families.sort_values(
        ["n_crystals", "family"], ascending=[False, True], ignore_index=True
    )
