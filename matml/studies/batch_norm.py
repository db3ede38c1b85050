"""What each treatment of BatchNorm costs when a network adapts to a new family of crystals.

A small network on the descriptors of real crystals, with BatchNorm, LayerNorm or neither, is
trained on the training families, meta-trained on them with the policy in question, and adapted to
K crystals of families that it has not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from matml.core.statistics import tidy_record
from matml.meta import MAML, GradientSteps, MetaTraining, Task, meta_train, split_support_query
from matml.meta.batch_norm import (
    BatchNormPolicy,
    FrozenStatistics,
    StepStatistics,
    TaskStatistics,
    Transductive,
)
from matml.properties.data.descriptors import describe
from matml.properties.data.split import draw_episodes, labelled_members, split_families
from matml.properties.data.targets import Property
from matml.structures.crystals import CrystalSet

FOLDS = 3
STEPS, RATE, LARGEST = 3, 0.003, 10.0
MOST_QUERIES = 32
POLICIES: dict[str, Callable[[nn.Module], BatchNormPolicy]] = {
    "BatchNorm, frozen running statistics": FrozenStatistics,
    "BatchNorm, the support's statistics": lambda module: TaskStatistics(),
    "BatchNorm, running statistics of each step": lambda module: StepStatistics(module, STEPS),
    "BatchNorm, the query's own (transductive)": lambda module: Transductive(),
}
PLAIN = "LayerNorm"
METHODS = (PLAIN, "no normalisation", *POLICIES)


@dataclass(frozen=True)
class Settings:
    """How long is trained, and how often families are tested."""

    epochs: int = 20
    batches: int = 100
    tasks: int = 4
    width: int = 64
    draws: int = 5
    shots: tuple[int, ...] = (2, 5, 10)
    smallest_family: int = 16


@dataclass(frozen=True)
class Data:
    """Scaled descriptors [n, d] and labels [n, 1], in units of `scale`, and their families."""

    x: Tensor
    y: Tensor
    scale: float
    training: list[np.ndarray]
    episodes: pd.DataFrame

    @classmethod
    def of(
        cls, crystals: CrystalSet, item: Property, settings: Settings, fold: int, seed: int
    ) -> "Data":
        """Return those of crystals that carry a label of the property and repeat no other.

        Families are dealt to folds; one of these is for test, and one is not used.
        """
        known = crystals.subset(np.flatnonzero(labelled_members(crystals.table, item.name)))
        table = known.table
        split = split_families(
            table,
            smallest_family=settings.smallest_family,
            smallest_task=5,
            members=1,
            cross_folds=1,
            fold=fold,
            folds=FOLDS,
        )
        families = table["family"].to_numpy()
        rows = split.training_rows(families)
        raw, values = describe(known), item.to_scale(table[item.name].to_numpy())
        spread = raw[rows].std(0)
        x = np.where(spread > 0, (raw - raw[rows].mean(0)) / np.where(spread > 0, spread, 1), 0)
        scale = float(values[rows].std())
        y = (values - values[rows].mean()) / scale
        of_each = pd.Series(rows).groupby(families[rows]).agg(np.asarray)
        episodes = draw_episodes(
            table, split.test, [item.name], shots=settings.shots, draws=settings.draws,
            smallest_query=5, seed=seed,
        )  # fmt: skip
        return cls(
            torch.from_numpy(x.clip(-5, 5)).float(),
            torch.from_numpy(y)[:, None].float(),
            scale,
            [own for own in of_each if len(own) >= 5],
            episodes,
        )

    def pick(self, rows: object) -> tuple[Tensor, Tensor]:
        """Return descriptors and labels of some crystals."""
        index = torch.as_tensor(np.asarray(rows))
        return self.x[index], self.y[index]


def absolute_error(model: Callable[[Tensor], Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean absolute error."""
    x, y = data
    return (model(x) - y).abs().mean()


