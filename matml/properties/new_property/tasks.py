"""What a new property is learned from: features of crystals, few-shot tasks of known properties."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import pandas as pd
import torch

from matml.core.standardise import Standardisation
from matml.meta import Task
from matml.properties.data.batches import CrystalBatch, GraphBatches
from matml.properties.data.descriptors import describe
from matml.properties.data.split import draw_episodes, labelled_members
from matml.properties.dataset import Workbench
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.pretrain import embed, predict
from matml.properties.new_property.kernels import Episodes, Likeness
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

SHOTS = (1, 2, 5, 10, 20)
POOLED_SHOTS = (10, 25, 50, 100)
LEARNING_DRAWS, QUERIES = 6, 4
"""Of each known property's family and number of labels; pooled tasks have five times the query."""

Episode = tuple[str, int, int, np.ndarray, np.ndarray]
"""Family, draw, number of labels, row numbers of support and query."""


@dataclass(frozen=True)
class Scales:
    """Centre and spread of embeddings, [members, 1, width], and descriptors, [features]."""

    embeddings: Standardisation
    descriptors: Standardisation


@dataclass(frozen=True)
class FeatureSets:
    """What networks and descriptors say of n crystals.

    Attributes
    ----------
    predictions, embeddings
        Of all members, [members, n, properties] and [members, n, width].
    descriptors
        [n, features].
    """

    predictions: np.ndarray
    embeddings: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def of(
        cls, crystals: CrystalSet, networks: Sequence[CrystalNetwork], device: str
    ) -> "FeatureSets":
        """Return what networks say of all crystals."""
        rows, batches = range(len(crystals)), GraphBatches(crystals, device=device)
        networks = [network.to(device) for network in networks]
        return cls(
            np.array([predict(network, batches, rows) for network in networks], float),
            np.array([embed(network, batches, rows) for network in networks], float),
            describe(crystals),
        )

    def scales(self, rows: np.ndarray) -> "Scales":
        """Return centre and spread of the features over some crystals of a set."""
        return Scales(
            Standardisation.of(self.embeddings[:, rows]), Standardisation.of(self.descriptors[rows])
        )

    def standardised(self, scales: "Scales") -> "FeatureSets":
        """Return embeddings and descriptors in deviations."""
        return replace(
            self,
            embeddings=scales.embeddings.apply(self.embeddings),
            descriptors=scales.descriptors.apply(self.descriptors),
        )

    def features(
        self, rows: np.ndarray, *, members: Sequence[int] = (), without: int | None = None
    ) -> list[np.ndarray]:
        """Return predictions, embeddings and descriptors of crystals, [n, features] each.

        Parameters
        ----------
        members
            Whose networks speak: those that have not seen the family; all by default.
        without
            Property whose predictions are left out, since it plays the new one.
        """
        own = list(members) or list(range(len(self.predictions)))
        predictions = self.predictions[own][:, rows].mean(0)
        if without is not None and predictions.shape[1] > 1:
            predictions = np.delete(predictions, without, 1)
        embedding = np.hstack(list(self.embeddings[own][:, rows]))
        return [predictions, embedding.astype(float), self.descriptors[rows]]

    def for_baselines(self) -> dict[str, np.ndarray]:
        """Return what baselines learn from: descriptors, and the members' embeddings."""
        return {"support": self.descriptors, "embedding": np.hstack(list(self.embeddings))}


def family_tasks(
    bench: Workbench,
    sets: FeatureSets,
    settings: PropertiesSection,
    shots: Sequence[int],
    *,
    seed: int,
    known: bool = False,
) -> list[list[Episodes]]:
    """Return few-shot tasks within training families, per property of the networks.

    Parameters
    ----------
    known
        Whether the networks' predictions of a property may be used in its own tasks. They may not
        where the tasks stand for those of a property that networks do not predict.
    """
    found = []
    for column, name in enumerate(bench.names):
        labelled = labelled_members(bench.crystals.table, name).to_numpy()
        own: dict[int, list[tuple[Likeness, np.ndarray, np.ndarray]]] = {}
        for family, fold in bench.split.folds.items():
            rows = np.flatnonzero(labelled & (bench.families == family))
            if len(rows) < settings.smallest_task:
                continue
            members = of_fold(bench, fold)
            own_sets = sets.features(rows, members=members, without=None if known else column)
            likeness = Likeness.of(own_sets)
            network = sets.predictions[members][:, rows, column].mean(0)
            generator = np.random.default_rng([seed, crc32(f"{name}/{family}".encode())])
            for k in [k for k in shots if 1 < k <= len(rows) - QUERIES]:
                for _ in range(LEARNING_DRAWS):
                    order = generator.permutation(len(rows))[: k + QUERIES]
                    task = likeness.among(order), bench.targets[rows[order], column], network[order]
                    own.setdefault(k, []).append(task)
        found.append([_stack(tasks, k, known) for k, tasks in own.items()])
    return found


