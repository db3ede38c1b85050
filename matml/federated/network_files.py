"""What travels of a network that laboratories train together: a round's state, and answers to it.

Both are safetensors files with a checksum: weights and AdamW's moments, and in the header what they
are of.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.utils import vector_to_parameters
from typing_extensions import TypedDict

from matml.core.errors import MatmlError
from matml.core.settings import check_shape
from matml.federated.networks import (
    FIRST,
    SECOND,
    Rounds,
    State,
    Update,
    average,
    local_update,
)
from matml.federated.participants import refuse_missing
from matml.meta.checkpoint import content, load_checkpoint, save_checkpoint
from matml.properties.data.batches import GraphBatches
from matml.properties.data.element_features import atomic_radii, element_features
from matml.properties.data.split import labelled_members
from matml.properties.data.targets import find_property
from matml.properties.dataset import learned_properties, learned_values
from matml.properties.networks.adaptation import fine_tuned_weights
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.episodes import episode_batch
from matml.properties.networks.pretrain import predict
from matml.properties.settings import PropertiesSection
from matml.structures.crystals import CrystalSet

FEWEST_CRYSTALS = 10
"""Of a laboratory: the gradient of a few crystals tells them."""
MOST = 10**8
"""Crystals of a laboratory."""
ROUND, ANSWER = "round of a federated network", "answer of a laboratory"
VECTORS = "weights", "first", "second"
AGAIN = "ask for it again"


class StoredStudy(TypedDict):
    """What all rounds of a study have in common."""

    study: str
    property: str
    logarithmic: bool
    mean: float
    deviation: float
    network: dict[str, int]
    graphs: dict[str, str | int | float | bool | None]
    element_features: str
    settings: dict[str, int | float | bool]


class StoredRound(TypedDict):
    """What the header of a round's file holds."""

    kind: str
    study: StoredStudy
    round: int
    roster: list[str]
    laboratories: dict[str, int]


class StoredAnswer(TypedDict):
    """What the header of an answer holds."""

    kind: str
    to: str
    round: int
    laboratory: str
    crystals: int


