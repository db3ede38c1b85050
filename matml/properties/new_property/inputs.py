"""Columns of a user's own that are known of every crystal, as inputs of the label process.

Such as a computed value of what was measured. Beside each kernel of crystals stand the same ones
with a term in the columns, of several sizes; labels weigh all of them by their evidence, so that a
column that tells nothing costs next to nothing.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from matml.core.errors import MatmlError
from matml.core.standardise import Standardisation
from matml.core.text.words import plural
from matml.properties.data.targets import spans_decades
from matml.properties.new_property.kernels import FEATURE_SETS, LabelKernel
from matml.properties.new_property.process import AdaptedProcess, Expert, LabelProcess

COLUMNS = len(FEATURE_SETS)
"""Number of the feature set that the columns are, behind those of the crystals."""
TERMS = ((1.0, 0.0), (10.0, 0.0), (100.0, 0.0), (10.0, 10.0), (100.0, 100.0))
"""Variances of the linear and of the Matern-3/2 term in the columns (of length 1), in units of
what a property varies by. Chosen on validation families, where these five did best."""
OF_EMBEDDING = (10.0, 10.0)
"""The same of an embedding beside other columns."""
MANY = 12
"""Columns whose names differ by their number alone: more of them are an embedding."""
FAR = 3.0
"""Deviations of the labelled crystals' values by which one beyond all of them is far from them."""
FEWEST_FOR_COPY, COPY = 5, 1e-6
"""Labels from which on a column may be called a copy of them, and by how much their squared
correlation may miss 1."""
POSITIVE = "must be positive, as it is for all labelled crystals, over more than a power of ten"
NEXT_TO_NONE = 1e-12
"""Variance that stands for none, whose logarithm is finite."""


def with_columns(process: LabelProcess, blocks: int = 1) -> LabelProcess:
    """Return a process whose experts stand with and without columns, at equal odds.

    Parameters
    ----------
    blocks
        Of the columns; where there are two, the second, an embedding, has a say in half of the
        experts with columns.
    """

    def expert(own: Expert, *terms: tuple[float, float]) -> Expert:
        size = [[curved or NEXT_TO_NONE, 1.0, linear] for linear, curved in terms]
        logarithms = own.kernel.logarithms
        added = torch.tensor(size, dtype=torch.float64).log().flatten()
        joined = torch.cat([logarithms[:-1], added, logarithms[-1:]])
        sets = [*own.kernel.sets, *(COLUMNS + block for block in range(len(terms)))]
        return Expert(LabelKernel(sets, joined), own.follows)

    more = [[], *([[OF_EMBEDDING]] if blocks > 1 else [])]
    terms = [(term, *rest) for rest in more for term in TERMS]
    experts = [expert(own, *each) for each in terms for own in process.experts]
    prior = process.log_prior - math.log(2)
    return replace(
        process,
        experts=[*process.experts, *experts],
        log_prior=torch.cat([prior, *[prior - math.log(len(terms))] * len(terms)]),
    )


def weight_of_columns(given: AdaptedProcess) -> float:
    """Return the probability of the experts that use the columns."""
    uses = [max(expert.kernel.sets, default=0) >= COLUMNS for expert in given.process.experts]
    return float(given.weights[torch.tensor(uses)].sum())