def pooled_tasks(
    bench: Workbench, sets: FeatureSets, shots: Sequence[int], *, seed: int
) -> list[list[Episodes]]:
    """Return tasks with labels of random crystals and a query of other families, per property."""
    folds = np.array([bench.split.folds.get(family, -1) for family in bench.families])
    generator, found = np.random.default_rng(seed), []
    for column in range(len(bench.names)):
        labelled = ~np.isnan(bench.targets[:, column])
        own = []
        for k in shots:
            tasks = []
            for fold in range(bench.split.cross_folds):
                known = np.flatnonzero(labelled & (folds != fold) & (folds >= 0))
                query = np.flatnonzero(labelled & (folds == fold))
                if len(known) < k or len(query) < 5 * QUERIES:
                    continue
                for _ in range(LEARNING_DRAWS):
                    rows = np.r_[
                        generator.choice(known, k, replace=False),
                        generator.choice(query, 5 * QUERIES, replace=False),
                    ]
                    members = of_fold(bench, fold)
                    likeness = Likeness.of(sets.features(rows, members=members, without=column))
                    network = sets.predictions[members][:, rows, column].mean(0)
                    tasks.append((likeness, bench.targets[rows, column], network))
            if tasks:
                own.append(_stack(tasks, k, False))
        found.append(own)
    return found


def of_fold(bench: Workbench, fold: int) -> list[int]:
    """Return the members that have not seen a fold's families."""
    return [m for m in range(bench.split.members) if bench.split.fold_of(m) == fold]


def _stack(
    tasks: Sequence[tuple[Likeness, np.ndarray, np.ndarray]], shots: int, known: bool
) -> Episodes:
    """Return tasks of one size together, with the networks' predictions where they are known."""
    likeness, labels, network = zip(*tasks, strict=True)
    together = Likeness(
        torch.stack([own.square for own in likeness]), torch.stack([own.inner for own in likeness])
    )
    labels, network = (torch.from_numpy(np.stack(x).astype(float)) for x in (labels, network))
    return Episodes(together, labels, shots, network if known else None)


def within_episodes(
    table: pd.DataFrame,
    families: Sequence[str],
    name: str,
    settings: PropertiesSection,
    shots: Sequence[int],
    seed: int,
) -> list[Episode]:
    """Return episodes within families, as `draw_episodes` draws them."""
    drawn = draw_episodes(
        table,
        families,
        [name],
        shots=shots,
        draws=settings.test_draws,
        smallest_query=settings.smallest_query,
        seed=seed,
    )
    columns = ["family", "draw", "shots", "support", "query"]
    return [
        (str(family), int(draw), int(k), np.array(support), np.array(query))
        for family, draw, k, support, query in zip(*(drawn[c] for c in columns), strict=True)
    ]


def pooled_episodes(
    bench: Workbench, name: str, excluded: Sequence[str], draws: int, smallest: int, seed: int
) -> list[Episode]:
    """Return episodes with labels of random crystals outside the families for test."""
    table = bench.crystals.table
    labelled = labelled_members(table, name).to_numpy()
    held_out = [*bench.split.test, *bench.split.validation]
    outside = ~np.isin(bench.families, held_out) & ~table["id"].isin(excluded).to_numpy()
    known = np.flatnonzero(labelled & outside)
    episodes = []
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(known)
        for family in held_out:
            query = np.flatnonzero(labelled & (bench.families == family))
            if len(query) < smallest:
                continue
            for k in [k for k in POOLED_SHOTS if k <= len(known)]:
                episodes.append((family, draw, k, order[:k], query))
    return episodes


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


def new_property_batch(batches: GraphBatches, rows: np.ndarray, labels: np.ndarray) -> CrystalBatch:
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