def network(method: str, inputs: int, width: int) -> nn.Module:
    """Return an untrained network, normalised as a method's name says."""
    norm: Callable[[int], nn.Module] = nn.BatchNorm1d
    if method not in POLICIES:
        norm = nn.LayerNorm if method == PLAIN else nn.Identity
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(inputs, width), norm(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(width, 1))


def pretrain(module: nn.Module, data: Data, epochs: int, seed: int) -> None:
    """Train on mixed batches of all training families."""
    rows = np.concatenate(data.training)
    random = np.random.default_rng([seed, 31])
    optimiser = torch.optim.Adam(module.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    module.train()
    for _ in range(epochs):
        order = random.permutation(rows)
        for batch in np.array_split(order, max(1, len(order) // 64)):
            optimiser.zero_grad()
            absolute_error(module, data.pick(batch)).backward()
            optimiser.step()
        schedule.step()
    module.eval()


def errors(method: str, data: Data, settings: Settings, seed: int) -> pd.DataFrame:
    """Return the error of each episode on unseen families, with 0 and with K labels."""
    torch.manual_seed(seed)
    module = network(method, data.x.shape[1], settings.width)
    pretrain(module, data, settings.epochs, seed)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    inner = GradientSteps(
        module,
        steps=STEPS,
        learning_rate=RATE,
        learn_rates="tensor",
        largest_gradient=LARGEST,
        batch_norm=POLICIES[method](module) if method in POLICIES else None,
    )

    def draw(generator: torch.Generator) -> Task:
        own = data.training[int(torch.randint(len(data.training), (1,), generator=generator))]
        most = min(max(settings.shots), len(own) // 2)
        shots = int(torch.randint(2, most + 1, (1,), generator=generator))
        support, query = split_support_query(own.tolist(), shots, MOST_QUERIES, generator)
        return Task(str(own[0]), data.pick(support), data.pick(query))

    training = MetaTraining(
        batches=settings.batches,
        tasks_per_batch=settings.tasks,
        learning_rate=3e-4,
        rates_learning_rate=0.03,
        validate_every=settings.batches,
        seed=seed,
    )
    inner.train()
    meta_train(module, absolute_error, inner, MAML(), draw, training, title=method)
    inner.eval()
    rows = []
    for episode in data.episodes.itertuples():
        support, query = data.pick(episode.support), data.pick(episode.query)
        adapted = inner.adapt(module, absolute_error, support)
        with torch.no_grad():
            error = data.scale * float(absolute_error(adapted, query))
            start = data.scale * float(
                absolute_error(lambda x: torch.func.functional_call(module, before, (x,)), query)
            )
        rows.append((method, episode.family, episode.draw, episode.shots, error, start))
    heads = ["method", "family", "draw", "shots", "error", "before"]
    return pd.DataFrame(rows, columns=heads)


def study(crystals: CrystalSet, item: Property, settings: Settings, seed: int) -> list[dict]:
    """Return tidy records: mean absolute errors over unseen families, and what LayerNorm spares.

    `cost` is a method's error less that of LayerNorm on the same episodes; `before` the error of
    the pre-trained network, without labels. Intervals are over families.
    """
    records, found = [], []
    for fold in range(FOLDS):
        data = Data.of(crystals, item, settings, fold, seed)
        found += [errors(method, data, settings, seed) for method in METHODS]
    for shots, block in pd.concat(found).groupby("shots"):
        wide = block.pivot_table(index="family", columns="method", values=["error", "before"])
        for method in METHODS:
            own = wide["error"][method].to_numpy()
            metrics = {"mae": own, "cost": own - wide["error"][PLAIN].to_numpy()}
            metrics["before"] = wide["before"][method].to_numpy()
            for metric, values in metrics.items():
                records.append(
                    tidy_record(
                        *("batch norm", item.name, method, metric, values),
                        shots=int(shots),
                        is_default=False,
                        seed=seed,
                    )
                )
    return records
