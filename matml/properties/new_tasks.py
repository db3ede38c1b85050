"""Few-shot tasks in which a property that networks know acts as a new one.

A new property has neither a scale nor a mean of its own: labels are in deviations from the mean of
the support, in units of the support's deviation, and the network has one output.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch_geometric.data import Data

from matml.meta import Task
from matml.properties.batches import GraphBatches
from matml.properties.split import labelled_members
from matml.properties.workbench import Workbench

LEAST_DEVIATION = 1e-3
"""Of labels, in units of what their property varies by; below it a task has nothing to tell."""
LEAST_SHARE = 0.3
"""Of the deviation of a task's labels that those of the support have, in meta-training."""

Rows = tuple[str, int, np.ndarray, np.ndarray]
"""Family of the query, property number, row numbers of support and query."""


def standard_labels(labels: np.ndarray, shots: int) -> tuple[np.ndarray, float, float]:
    """Return labels by the mean and deviation of the first `shots`, and these two."""
    mean, deviation = labels[:shots].mean(), labels[:shots].std()
    return (labels - mean) / (deviation or 1.0), float(mean), float(deviation)


def new_property_batch(batches: GraphBatches, rows: np.ndarray, labels: np.ndarray) -> Data:
    """Return the batch of some crystals for a network of one output, with its labels [rows]."""
    data = batches.batch(rows)
    data.column = 0
    data.label = torch.from_numpy(labels.astype(batches.dtype)).to(batches.device)
    data.target = data.label[:, None]
    return data


@dataclass(frozen=True)
class KnownTasks:
    """Tasks of known properties, for drawing at random; each property counts the same.

    Attributes
    ----------
    batches
        All crystals, without targets.
    targets
        Standardised labels of the known properties, [crystals, properties].
    labelled
        Row numbers of labelled crystals by family, for each property.
    queried
        Families that are enough for a query, for each property.
    shots
        Support sizes to choose from, at least 2.
    most_queries
        Query crystals at most.
    """

    batches: GraphBatches
    targets: np.ndarray
    labelled: list[dict[str, np.ndarray]]
    queried: list[list[str]]
    shots: tuple[int, ...]
    most_queries: int = 12

    @classmethod
    def of(
        cls,
        bench: Workbench,
        families: Sequence[str],
        shots: Sequence[int],
        smallest_task: int,
        device: str,
    ) -> "KnownTasks":
        """Collect the labelled crystals of some families."""
        labelled, queried = [], []
        for column, name in enumerate(bench.names):
            known = np.flatnonzero(
                labelled_members(bench.crystals.table, name)
                & np.isin(bench.families, families)
                & ~np.isnan(bench.targets[:, column])
            )
            own = by_family(bench.families, known)
            enough = [
                family
                for family, rows in own.items()
                if len(rows) >= smallest_task
                and bench.targets[rows, column].std() > LEAST_DEVIATION
                # supports may be of other families
                and len(known) - len(rows) >= max(2, min(shots))
            ]
            labelled.append(own)
            queried.append(enough)
        batches = GraphBatches(bench.crystals, device=device)
        return cls(batches, bench.targets, labelled, queried, tuple(k for k in shots if k > 1))

    def __bool__(self) -> bool:
        """Return whether there is any task."""
        return any(self.queried)

    def rows(
        self, generator: torch.Generator, shots: int | None = None, pooled: bool = False
    ) -> Rows:
        """Draw a property, a family, and crystals; at least half of a family is left to query.

        Parameters
        ----------
        shots
            Labels of the support; drawn as well by default. Fewer where there are not so many.
        pooled
            Whether the support is random crystals of other families, and not of the query's own.
        """

        def pick(things: Sequence) -> int:
            return int(torch.randint(len(things), (1,), generator=generator))

        columns = [column for column, names in enumerate(self.queried) if names]
        while True:
            column = columns[pick(columns)]
            family = self.queried[column][pick(self.queried[column])]
            k = shots or self.shots[pick(self.shots)]
            own = self.labelled[column]
            query = own[family][torch.randperm(len(own[family]), generator=generator).numpy()]
            if pooled:
                others = np.concatenate([rows for name, rows in own.items() if name != family])
                order = torch.randperm(len(others), generator=generator).numpy()
                support = others[order[:k]]
            else:
                k = min(k, len(query) // 2)
                support, query = query[:k], query[k:]
            # labels that are all the same leave no scale
            if self.targets[support, column].std() > LEAST_DEVIATION:
                return family, column, support, query[: self.most_queries]

    def draw(self, generator: torch.Generator) -> Task:
        """Draw a task for meta-training, within a family or pooled; its group is the query's.

        Labels of a support that happen to lie together make the query's huge: left out, since a
        few such tasks would outweigh all others.
        """
        while True:
            pooled = bool(torch.randint(2, (1,), generator=generator))
            family, column, support, query = self.rows(generator, pooled=pooled)
            k, labels = len(support), self.targets[np.r_[support, query], column]
            if labels[:k].std() > LEAST_SHARE * labels.std():
                break
        labels, _, _ = standard_labels(labels, k)
        return Task(
            f"{family} / {column}",
            new_property_batch(self.batches, support, labels[:k]),
            new_property_batch(self.batches, query, labels[k:]),
            group=family,
        )


def by_family(families: np.ndarray, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the rows of each family, in the order of the families' names."""
    return {str(name): rows[families[rows] == name] for name in np.unique(families[rows])}