@dataclass(frozen=True)
class NetworkRound:
    """The state that all laboratories begin a round from.

    Attributes
    ----------
    study
        What is learned, and how; labels are learned as (scale - mean) / deviation.
    roster
        Laboratories that took part in any round.
    laboratories
        Those of whom the last step was made, with their crystals.
    """

    study: StoredStudy
    state: State
    roster: list[str]
    laboratories: dict[str, int]

    @classmethod
    def begin(
        cls,
        study: str,
        crystals: CrystalSet,
        name: str,
        mean: float,
        deviation: float,
        settings: Rounds,
        network: dict[str, int],
    ) -> "NetworkRound":
        """Return round 0, for graphs like those of `crystals`.

        Parameters
        ----------
        name
            Column of the property.
        mean, deviation
            Of typical labels on the scale that is learned; they need not be exact.
        network
            Width and layers.
        """
        if not study.strip():
            raise MatmlError("--study: is empty; give a name that no other study has")
        if not (math.isfinite(mean) and 0 < deviation < math.inf):
            raise MatmlError(
                f"--mean {mean:g} --deviation {deviation:g}: give what is typical of the labels"
            )
        (item,) = learned_properties(crystals.table, [name])
        told: StoredStudy = {
            "study": study,
            "property": name,
            "logarithmic": item.logarithmic,
            "mean": mean,
            "deviation": deviation,
            "network": network,
            "graphs": crystals.graphs.settings,
            "element_features": _element_features(),
            "settings": asdict(settings),
        }
        torch.manual_seed(settings.seed)
        return cls(told, State.of(CrystalNetwork(1, **network)), [], {})

    @property
    def settings(self) -> Rounds:
        """How laboratories train."""
        return Rounds(**self.study["settings"])  # type: ignore[arg-type]

    @property
    def key(self) -> str:
        """What answers name it by."""
        return content([vars(self.state), self.study, self.roster, self.laboratories])

    def network(self) -> CrystalNetwork:
        """Return the network, in evaluation mode."""
        made = CrystalNetwork(1, **self.study["network"])
        # parameters are views of the vector: training them must not write into the state
        vector_to_parameters(self.state.weights.clone(), made.parameters())
        return made.eval()

    def refuse_others(self, crystals: CrystalSet, origin: object) -> None:
        """Refuse crystals whose graphs or features of elements are others than the study's."""
        own, wanted = crystals.graphs.settings, self.study["graphs"]
        if differing := [key for key in {*own, *wanted} if own.get(key) != wanted.get(key)]:
            key = min(differing)
            raise MatmlError(
                f"{origin}: graphs are of {key} = {own.get(key)!r}, the study's of "
                f"{wanted.get(key)!r}; build them with the study's settings"
            )
        if self.study["element_features"] != _element_features():
            raise MatmlError(
                "this version of matml or pymatgen describes elements otherwise than that which "
                "began the study; let all laboratories use one version"
            )

    def batches(self, crystals: CrystalSet, origin: object) -> GraphBatches:
        """Return batches of crystals with standardised labels; refuses others and no labels."""
        self.refuse_others(crystals, origin)
        (item,) = learned_properties(crystals.table, [self.study["property"]])
        item = replace(item, logarithmic=self.study["logarithmic"])
        values = learned_values(crystals.table, [item])
        return GraphBatches(crystals, (values - self.study["mean"]) / self.study["deviation"])

    def answer(self, crystals: CrystalSet, laboratory: str, origin: object) -> Update:
        """Return what a laboratory's crystals make of the round.

        Raises
        ------
        MatmlError
            As of `batches`, and for too few crystals.
        """
        refuse_nameless(laboratory)
        batches, name = self.batches(crystals, origin), self.study["property"]
        rows = labelled_rows(crystals, name, origin, "an update of")
        labels = crystals.table["family"].to_numpy()[rows]
        families = {family: rows[labels == family] for family in np.unique(labels)}
        return local_update(
            self.network(), self.state, batches, families, self.settings, laboratory
        )

    def predict(self, crystals: CrystalSet, origin: object, *, adapt: bool = True) -> pd.DataFrame:
        """Return id, family, label and prediction of each crystal, in the property's unit.

        Parameters
        ----------
        adapt
            Fine-tune on the labelled crystals first, as the default run does.
        """
        name = self.study["property"]
        if name not in crystals.table:
            unknown = crystals.table.assign(**{name: np.nan})
            crystals = CrystalSet(unknown, crystals.graphs, crystals.quarantine)
        batches, network = self.batches(crystals, origin), self.network()
        rows = np.flatnonzero(labelled_members(crystals.table, name))
        if adapt and len(rows):
            settings = PropertiesSection()
            steps = max(settings.fine_tuning_steps)
            rate = settings.fine_tuning_learning_rates[0]
            found = fine_tuned_weights(
                network, [episode_batch(batches, rows, 0)], learning_rate=rate, checkpoints=[steps]
            )[steps]
            network.load_state_dict({name: weight[0] for name, weight in found.items()})
        learned = predict(network, batches, np.arange(len(crystals)))[:, 0]
        scale = learned * self.study["deviation"] + self.study["mean"]
        item = replace(find_property(name), logarithmic=self.study["logarithmic"])
        told = crystals.table[["id", "family"]].reset_index(drop=True)
        label = crystals.table[name].to_numpy(float)
        return told.assign(label=label, prediction=item.from_scale(scale))

    def save(self, path: Path) -> None:
        """Write the file that goes to all laboratories."""
        state: StoredRound = {
            "kind": ROUND,
            "study": self.study,
            "round": self.state.round,
            "roster": self.roster,
            "laboratories": self.laboratories,
        }
        tensors = {name: t for name, t in vars(self.state).items() if name != "round"}
        save_checkpoint(path, tensors, dict(state))

    @classmethod
    def load(cls, path: Path) -> "NetworkRound":
        """Read a round.

        Raises
        ------
        MatmlError
            Where it is none, or its weights are not those of its network.
        """
        tensors, stored = load_checkpoint(path)
        check_kind(stored, ROUND, path)
        check_shape(stored, StoredRound, path, AGAIN)
        if {*stored["study"]["settings"]} != {each.name for each in fields(Rounds)}:
            raise MatmlError(f"{path}: is of another version of matml; let all use one version")
        size = sum(p.numel() for p in CrystalNetwork(1, **stored["study"]["network"]).parameters())
        if wrong := _wrong_vectors(tensors, VECTORS, size):
            raise MatmlError(f"{path}: {wrong}; {AGAIN}")
        state = State(round=stored["round"], **tensors)
        return cls(stored["study"], state, stored["roster"], stored["laboratories"])

    def step(
        self,
        paths: Sequence[Path],
        *,
        expected: Collection[str] = (),
        without: Collection[str] = (),
    ) -> "NetworkRound":
        """Return the next round, of all laboratories' answers.

        Parameters
        ----------
        expected, without
            Laboratories that must be there besides those that took part before, and those that the
            round goes on without.

        Raises
        ------
        MatmlError
            Where an answer is to another round, is there twice, cannot be one, or is missing.
        """
        settings = self.settings
        if self.state.round >= settings.rounds:
            raise MatmlError(f"all {settings.rounds} rounds of the study are done")
        updates: dict[str, Update] = {}
        for path in paths:
            name, update = load_answer(path, self)
            if name in updates:
                raise MatmlError(f"{path}: the laboratory {name!r} is there twice; give one file")
            updates[name] = update
        refuse_missing(self.state.round, self.roster, updates, expected, without)
        names = sorted(updates)
        state = average(self.state, [updates[name] for name in names])
        return replace(
            self,
            state=state,
            roster=sorted({*self.roster, *names}),
            laboratories={name: updates[name].crystals for name in names},
        )


