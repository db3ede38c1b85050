"""Methods that adapt the ensemble's networks; predictions are means over its members."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.meta import GaussianHead, Parameters
from matml.meta.vectorised import repeat_weights
from matml.properties.data.batches import CrystalBatch, GraphBatches
from matml.properties.methods.corrected import Corrected, Plain
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.method import Episode, FineTuning, Method, Trained
from matml.properties.networks.adaptation import (
    fine_tuned_weights,
    meta_learned_weights,
    predict_many,
)
from matml.properties.networks.closed_form import ClosedHead
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import Member
from matml.structures.crystals import CrystalSet


class Pretrained(Corrected):
    """The pre-trained networks as they are."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.processes = [None] * len(trained.members)

    def view(self, crystals: EncodedCrystals) -> Plain:
        """As of `Method`."""
        return Plain(crystals.outputs[..., self.column], crystals.embeddings)


class CorrectedNetwork(Pretrained):
    """The pre-trained networks with Gaussian processes on the residuals over their embeddings."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.processes = [member.residual_gp.get(self.column) for member in trained.members]


@dataclass(frozen=True)
class Graphs:
    """Some crystals of a set as networks take them."""

    crystals: CrystalSet
    rows: np.ndarray
    device: str

    def __getitem__(self, rows: np.ndarray) -> "Graphs":
        """Return some of them."""
        return Graphs(self.crystals, self.rows[rows], self.device)

    def batch(self) -> CrystalBatch:
        """Return them as one batch."""
        return GraphBatches(self.crystals, device=self.device).batch(self.rows)


Tuned = list[tuple[CrystalNetwork, Parameters]]
"""A network of each member, with weights for each task: [tasks, …]."""


class TunedNetworks(Method[Graphs, Tuned]):
    """Networks whose weights move with the labels; those of many tasks move at once."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.members = trained.members

    @property
    def names(self) -> list[str]:
        """Names of the variants, as in tables of predictions."""
        return [self.name]

    @abstractmethod
    def start(self, member: Member) -> CrystalNetwork:
        """Return the network of a member before any label."""

    @abstractmethod
    def tune(self, member: Member, supports: Sequence[CrystalBatch]) -> Mapping[str, Parameters]:
        """Return the weights for each support by the name of the variant, [tasks, …]."""

    def view(self, crystals: EncodedCrystals) -> Graphs:
        """As of `Method`."""
        return Graphs(crystals.crystals, np.arange(len(crystals)), self.device)

    def fit(self, support: Graphs, labels: np.ndarray) -> Tuned:
        """As of `Method`; of the only variant."""
        return next(iter(self.fit_many([support], [labels]).values()))

    def predict(self, state: Tuned, query: Graphs) -> tuple[np.ndarray, None]:
        """As of `Method`."""
        (mean,) = self.predict_many(state, [query.batch()])
        return mean, None

    def fit_many(
        self, supports: Sequence[Graphs], labels: Sequence[np.ndarray]
    ) -> dict[str, Tuned]:
        """Return each variant's weights after supports of the same number of labels."""
        networks = [self.start(member) for member in self.members]
        if not len(labels[0]):
            own = [repeat_weights(dict(n.named_parameters()), len(labels)) for n in networks]
            return {name: list(zip(networks, own, strict=True)) for name in self.names}
        data = [support.batch() for support in supports]
        for batch, known in zip(data, labels, strict=True):
            batch.column = self.column
            batch.label = torch.from_numpy(known.astype(np.float32)).to(self.device)
        tuned = [self.tune(member, data) for member in self.members]
        return {
            name: [(network, own[name]) for network, own in zip(networks, tuned, strict=True)]
            for name in self.names
        }

    def predict_many(self, tuned: Tuned, queries: Sequence[CrystalBatch]) -> list[np.ndarray]:
        """Return the mean over the members in each task."""
        each = [predict_many(*own, queries, self.column) for own in tuned]
        return [np.mean(of_task, 0, dtype=float) for of_task in zip(*each, strict=True)]

    def predict_episodes(
        self, crystals: EncodedCrystals, episodes: Sequence[Episode]
    ) -> dict[str, list[np.ndarray]]:
        """As of `Method`: episodes with equally many labels are adapted to at once."""
        graphs, order = self.view(crystals), list[int]()
        found: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        for shots in dict.fromkeys(len(each.labels) for each in episodes):
            alike = [n for n, each in enumerate(episodes) if len(each.labels) == shots]
            own, order = [episodes[n] for n in alike], order + alike
            queries = [graphs[each.query].batch() for each in own]
            tuned = self.fit_many([graphs[e.support] for e in own], [e.labels for e in own])
            for name, weights in tuned.items():
                found[name] += self.predict_many(weights, queries)
        back = np.argsort(order).tolist()
        return {name: [several[n] for n in back] for name, several in found.items()}


