"""Ranking: predictions in order, what is already known marked, and a check against known values."""

from typing import Any, Literal

import numpy as np
import pandas as pd

from matml.structures.duplicates import first_equal

CELL = ("lattice", "frac_coords", "atomic_numbers")
# columns of the shortlist before what the input knows about each candidate
COLUMNS = [
    "rank",
    "id",
    "formula",
    "property",
    "prediction",
    "low",
    "high",
    "unit",
    "distance",
    "in_domain",
    "duplicate_of",
    "known_composition",
    "in_support",
    "known_value",
    "family",
    "common_name",
    "prototype",
    "space_group_number",
    "n_sites",
    "volume_per_atom_A3",
]


def flag_known(candidates: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Mark candidates that are known already.

    Parameters
    ----------
    candidates, known
        Tables with the columns of `structures.parquet`.

    Returns
    -------
    pandas.DataFrame
        `duplicate_of`: id of the first known crystal that pymatgen's `StructureMatcher` finds
        equal after scaling to one volume, '' if none; `known_composition`: whether a known
        crystal has this formula and prototype, equal or not. One row per candidate.
    """
    known = known[known["duplicate_of"] == ""]
    groups = known.groupby(["formula", "prototype"]).indices
    cells, known_cells = (
        list(zip(*(table[name] for name in CELL), strict=True)) for table in (candidates, known)
    )
    ids = known["id"].tolist()
    duplicate_of, known_composition = [], []
    keys = zip(candidates["formula"], candidates["prototype"], strict=True)
    for cell, key in zip(cells, keys, strict=True):
        group = [int(place) for place in groups.get(key, [])]
        match = first_equal([*(known_cells[place] for place in group), cell])[-1]
        duplicate_of.append(ids[group[match]] if match < len(group) else "")
        known_composition.append(len(group) > 0)
    return pd.DataFrame({"duplicate_of": duplicate_of, "known_composition": known_composition})


def known_values(candidates: pd.DataFrame, known: pd.DataFrame, property_name: str) -> np.ndarray:
    """Known label of each candidate, shape [N], NaN where none: the duplicate's, or its copy's.

    Labels of copies (rows whose `duplicate_of` is the same crystal) count, averaged.
    """
    if property_name not in known:
        return np.full(len(candidates), np.nan)
    first = known["duplicate_of"].where(known["duplicate_of"] != "", known["id"])
    labels = known[property_name].groupby(first).mean()
    return candidates["duplicate_of"].map(labels).to_numpy(dtype=float)


def shortlist(
    candidates: pd.DataFrame,
    predictions: pd.DataFrame,
    property_name: str,
    unit: str,
    goal: Literal["minimise", "maximise"],
) -> pd.DataFrame:
    """All candidates, the best prediction first; equal predictions in the order of their ids.

    Parameters
    ----------
    candidates
        One row per candidate; columns beyond `COLUMNS` are kept behind them.
    predictions
        Rows in the same order: `prediction`, `low`, `high`, `distance`, `in_domain`.
    """
    wanted = ["prediction", "low", "high", "distance", "in_domain"]
    table = candidates.drop(columns=wanted, errors="ignore").reset_index(drop=True)
    table = pd.concat([table, predictions[wanted].reset_index(drop=True)], axis=1)
    table["property"], table["unit"] = property_name, unit
    table = table.sort_values(
        ["prediction", "id"], ascending=[goal == "minimise", True], ignore_index=True
    )
    table["rank"] = np.arange(1, len(table) + 1)
    order = [name for name in COLUMNS if name in table]
    return table[order + [name for name in table if name not in order]]


def check_on_known(table: pd.DataFrame, support_mean: float) -> dict[str, Any]:
    """How predictions compare with known labels of candidates that were not in the support.

    Returns
    -------
    dict
        `n`, and where it is not zero: mean absolute error of the predictions and of the
        support's mean, share of known values inside the 90 % interval, Spearman correlation
        (None below three).
    """
    unseen = table[table["known_value"].notna() & ~table["in_support"]]
    if unseen.empty:
        return {"n": 0}
    truth, prediction = unseen["known_value"], unseen["prediction"]
    correlation = None
    if len(unseen) > 2 and truth.std() > 0 and prediction.std() > 0:
        correlation = float(truth.rank().corr(prediction.rank()))
    return {
        "n": len(unseen),
        "mean_absolute_error": float((prediction - truth).abs().mean()),
        "mean_absolute_error_of_support_mean": float((support_mean - truth).abs().mean()),
        "share_inside_90_percent_interval": float(
            truth.between(unseen["low"], unseen["high"]).mean()
        ),
        "spearman_correlation": correlation,
    }
