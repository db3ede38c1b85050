"""Episodes with a skewed support and a balanced query: one anion to learn from, all to predict.

The anion class of a crystal is the set of elements that are anions in it (`O`, `F`, `O+S`, …;
`none` in an intermetallic). A biased support holds crystals of one class; the query holds all
classes of the family, each with the same weight.

Metals against insulators would be the other natural imbalance. The embedded labels do not allow it:
every band gap among them is that of an insulator (0.11 eV at least), and the other tables carry
none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch

from matml.meta import Task
from matml.properties.data.split import labelled_members
from matml.structures.families import anions_of

NO_ANION = "none"


def anion_classes(table: pd.DataFrame) -> np.ndarray:
    """Return the anion class of each row of `structures.parquet`, [crystals]."""
    classes = []
    for lattice, coordinates, numbers in zip(
        table["lattice"], table["frac_coords"], table["atomic_numbers"], strict=True
    ):
        found = anions_of(
            np.reshape(np.asarray(lattice), (3, 3)),
            np.reshape(np.asarray(coordinates), (-1, 3)),
            np.asarray(numbers),
        )
        classes.append("+".join(sorted(found)) or NO_ANION)
    return np.array(classes, dtype=object)


@dataclass(frozen=True)
class Pair:
    """The labelled crystals of one family and property, by anion class.

    Attributes
    ----------
    column
        Number of the property among the network's outputs.
    classes
        Class to row numbers; every class may be in the query.
    """

    family: str
    name: str
    column: int
    classes: dict[str, np.ndarray]

    def supports(self, shots: int) -> list[str]:
        """Return the classes that can give a support of `shots` and still be in the query."""
        return [label for label, rows in self.classes.items() if len(rows) > shots]


def collect_pairs(
    table: pd.DataFrame,
    classes: np.ndarray,
    families: Sequence[str],
    properties: Sequence[str],
    *,
    fewest: int,
    smallest_class: int,
    without: Sequence[str] = (),
) -> list[Pair]:
    """Return the pairs of family and property on which biased episodes can be drawn.

    Parameters
    ----------
    table, classes
        Crystals and their anion classes.
    fewest
        Smallest support: one class must have more crystals.
    smallest_class
        Classes of fewer crystals are left out: one crystal would speak for a whole chemistry.
    without
        Ids of crystals that are left out.
    """
    allowed = ~table["id"].isin(list(without)).to_numpy()
    pairs = []
    for column, name in enumerate(properties):
        labelled = labelled_members(table, name).to_numpy() & allowed
        for family in families:
            rows = np.flatnonzero(labelled & (table["family"] == family).to_numpy())
            by_class = {label: rows[classes[rows] == label] for label in sorted(set(classes[rows]))}
            by_class = {k: own for k, own in by_class.items() if len(own) >= smallest_class}
            pair = Pair(family, name, column, by_class)
            if len(by_class) > 1 and pair.supports(fewest):
                pairs.append(pair)
    return pairs


@dataclass(frozen=True)
class ClassedTasks:
    """Few-shot tasks for drawing at random, ordinary or biased; all else is the same.

    Attributes
    ----------
    pairs
        Families and properties to draw from.
    data
        From row numbers and a property's number to what the learner's loss takes.
    shots
        Support sizes to choose from; a small class gives as many as leave one for the query.
    biased
        Support of one class and a query in which all classes are equally frequent (crystals of
        small classes repeat); otherwise support and query are random members of the family.
    """

    pairs: list[Pair]
    data: Callable[[np.ndarray, int], Any]
    shots: tuple[int, ...]
    biased: bool
    queries: int = 20

    def draw_rows(self, pair: Pair, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return row numbers of a support and a query of one pair."""
        possible = pair.supports(min(self.shots))
        label = possible[_pick(len(possible), generator)]
        shots = self.shots[_pick(len(self.shots), generator)]
        shots = min(shots, len(pair.classes[label]) - 1)
        if not self.biased:
            rows = _shuffled(np.concatenate(list(pair.classes.values())), generator)
            return rows[:shots], rows[shots : shots + self.queries]
        left = {name: _shuffled(rows, generator) for name, rows in pair.classes.items()}
        support, left[label] = left[label][:shots], left[label][shots:]
        order = [list(left)[i] for i in torch.randperm(len(left), generator=generator).tolist()]
        query = [
            left[order[i % len(order)]][(i // len(order)) % len(left[order[i % len(order)]])]
            for i in range(self.queries)
        ]
        return support, np.array(query)

    def draw(self, generator: torch.Generator) -> Task:
        """Draw one task."""
        pair = self.pairs[_pick(len(self.pairs), generator)]
        support, query = self.draw_rows(pair, generator)
        return Task(
            f"{pair.family} / {pair.name}",
            self.data(support, pair.column),
            self.data(query, pair.column),
            group=pair.family,
        )


def draw_biased_episodes(
    pairs: Sequence[Pair], *, shots: Sequence[int], draws: int, seed: int
) -> pd.DataFrame:
    """Return the episodes on which all methods are compared.

    In each draw each class is shuffled once; the K-shot supports are the first K of one class,
    and the query is what lies behind the largest of them and all crystals of the other classes.

    Returns
    -------
    DataFrame
        property, family, column, anion (class of the support), draw, shots, support, query.
    """
    records = []
    for pair in pairs:
        for label in pair.supports(min(shots)):
            feasible = [k for k in shots if len(pair.classes[label]) > k]
            for draw in range(draws):
                key = [seed, draw, crc32(f"{pair.name}/{pair.family}/{label}".encode())]
                order = np.random.default_rng(key).permutation(pair.classes[label])
                others = [rows for name, rows in pair.classes.items() if name != label]
                query = np.concatenate([order[max(feasible) :], *others])
                records += [
                    {
                        "property": pair.name,
                        "family": pair.family,
                        "column": pair.column,
                        "anion": label,
                        "draw": draw,
                        "shots": k,
                        "support": order[:k],
                        "query": query,
                    }
                    for k in feasible
                ]
    columns = ["property", "family", "column", "anion", "draw", "shots", "support", "query"]
    return pd.DataFrame(records, columns=columns)


def balanced_error(prediction: np.ndarray, truth: np.ndarray, classes: np.ndarray) -> float:
    """Return the mean absolute error of a query, each of its classes with the same weight."""
    error = np.abs(np.asarray(prediction) - truth)
    return float(np.mean([error[classes == label].mean() for label in set(classes)]))


def _pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _shuffled(rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    return rows[torch.randperm(len(rows), generator=generator).numpy()]