class FineTuned(TunedNetworks):
    """The pre-trained networks after some steps of Adam, as a user would do with them."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.settings = list(trained.fine_tuning)

    @property
    def names(self) -> list[str]:
        """As of `TunedNetworks`."""
        return [setting.name for setting in self.settings]

    def start(self, member: Member) -> CrystalNetwork:
        """As of `TunedNetworks`."""
        return member.pretrained

    def tune(self, member: Member, supports: Sequence[CrystalBatch]) -> Mapping[str, Parameters]:
        """As of `TunedNetworks`: fewer steps are passed on the way to more."""
        found: dict[str, Parameters] = {}
        for rate in dict.fromkeys(own.learning_rate for own in self.settings):
            steps = [own.steps for own in self.settings if own.learning_rate == rate]
            weights = fine_tuned_weights(
                member.pretrained, supports, learning_rate=rate, checkpoints=steps
            )
            found |= {FineTuning(rate, number).name: own for number, own in weights.items()}
        return found


class MetaTrained(TunedNetworks):
    """Meta-trained networks after their inner loop."""

    def start(self, member: Member) -> CrystalNetwork:
        """As of `TunedNetworks`."""
        return member.meta_trained[self.name][0]

    def tune(self, member: Member, supports: Sequence[CrystalBatch]) -> Mapping[str, Parameters]:
        """As of `TunedNetworks`."""
        return {self.name: meta_learned_weights(member, self.name, supports)}


@dataclass(frozen=True)
class Features:
    """Features of n crystals by each member's meta-trained network, [n, width] each."""

    of_members: list[Tensor]

    def __getitem__(self, rows: np.ndarray) -> "Features":
        """Return those of some of the crystals."""
        # arrays read from a table cannot be written to, which torch warns of
        chosen = torch.tensor(rows.tolist(), dtype=torch.long)
        return Features([own[chosen] for own in self.of_members])


class ClosedForm(Method[Features, tuple[Features, np.ndarray]]):
    """Meta-trained networks whose read-out adapts in closed form, on features computed once."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.heads = []
        for member in trained.members:
            network, inner = member.meta_trained[name]
            assert isinstance(inner, GaussianHead)
            self.heads.append(ClosedHead(network, inner, self.column))

    def view(self, crystals: EncodedCrystals) -> Features:
        """As of `Method`."""
        if not len(crystals):
            return Features([torch.zeros(0, 0)] * len(self.heads))
        batches = GraphBatches(crystals.crystals, device=self.device)
        return Features([head.features(batches) for head in self.heads])

    def fit(self, support: Features, labels: np.ndarray) -> tuple[Features, np.ndarray]:
        """As of `Method`."""
        return support, labels

    def predict(
        self, state: tuple[Features, np.ndarray], query: Features
    ) -> tuple[np.ndarray, None]:
        """As of `Method`."""
        support, labels = state
        given = zip(self.heads, support.of_members, query.of_members, strict=True)
        each = [head.predict(known, labels, asked) for head, known, asked in given]
        return np.mean(each, 0, dtype=float), None
