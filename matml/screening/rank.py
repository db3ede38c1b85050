"""Ranking: predictions in order, what is already known marked, and a check against known values."""

from collections import Counter
from typing import Any, Literal

import numpy as np
import pandas as pd
from pymatgen.core import Element

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
    "rare_elements",
    "beyond_labels",
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


def judge_domain(
    predictions: pd.DataFrame,
    candidates: pd.DataFrame,
    labelled: pd.DataFrame,
    property_name: str,
    fewest_examples: int,
) -> pd.DataFrame:
    """Predictions with a stricter `in_domain`, and the reasons beside it.

    A distance between crystals does not tell that an element was never met with this property
    (no lanthanide stands in the dielectric table, say), and a model with a linear part then
    extrapolates without end. So a candidate is in the domain only where the model says so, each
    of its elements occurs in at least `fewest_examples` labelled crystals, and the prediction
    lies within the range of the labels.

    Parameters
    ----------
    predictions
        With `prediction` and `in_domain`, one row per candidate.
    labelled
        Crystals with labels that the model may have seen: `atomic_numbers` and the property.

    Returns
    -------
    pandas.DataFrame
        `predictions` with new `in_domain`, and `rare_elements` (symbols, '' if none) and
        `beyond_labels`.
    """
    examples = Counter(z for numbers in labelled["atomic_numbers"] for z in set(map(int, numbers)))
    rare = [
        " ".join(
            Element.from_Z(z).symbol
            for z in sorted(set(map(int, numbers)))
            if examples[z] < fewest_examples
        )
        for numbers in candidates["atomic_numbers"]
    ]
    low, high = labelled[property_name].min(), labelled[property_name].max()
    beyond = ~predictions["prediction"].between(low, high)
    judged = predictions.assign(rare_elements=rare, beyond_labels=beyond)
    judged["in_domain"] &= (judged["rare_elements"] == "") & ~beyond
    return judged


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
    """All candidates: those in the domain first, in each part the best prediction first.

    A prediction that deserves no trust must not head the list. Equal predictions stand in the
    order of their ids; numbers are rounded to six digits.

    Parameters
    ----------
    candidates
        One row per candidate; columns beyond `COLUMNS` are kept behind them.
    predictions
        Rows in the same order: `prediction`, `low`, `high`, `distance`, `in_domain`, and what
        `judge_domain` adds.
    """
    wanted = list(predictions.columns)
    table = candidates.drop(columns=wanted, errors="ignore").reset_index(drop=True)
    table = pd.concat([table, predictions[wanted].reset_index(drop=True)], axis=1)
    table["property"], table["unit"] = property_name, unit
    numbers = table.select_dtypes("floating").columns
    table[numbers] = table[numbers].map(lambda value: float(f"{value:.6g}"))
    table = table.sort_values(
        ["in_domain", "prediction", "id"],
        ascending=[False, goal == "minimise", True],
        ignore_index=True,
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
