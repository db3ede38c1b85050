"""What is known already of candidates: copies, labels, and how far the labels reach."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Element

from matml.structures.duplicates import first_equal

CELL = ("lattice", "frac_coords", "atomic_numbers")


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
        known_composition.append(len(group) > 0)
        if not group:
            duplicate_of.append("")
            continue
        match = first_equal([*(known_cells[place] for place in group), cell])[-1]
        duplicate_of.append(ids[group[match]] if match < len(group) else "")
    return pd.DataFrame({"duplicate_of": duplicate_of, "known_composition": known_composition})


@dataclass(frozen=True)
class Domain:
    """Where labels of one property reach: elements and values.

    A distance between crystals does not tell that an element was never met with this property
    (no lanthanide stands in the dielectric table, say), and a model with a linear part then
    extrapolates without end. So a candidate is in the domain only where the model says so, each
    of its elements occurs in at least `fewest_examples` labelled crystals, and the prediction
    lies within the range of the labels.

    Attributes
    ----------
    rare
        Symbols of the elements that too few labelled crystals hold, by atomic number.
    low, high
        Range of the labels.
    """

    rare: dict[int, str]
    low: float
    high: float

    @classmethod
    def of(cls, labelled: pd.DataFrame, property_name: str, fewest_examples: int) -> "Domain":
        """The domain of labelled crystals: `atomic_numbers` and the property."""
        examples = Counter(z for row in labelled["atomic_numbers"] for z in set(map(int, row)))
        rare = {e.Z: e.symbol for e in Element if examples[e.Z] < fewest_examples}
        values = labelled[property_name]
        return cls(rare, float(values.min()), float(values.max()))

    def judge(self, predictions: pd.DataFrame, atomic_numbers: Sequence) -> pd.DataFrame:
        """Predictions with a stricter `in_domain`, and the reasons beside it.

        Returns
        -------
        pandas.DataFrame
            `predictions` with new `in_domain`, and `rare_elements` (symbols, '' if none) and
            `beyond_labels`.
        """
        rare = [
            " ".join(self.rare[z] for z in sorted(set(map(int, row))) if z in self.rare)
            for row in atomic_numbers
        ]
        beyond = ~predictions["prediction"].between(self.low, self.high)
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


def check_on_known(table: pd.DataFrame, support_mean: float) -> dict[str, Any]:
    """How predictions compare with known labels of candidates that were not in the support.

    Only families that training held out tell of new crystals; where there are none, the others are
    compared, and `held_out` is false.

    Returns
    -------
    dict
        `n`, and where it is not zero: `held_out`, `n_perhaps_learned` (known crystals of the other
        families, which are not counted beside held-out ones), mean absolute error of the
        predictions and of the support's mean, share of known values inside the 90 % interval,
        Spearman correlation (None below three).
    """
    given = table[table["known_value"].notna() & ~table["in_support"]]
    if given.empty:
        return {"n": 0}
    held_out = given["held_out"].to_numpy(bool)
    unseen = given[held_out] if held_out.any() else given
    truth, prediction = unseen["known_value"], unseen["prediction"]
    correlation = None
    if len(unseen) > 2 and truth.std() > 0 and prediction.std() > 0:
        correlation = float(truth.rank().corr(prediction.rank()))
    return {
        "n": len(unseen),
        "held_out": bool(held_out.any()),
        "n_perhaps_learned": int((~held_out).sum()),
        "mean_absolute_error": float((prediction - truth).abs().mean()),
        "mean_absolute_error_of_support_mean": float((support_mean - truth).abs().mean()),
        "share_inside_90_percent_interval": float(
            truth.between(unseen["low"], unseen["high"]).mean()
        ),
        "spearman_correlation": correlation,
    }