def refuse_nameless(laboratory: str) -> None:
    """Refuse a laboratory without a name."""
    if not laboratory.strip():
        raise MatmlError("--laboratory: is empty; give its name")


def labelled_rows(crystals: CrystalSet, name: str, origin: object, what: str) -> np.ndarray:
    """Return a laboratory's crystals with a label; of too few `what` would tell single ones."""
    rows = np.flatnonzero(labelled_members(crystals.table, name))
    if len(rows) < FEWEST_CRYSTALS:
        raise MatmlError(
            f"{origin}: {len(rows)} crystals have a label {name!r}; {what} fewer than "
            f"{FEWEST_CRYSTALS} would tell single ones"
        )
    return rows


def save_answer(path: Path, update: Update, laboratory: str, begun: NetworkRound) -> None:
    """Write the file that a laboratory sends back."""
    stored: StoredAnswer = {
        "kind": ANSWER,
        "to": begun.key,
        "round": begun.state.round,
        "laboratory": laboratory,
        "crystals": update.crystals,
    }
    save_checkpoint(path, {name: getattr(update, name) for name in VECTORS}, dict(stored))


def load_answer(path: Path, begun: NetworkRound) -> tuple[str, Update]:
    """Read a laboratory's name and answer.

    Raises
    ------
    MatmlError
        Where it is none, is to another round, or no steps of the study can end there.
    """
    tensors, stored = load_checkpoint(path)
    check_kind(stored, ANSWER, path)
    check_shape(stored, StoredAnswer, path, AGAIN)
    name = stored["laboratory"]
    if stored["to"] != begun.key:
        raise MatmlError(
            f"{path}: {name} answers to round {stored['round']} or to another study, not to round "
            f"{begun.state.round} of this one; ask for an answer to the file that was sent last"
        )
    wrong = _wrong_vectors(tensors, VECTORS, len(begun.state.weights))
    wrong = wrong or _absurd(tensors["weights"], begun)
    if not FEWEST_CRYSTALS <= stored["crystals"] <= MOST:
        wrong = f"{stored['crystals']} crystals"
    if wrong:
        raise MatmlError(f"{path}: the answer of {name} cannot be one: {wrong}; {AGAIN}")
    return name, Update(stored["crystals"], **tensors)


def check_kind(stored: object, kind: str, path: Path) -> None:
    """Refuse a file that is not of a kind."""
    found = stored.get("kind") if isinstance(stored, dict) else None
    if found != kind:
        raise MatmlError(f"{path}: is {found or 'another file'!r}, not the {kind}; give that one")


def _wrong_vectors(tensors: dict[str, torch.Tensor], names: Sequence[str], size: int) -> str:
    """Return why tensors are not the vectors of weights and moments; '' where they are."""
    if {*tensors} != {*names}:
        return f"it holds {', '.join(sorted(tensors))}, not {', '.join(names)}"
    for name, tensor in tensors.items():
        if tensor.shape != (size,) or tensor.dtype != torch.float32:
            return f"{name} are not the network's {size} numbers"
        if not bool(torch.isfinite(tensor).all()):
            return f"{name} are not finite"
    return "moments of squares below 0" if bool((tensors["second"] < 0).any()) else ""


def _absurd(weights: torch.Tensor, begun: NetworkRound) -> str:
    """Return why weights cannot come from a round's by the study's steps; '' where they can."""
    settings, start = begun.settings, begun.state
    steps = settings.local_steps
    rates = sum(settings.rate(start.round + number / steps) for number in range(steps))
    # a step of Adam moves a weight by no more than this (Kingma and Ba 2015, arXiv:1412.6980,
    # section 2.1); decay comes to it, and rounding
    farthest = (1 - FIRST) / math.sqrt(1 - SECOND) * rates
    farthest += rates * settings.weight_decay * float(weights.abs().max())
    moved = float((weights - start.weights).abs().max())
    if moved > 1.1 * farthest + 1e-6:
        return f"a weight moved by {moved:.2g}, its steps can move it by {farthest:.2g} at most"
    return ""


def _element_features() -> str:
    return content([element_features(), atomic_radii()])
