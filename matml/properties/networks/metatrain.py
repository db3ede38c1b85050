"""Meta-training of the network: tasks are (family, property), cross-fitted by family."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from matml.meta import (
    MAML,
    GaussianHead,
    History,
    InnerLoop,
    MetaTraining,
    Task,
    gaussian_loss,
    meta_train,
)
from matml.meta.checkpoint import content
from matml.properties.data.batches import GraphBatches
from matml.properties.data.split import labelled_members
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import read_labels
from matml.properties.networks.episodes import episode_batch, episode_loss, stacking
from matml.properties.settings import PropertiesSection

METHODS = {"maml": MAML(second_order=True), "fomaml": MAML(second_order=False)}
"""What the workflow meta-trains by, and the rule of the outer loop."""
ALL_METHODS = METHODS | dict.fromkeys(
    ("anil", "meta_sgd", "ridge_head", "gp_head"), MAML(second_order=True)
)
"""All that a network can be meta-trained by; the inner loops are `NetworkRecipe.build_inner`'s."""


@dataclass(frozen=True)
class FamilyTasks:
    """Few-shot tasks of some families, for drawing at random.

    Attributes
    ----------
    batches
        The crystals, with standardised targets.
    members
        (family, property number, row numbers of the labelled crystals).
    shots
        Support sizes to choose from.
    """

    batches: GraphBatches
    members: list[tuple[str, int, np.ndarray]]
    shots: tuple[int, ...]
    most_queries: int = 20

    @classmethod
    def of(
        cls,
        batches: GraphBatches,
        table: pd.DataFrame,
        families: Sequence[str],
        properties: Sequence[str],
        shots: Sequence[int],
        smallest_task: int,
    ) -> "FamilyTasks":
        """Collect the (family, property) pairs that have at least `smallest_task` labels."""
        members, of_family = [], table.groupby("family").indices
        for column, name in enumerate(properties):
            labelled = labelled_members(table, name).to_numpy()
            for family in families:
                rows = of_family.get(family, np.zeros(0, int))
                rows = rows[labelled[rows]]
                if len(rows) >= smallest_task:
                    members.append((f"{family} / {name}", column, rows))
        return cls(batches, members, tuple(k for k in shots if k > 0))

    def draw(self, generator: torch.Generator) -> Task:
        """Draw a pair, a support size that leaves at least half to query, and the crystals."""
        pick = int(torch.randint(len(self.members), (1,), generator=generator))
        name, column, rows = self.members[pick]
        k = self.shots[int(torch.randint(len(self.shots), (1,), generator=generator))]
        k = min(k, len(rows) // 2)
        order = rows[torch.randperm(len(rows), generator=generator).numpy()]
        return Task(
            name,
            episode_batch(self.batches, order[:k], column),
            episode_batch(self.batches, order[k : k + self.most_queries], column),
            group=name.rsplit(" / ", 1)[0],
        )

    def content(self) -> str:
        """Return a hash of the crystals and their labels."""
        rows = [rows for _, _, rows in self.members]
        crystals = self.batches.content(np.unique(np.concatenate(rows))) if rows else ""
        return content([crystals, self.members, self.shots, self.most_queries])


class TaskSource(Protocol):
    """What tasks are drawn from."""

    def draw(self, generator: torch.Generator) -> Task:
        """Draw a task."""


def member_training(settings: PropertiesSection, member: int, seed: int) -> MetaTraining:
    """Return how a member is meta-trained; its draws are its own."""
    return MetaTraining(
        batches=settings.meta_batches,
        tasks_per_batch=settings.tasks_per_batch,
        learning_rate=settings.meta_learning_rate,
        rates_learning_rate=settings.rates_learning_rate,
        validate_every=max(1, settings.meta_batches // 4),
        seed=seed * 1000 + member,
    )


def metatrain(
    network: CrystalNetwork,
    inner: InnerLoop,
    method: str,
    tasks: TaskSource,
    validation: TaskSource,
    settings: MetaTraining,
    *,
    validation_tasks: int = 40,
    seen_families: Collection[str] = (),
    checkpoint: Path | None = None,
    made_with: object = None,
    title: str = "meta-training",
) -> History:
    """Meta-train `network` and what its inner loop learns, in place.

    Parameters
    ----------
    tasks
        Of families that the network has not seen in pre-training.
    validation
        Of validation families; as many as `validation_tasks` are drawn once, for early stopping.
    seen_families
        Families that the network was pre-trained on; none may occur among the tasks.
    checkpoint, made_with
        As of `meta_train`.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    fixed = [validation.draw(generator) for _ in range(validation_tasks)]
    closed = isinstance(inner, GaussianHead)
    return meta_train(
        network,
        gaussian_loss(read_labels) if closed else episode_loss,
        inner,
        ALL_METHODS[method],
        tasks.draw,
        settings,
        validation_tasks=fixed,
        checkpoint=checkpoint,
        made_with=made_with,
        # tasks with a closed form are as fast one by one
        stacking=None if closed else stacking(network),
        seen_groups=seen_families,
        title=title,
    )
