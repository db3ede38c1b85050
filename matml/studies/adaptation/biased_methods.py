"""Methods of the biased-support study: one backbone, adapted in each way.

Ordinary and biased meta-training differ in how the episodes are drawn and in nothing else: same
pairs of family and property, support sizes, numbers of batches, settings to choose from, and
(biased) validation episodes.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from matml.gp.residual import ResidualGP, learn_residual_gp
from matml.meta import (
    MAML,
    GaussianHead,
    GradientSteps,
    HeadSteps,
    InnerLoop,
    MetaTraining,
    meta_train,
)
from matml.properties.data.batches import GraphBatches
from matml.properties.dataset import Workbench
from matml.properties.methods.method import FineTuning
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    meta_learned_weights,
    predict_many,
    residual_gp_correction,
)
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import Member
from matml.properties.networks.metatrain import episode_batch, episode_loss
from matml.properties.networks.pretrain import embed, predict
from matml.properties.settings import PropertiesSection
from matml.studies.adaptation.biased_episodes import ClassedTasks, Pair

log = logging.getLogger(__name__)

REGIMES = {"ordinary": False, "biased": True}
LEARNERS = ("maml", "read_out_maml", "anil", "gaussian_head")
HEAD_RATES_RATE = 0.05
"""Outer rate of the logarithms of what the inner loops of the heads learn."""
Predictor = Callable[[Sequence[np.ndarray], Sequence[np.ndarray], int], list[np.ndarray]]
"""From supports, queries (row numbers) and a property's number to standardised predictions."""


@dataclass(frozen=True)
class BiasedStudy:
    """Settings of the study.

    Attributes
    ----------
    draws
        Supports drawn per family, property, anion class and size.
    parts
        Parts into which the unseen families are dealt for cross-validation.
    smallest_class
        Fewest crystals of an anion class in a query.
    validation_tasks
        Validation episodes that stop meta-training and choose its settings.
    batches, rates
        Meta-batches, and outer learning rates to choose from, of MAML through the whole network.
    head_batches, head_rates
        The same for learners on the frozen network's features.
    kernels, scales
        Of the Gaussian-process head: kernels and initial deviations among tasks to choose from.
    gp_episodes
        Episodes per pair on which the residual model is learned.
    keep
        Folder of checkpoints, from which an interrupted study goes on.
    seed
        Of episodes and meta-training.
    """

    shots: tuple[int, ...] = (3, 5, 10)
    draws: int = 3
    parts: int = 2
    smallest_class: int = 2
    validation_tasks: int = 40
    batches: int = 40
    rates: tuple[float, ...] = (2e-5,)
    head_batches: int = 150
    head_rates: tuple[float, ...] = (1e-5,)
    kernels: tuple[str, ...] = ("rbf",)
    scales: tuple[float, ...] = (0.03, 0.1)
    gp_episodes: int = 4
    keep: Path | None = None
    seed: int = 0


def read_features(data: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor], Tensor]:
    """Return (inputs of the read-out,) and labels, NaN but in the column of the property."""
    return (data[0],), data[1]


def feature_loss(model: Callable, data: tuple[Tensor, Tensor]) -> Tensor:
    """Return the Huber loss (as `episode_loss`) of a read-out's outputs over the labels."""
    present = data[1].isfinite()
    return functional.huber_loss(model(data[0])[present], data[1][present], delta=0.5)


def read_out(network: CrystalNetwork) -> nn.Sequential:
    """Return a copy of the network's last layers: from pooled features to outputs."""
    layers = OrderedDict(trunk=network.trunk, head=network.head)
    return copy.deepcopy(nn.Sequential(layers)).eval()


def read_out_inputs(network: CrystalNetwork, batches: GraphBatches, rows: np.ndarray) -> Tensor:
    """Return what the read-out of a frozen network takes, [rows, features]."""
    kept: list[Tensor] = []
    handle = network.trunk.register_forward_pre_hook(lambda _, taken: kept.append(taken[0]))
    try:
        embed(network, batches, rows)
    finally:
        handle.remove()
    return torch.cat(kept)


