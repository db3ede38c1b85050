"""What is known already of candidates: copies, labels, and how far the labels reach."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from pymatgen.core import Element


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
        None where labels are so few that an element is rare only if none of them holds it, which
        the model says.
    low, high
        Range of the labels.
    """

    rare: dict[int, str] | None
    low: float
    high: float

    @classmethod
    def of(cls, labelled: pd.DataFrame, property_name: str, fewest_examples: int) -> "Domain":
        """The domain of labelled crystals: `atomic_numbers` and the property."""
        examples = Counter(z for row in labelled["atomic_numbers"] for z in set(map(int, row)))
        rare = {e.Z: e.symbol for e in Element if examples[e.Z] < fewest_examples}
        values = labelled[property_name]
        return cls(rare, float(values.min()), float(values.max()))

    @classmethod
    def unbounded(cls) -> "Domain":
        """The domain where labels are too few to tell a range: of a user's own property."""
        return cls(None, -math.inf, math.inf)

    def judge(self, predictions: pd.DataFrame, atomic_numbers: Sequence) -> pd.DataFrame:
        """Predictions with a stricter `in_domain`, and the reasons beside it.

        Returns
        -------
        pandas.DataFrame
            `predictions` with new `in_domain` and `outside` (why not, in words), and
            `rare_elements` (symbols, '' if none) and `beyond_labels`.
        """
        known = self.rare
        if known is None:
            rare = predictions["unseen_elements"].tolist()
        else:
            rare = [
                " ".join(known[z] for z in sorted(set(map(int, row))) if z in known)
                for row in atomic_numbers
            ]
        beyond = ~predictions["prediction"].between(self.low, self.high)
        told = []
        model = predictions.get("outside", [""] * len(rare))
        for said, few, far in zip(model, rare, beyond, strict=True):
            hardly = f"hardly any labelled crystal holds {few}" if few and known is not None else ""
            reasons = (
                said,
                hardly,
                "predicted beyond the known values of all families" if far else "",
            )
            told.append("; ".join(filter(None, reasons)))
        judged = predictions.assign(rare_elements=rare, beyond_labels=beyond, outside=told)
        judged["in_domain"] &= (judged["rare_elements"] == "") & ~beyond
        return judged