@dataclass(frozen=True)
class Columns:
    """How the columns are scaled, by the labelled crystals.

    Attributes
    ----------
    names
        As in a table of crystals.
    logarithmic
        Whether the logarithm is taken: of positive values that span more than a power of ten, but
        of no embedding.
    ends
        Least and largest values, [2, columns]; None in a stack, whose domain does not ask for them.
    """

    names: tuple[str, ...]
    logarithmic: tuple[bool, ...]
    standardisation: Standardisation
    ends: np.ndarray | None = None

    @classmethod
    def of(cls, names: Sequence[str], table: pd.DataFrame) -> "Columns":
        """Return those of labelled crystals.

        Raises
        ------
        MatmlError
            Where a column is not there, is not known of a crystal, or is the same for all, and for
            fewer than two crystals.
        """
        values = _values(names, table)
        if len(values) < 2:
            raise MatmlError(
                f"input {names[0]}: {len(values)} labelled {plural('crystal', len(values))}; what "
                "it is worth is told by at least 2, better 10"
            )
        for name, column in zip(names, values.T, strict=True):
            if np.ptp(column) == 0:
                raise MatmlError(
                    f"input {name}: is {column[0]:g} for all {len(column)} labelled crystals, so "
                    "that it tells nothing of the labels; leave it out"
                )
        # one number of an embedding may be positive by chance
        embedded = are_embedded(names)
        logarithmic = tuple(
            spans_decades(column) and not of_many
            for column, of_many in zip(values.T, embedded.tolist(), strict=True)
        )
        scaled = _logarithms(values, logarithmic, names, table)
        ends = np.array([values.min(0), values.max(0)])
        return cls(tuple(names), logarithmic, Standardisation.of(scaled), ends)

    @property
    def blocks(self) -> list[np.ndarray]:
        """Numbers of the columns that stand alone, and of those of an embedding, if any."""
        embedded = are_embedded(self.names)
        return [each for each in map(np.flatnonzero, (~embedded, embedded)) if len(each)]

    def unfit(self, table: pd.DataFrame) -> dict[int, tuple[str, str]]:
        """Return the rows of a table whose columns cannot be taken: the column and the reason."""
        found: dict[int, tuple[str, str]] = {}
        for name in itertools.compress(self.names, self.logarithmic):
            for row in np.flatnonzero(table[name].to_numpy(float) <= 0).tolist():
                found.setdefault(row, (name, f"{name} = {table[name].iloc[row]:g}: {POSITIVE}"))
        return found

    def beyond(self, table: pd.DataFrame) -> list[str]:
        """Return of each crystal which columns are far from all labelled values, '' for none.

        Of an embedding nothing is said.
        """
        assert self.ends is not None
        low, high = self.standardisation.apply(
            _logarithms(self.ends, self.logarithmic, self.names, table)
        )
        values = self.of_table(table)
        far = (values < low - FAR) | (values > high + FAR)
        said: list[list[str]] = [[] for _ in range(len(table))]
        for row, column in np.argwhere(far & ~are_embedded(self.names)).tolist():
            name, (least, largest) = self.names[column], self.ends[:, column]
            given = table[name].iloc[row]
            said[row].append(
                f"{name} = {given:g}, far from those of the labelled crystals ({least:g} to "
                f"{largest:g})"
            )
        return ["; ".join(each) for each in said]

    def copied(self, table: pd.DataFrame, labels: np.ndarray) -> list[str]:
        """Return the columns that are the labels, or their logarithms, but for a straight line."""
        if len(labels) < FEWEST_FOR_COPY:
            return []
        alike = [labels, *([np.log(labels)] if (labels > 0).all() else [])]
        columns = _values(self.names, table).T
        return [
            name
            for name, own in zip(self.names, columns, strict=True)
            if any(np.corrcoef(own, each)[0, 1] ** 2 > 1 - COPY for each in alike)
        ]

    def of_table(self, table: pd.DataFrame) -> np.ndarray:
        """Return the scaled columns of crystals, [n, columns]; errors as of `of`."""
        values = _values(self.names, table)
        return self.standardisation.apply(_logarithms(values, self.logarithmic, self.names, table))


def are_embedded(names: Sequence[str]) -> np.ndarray:
    """Return which columns are of an embedding: many whose names differ by a number alone."""
    stems = [re.sub(r"\d+$", "", name) for name in names]
    count = Counter(stems)
    return np.array([count[stem] > MANY for stem in stems], bool)


def _values(names: Sequence[str], table: pd.DataFrame) -> np.ndarray:
    """Return columns of a table as numbers, [n, columns]."""
    if absent := [name for name in names if name not in table]:
        raise MatmlError(
            f"input {absent[0]}: the crystals come without it; give it as a column of their table, "
            "or by `inputs`"
        )
    values = table[list(names)].to_numpy(float)
    for row, column in np.argwhere(~np.isfinite(values))[:1]:
        raise MatmlError(
            f"crystal {table['id'].iloc[row]}: has no value of the input {names[column]}; give "
            "one, or leave the crystal out"
        )
    return values


def _logarithms(
    values: np.ndarray, logarithmic: Sequence[bool], names: Sequence[str], table: pd.DataFrame
) -> np.ndarray:
    """Return values with the logarithm of those columns of which it is taken."""
    values = values.copy()
    for column in np.flatnonzero(logarithmic).tolist():
        own = values[:, column]
        if (bad := np.flatnonzero(own <= 0)).size:
            raise MatmlError(
                f"crystal {table['id'].iloc[bad[0]]}: {names[column]} = {own[bad[0]]:g}: "
                f"{POSITIVE}; correct it, or leave the crystal out"
            )
        values[:, column] = np.log10(own)
    return values