class Backbone:
    """A pre-trained member with what it says of all crystals of the study.

    Parameters
    ----------
    network
        Pre-trained; left as it is.
    """

    def __init__(self, network: CrystalNetwork, batches: GraphBatches, rows: np.ndarray) -> None:
        self.network, self.batches = network, batches
        output = predict(network, batches, rows)
        self.output = np.full((len(batches), output.shape[1]), np.nan)
        self.output[rows] = output
        embeddings = embed(network, batches, rows)
        self.embeddings = np.zeros((len(batches), embeddings.shape[1]), np.float32)
        self.embeddings[rows] = embeddings
        inputs = read_out_inputs(network, batches, rows)
        self.inputs = inputs.new_zeros(len(batches), inputs.shape[1])
        self.inputs[torch.from_numpy(rows)] = inputs

    def graphs(self, rows: np.ndarray, column: int) -> Any:
        """Return crystals for learners that are the whole network."""
        return episode_batch(self.batches, rows, column)

    def features(self, rows: np.ndarray, column: int) -> tuple[Tensor, Tensor]:
        """Return crystals for learners that are the read-out."""
        labels = torch.full((len(rows), self.output.shape[1]), torch.nan)
        labels[:, column] = torch.from_numpy(self.batches.labels(rows)[:, column])
        return self.inputs[torch.from_numpy(rows)], labels.to(self.inputs)

    def pretrained(self, supports, queries, column: int) -> list[np.ndarray]:
        """Predict without adaptation."""
        return [self.output[query, column] for query in queries]

    def fine_tuned(self, rate: float, steps: Sequence[int]) -> dict[str, Predictor]:
        """Return fine-tuning of all weights, one predictor per number of steps."""

        def predictor(number: int) -> Predictor:
            def run(supports, queries, column):
                data = [self.graphs(rows, column) for rows in supports]
                found = fine_tuned_weights(
                    self.network, data, learning_rate=rate, checkpoints=[number]
                )
                batches = [self.batches.batch(rows) for rows in queries]
                return predict_many(self.network, found[number], batches, column)

            return run

        return {FineTuning(rate, number).name: predictor(number) for number in steps}

    def with_residual_gp(self, tasks: ClassedTasks, per_pair: int, seed: int) -> Predictor:
        """Return the network plus a Gaussian process on residuals, learned on drawn episodes."""
        generator = torch.Generator().manual_seed(seed)
        models: dict[int, ResidualGP] = {}
        for column in sorted({pair.column for pair in tasks.pairs}):
            own = [pair for pair in tasks.pairs if pair.column == column]
            drawn = [tasks.draw_rows(p, generator) for p in own for _ in range(per_pair)]
            rows = np.unique(np.concatenate([part for episode in drawn for part in episode]))
            residuals = self.batches.labels(rows)[:, column] - self.output[rows, column]
            episodes = [(np.searchsorted(rows, s), np.searchsorted(rows, q)) for s, q in drawn]
            models[column] = learn_residual_gp(self.embeddings[rows], residuals, episodes)
        member = Member(self.network, {}, models)

        def run(supports, queries, column):
            return [
                self.output[query, column]
                + residual_gp_correction(
                    member,
                    column,
                    self.embeddings[support],
                    self.batches.labels(support)[:, column] - self.output[support, column],
                    self.embeddings[query],
                )
                for support, query in zip(supports, queries, strict=True)
            ]

        return run

    def with_network(self, network: CrystalNetwork, inner: InnerLoop) -> Predictor:
        """Return a meta-trained network with its inner loop."""
        member = Member(self.network, {"maml": (network, inner)}, {})

        def run(supports, queries, column):
            data = [self.graphs(rows, column) for rows in supports]
            weights = meta_learned_weights(member, "maml", data)
            batches = [self.batches.batch(rows) for rows in queries]
            return predict_many(network, weights, batches, column)

        return run

    def with_learner(self, module: nn.Module, inner: InnerLoop) -> Predictor:
        """Return a meta-trained network or read-out with its inner loop."""
        if isinstance(module, CrystalNetwork):
            return self.with_network(module, inner)
        return self.with_read_out(module, inner)

    def with_read_out(self, module: nn.Module, inner: InnerLoop) -> Predictor:
        """Return a meta-trained read-out with its inner loop."""

        def run(supports, queries, column):
            found = []
            for support, query in zip(supports, queries, strict=True):
                model = inner.adapt(module, feature_loss, self.features(support, column))
                with torch.no_grad():
                    output = model(self.inputs[torch.from_numpy(query)])
                found.append(output[:, column].cpu().numpy())
            return found

        return run


def best_of(candidates: Iterable[tuple[dict, float, Predictor]], title: str) -> Predictor:
    """Return the predictor with the lowest validation loss."""
    settings, loss, predictor = min(candidates, key=lambda item: item[1])
    log.info("%s: validation loss %.4f with %s", title, loss, settings)
    return predictor


@dataclass
class MemberStudy:
    """One member: meta-trains every method, ordinarily and on biased episodes.

    Attributes
    ----------
    seen
        Families of the backbone's pre-training.
    """

    backbone: Backbone
    bench: Workbench
    settings: PropertiesSection
    study: BiasedStudy
    seen: set[str]
    validation: list[Pair]
    member: int

    def tasks(self, pairs: list[Pair], data: Callable, biased: bool) -> ClassedTasks:
        """Return tasks to draw."""
        return ClassedTasks(pairs, data, self.study.shots, biased)

    def learn(self, pairs: list[Pair], held_out: set[str]) -> dict[str, Predictor]:
        """Return the meta-trained methods.

        Parameters
        ----------
        held_out
            Families of the test; `meta_train` refuses tasks of them, as of `seen` ones.
        """
        # the control: what the inner loop does without any meta-training
        found = {"gradient_steps": self.backbone.with_learner(*self.start("maml", {}))}
        for regime, biased in REGIMES.items():
            tasks = self.tasks(pairs, self.backbone.graphs, biased)
            found[f"residual_gp_{regime}"] = self.backbone.with_residual_gp(
                tasks, self.study.gp_episodes, self.study.seed
            )
            for name in LEARNERS:
                found[f"{name}_{regime}"] = best_of(
                    self.candidates(name, pairs, biased, self.seen | held_out),
                    f"member {self.member}, {name}, {regime} episodes",
                )
        return found

    def candidates(
        self, name: str, pairs: list[Pair], biased: bool, refused: set[str]
    ) -> Iterator[tuple[dict, float, Predictor]]:
        """Yield settings, validation loss and predictor of a learner for each of its settings."""
        study, whole = self.study, name == "maml"
        data = self.backbone.graphs if whole else self.backbone.features
        loss = episode_loss if whole else feature_loss
        generator = torch.Generator().manual_seed(study.seed)
        validation = self.tasks(self.validation, data, True)
        fixed = [validation.draw(generator) for _ in range(study.validation_tasks)]
        rates = study.rates if whole else study.head_rates
        variants: list[dict[str, Any]] = [{"outer rate": rate} for rate in rates]
        if name == "gaussian_head":
            variants = [
                variant | {"kernel": kernel, "scale": scale}
                for variant in variants
                for kernel in study.kernels
                for scale in study.scales
            ]
        for variant in variants:
            module, inner = self.start(name, variant)
            history = meta_train(
                module,
                loss,
                inner.to(self.backbone.batches.device),
                MAML(),
                self.tasks(pairs, data, biased).draw,
                self.outer(name, variant["outer rate"]),
                validation_tasks=fixed,
                seen_groups=refused,
                checkpoint=self.checkpoint(name, variant, pairs, biased),
                title=f"member {self.member}: {name}",
            )
            found = variant | {"before": round(history.validation_loss[0], 5)}
            predictor = self.backbone.with_learner(module, inner)
            yield found, min(history.validation_loss), predictor

    def start(self, name: str, variant: dict) -> tuple[nn.Module, InnerLoop]:
        """Return a learner before meta-training: the pre-trained weights, and an inner loop."""
        if name == "maml":
            network = copy.deepcopy(self.backbone.network)
            return network, self.bench.recipe(self.settings).build_inner(network)
        module = read_out(self.backbone.network)
        if name == "gaussian_head":
            # in units of a property's standard deviation; both are learned
            return module, GaussianHead(
                module,
                "head",
                kernel=variant["kernel"],
                noise=0.3,
                scale=variant["scale"],
                read=read_features,
            )
        loop: Callable[..., GradientSteps]
        if name == "anil":
            loop = partial(HeadSteps, head="head")
        else:
            loop = partial(GradientSteps, largest_gradient=5.0)
        return module, loop(module, steps=5, learning_rate=0.02, learn_rates="tensor")

    def checkpoint(self, name: str, variant: dict, pairs: list[Pair], biased: bool) -> Path | None:
        """Return where a meta-training is kept; another name for whatever it depends on."""
        if self.study.keep is None:
            return None
        parts = [name, variant, replace(self.study, keep=None), self.settings, biased]
        parts += [[(p.name, *(r.tolist() for r in p.classes.values())) for p in pairs]]
        key = crc32(repr(parts).encode())
        return self.study.keep / f"{self.member}-{name}-{key:08x}.safetensors"

    def outer(self, name: str, rate: float) -> MetaTraining:
        """Return settings of meta-training."""
        whole = name == "maml"
        batches = self.study.batches if whole else self.study.head_batches
        return MetaTraining(
            batches=batches,
            tasks_per_batch=4,
            learning_rate=rate,
            rates_learning_rate=self.settings.rates_learning_rate if whole else HEAD_RATES_RATE,
            validate_every=max(1, batches // 8),
            seed=self.study.seed * 1000 + self.member,
        )
