"""A ridge head on the features of a network that laboratories share: exact by sums, in one round.

Normal equations are sums over crystals, and so is what the evidence of a penalty needs: the head is
that of the pooled crystals. Of another property than the network's, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import TypedDict

from matml.core.errors import MatmlError
from matml.core.settings import check_shape
from matml.federated.network_files import (
    AGAIN,
    FEWEST_CRYSTALS,
    NetworkRound,
    check_kind,
    labelled_rows,
    refuse_nameless,
)
from matml.meta.checkpoint import load_checkpoint, save_checkpoint
from matml.properties.data.batches import GraphBatches
from matml.properties.data.targets import Property, find_property
from matml.properties.dataset import learned_properties, learned_values
from matml.properties.networks.pretrain import embed
from matml.structures.crystals import CrystalSet

SUMS, HEAD = "sums for a head", "head"
PENALTIES = tuple(10.0**power for power in np.arange(-6, 4.1, 0.5))
"""Tried, over the mean eigenvalue of the features' scatter."""


class StoredSums(TypedDict):
    """What the header of a file of sums holds."""

    kind: str
    to: str
    property: str
    logarithmic: bool
    laboratories: list[str]
    crystals: int


@dataclass(frozen=True)
class HeadSums:
    """Sums over labelled crystals of features x [F] and values y on the learned scale.

    Attributes
    ----------
    to
        Key of the round whose network gave the features.
    item
        The property.
    x, xx
        Sums of features and of their outer products, float64.
    xy
        Sum of features times values; y and its square stand behind, [F + 2].
    """

    to: str
    item: Property
    laboratories: list[str]
    crystals: int
    x: Tensor
    xx: Tensor
    xy: Tensor

    @classmethod
    def of(
        cls, shared: NetworkRound, crystals: CrystalSet, name: str, laboratory: str, origin: object
    ) -> "HeadSums":
        """Return a laboratory's sums over its crystals with a label of a property.

        Raises
        ------
        MatmlError
            For graphs of other settings than the study's, and too few labels.
        """
        refuse_nameless(laboratory)
        (item,) = learned_properties(crystals.table, [name])
        rows = labelled_rows(crystals, name, origin, "sums over")
        labels = torch.from_numpy(learned_values(crystals.table.iloc[rows], [item])[:, 0])
        features = _features(shared, crystals.subset(rows), origin)
        behind = torch.stack([labels.sum(), labels.square().sum()])
        return cls(
            *(shared.key, item, [laboratory], len(rows), features.sum(0)),
            *(features.mT @ features, torch.cat([features.mT @ labels, behind])),
        )

    def __add__(self, other: "HeadSums") -> "HeadSums":
        """Return the sums over the crystals of both."""
        return replace(
            self,
            laboratories=[*self.laboratories, *other.laboratories],
            crystals=self.crystals + other.crystals,
            x=self.x + other.x,
            xx=self.xx + other.xx,
            xy=self.xy + other.xy,
        )

    def solve(self) -> "Head":
        """Return the ridge regression, with the penalty of the largest evidence.

        The evidence is that of Bayesian linear regression with the noise at its most probable
        (MacKay 1992, 10.1162/neco.1992.4.3.415); the intercept is not penalised.
        """
        count, (y, yy) = self.crystals, self.xy[-2:]
        mean = self.x / count
        variances, axes = torch.linalg.eigh(self.xx - count * torch.outer(mean, mean))
        along = axes.mT @ (self.xy[:-2] - y * mean)
        best, found = -torch.inf, torch.zeros_like(mean)
        for penalty in (each * float(variances.mean()) for each in PENALTIES):
            spread = variances.clamp(min=0) + penalty
            left = (yy - y * y / count - (along.square() / spread).sum()).clamp(min=1e-12)
            evidence = -(count * left.log() + (spread / penalty).log().sum()) / 2
            if evidence > best:
                best, found = float(evidence), axes @ (along / spread)
        return Head(self.to, self.item, found, float(y / count - found @ mean))

    def save(self, path: Path) -> None:
        """Write the file that travels."""
        stored: StoredSums = {
            "kind": SUMS,
            "to": self.to,
            "property": self.item.name,
            "logarithmic": self.item.logarithmic,
            "laboratories": self.laboratories,
            "crystals": self.crystals,
        }
        save_checkpoint(path, {"x": self.x, "xx": self.xx, "xy": self.xy}, dict(stored))

    @classmethod
    def load(cls, path: Path, shared: NetworkRound) -> "HeadSums":
        """Read sums on the features of a round's network.

        Raises
        ------
        MatmlError
            Where they are none, of another network, or cannot be sums.
        """
        tensors, stored = load_checkpoint(path)
        check_kind(stored, SUMS, path)
        check_shape(stored, StoredSums, path, AGAIN)
        names = ", ".join(stored["laboratories"])
        if stored["to"] != shared.key:
            raise MatmlError(
                f"{path}: the sums of {names} are on the features of another network; ask for sums "
                "under the same round"
            )
        x, xx, xy = (tensors.get(name, torch.zeros(0)) for name in ("x", "xx", "xy"))
        size, count = shared.study["network"]["width"], stored["crystals"]
        wrong = ""
        if (x.shape, xx.shape, xy.shape) != ((size,), (size, size), (size + 2,)):
            wrong = f"they are not of {size} features"
        elif not all(bool(t.isfinite().all()) for t in (x, xx, xy)):
            wrong = "numbers that are not finite"
        elif count < FEWEST_CRYSTALS:
            wrong = f"{count} crystals"
        else:
            # of features and value together, less what their means explain
            whole = torch.zeros(size + 1, size + 1, dtype=x.dtype)
            whole[:-1, :-1], whole[-1, :-1], whole[:-1, -1] = xx, xy[:-2], xy[:-2]
            whole[-1, -1] = xy[-1]
            means = torch.cat([x, xy[-2:-1]])
            least = torch.linalg.eigvalsh(whole - torch.outer(means, means) / count)[0]
            if least < -1e-8 * float(whole.diagonal().abs().sum()):
                wrong = "their squares are smaller than their means allow"
        if wrong:
            raise MatmlError(f"{path}: the sums of {names} cannot be sums: {wrong}; {AGAIN}")
        item = find_property(stored["property"], logarithmic=stored["logarithmic"])
        return cls(stored["to"], item, stored["laboratories"], count, x, xx, xy)


def merged(paths: Sequence[Path], shared: NetworkRound) -> HeadSums:
    """Return the sums of all files.

    Raises
    ------
    MatmlError
        Where a laboratory is there twice, or properties differ.
    """
    parts = [(HeadSums.load(path, shared), path) for path in paths]
    parts.sort(key=lambda part: part[0].laboratories)
    whole = parts[0][0]
    for part, path in parts[1:]:
        if twice := sorted({*whole.laboratories} & {*part.laboratories}):
            raise MatmlError(f"{path}: the laboratory {twice[0]!r} is there twice; give one file")
        if part.item != whole.item:
            raise MatmlError(
                f"{path}: is of {part.item.name} ({part.item.scale_in_words}), others are of "
                f"{whole.item.name} ({whole.item.scale_in_words}); let all learn one property"
            )
        whole = whole + part
    return whole


@dataclass(frozen=True)
class Head:
    """A linear function of a network's features, float64, on the learned scale of a property."""

    to: str
    item: Property
    weights: Tensor
    intercept: float

    def predict(self, shared: NetworkRound, crystals: CrystalSet, origin: object) -> np.ndarray:
        """Return values of crystals in the property's unit."""
        features = _features(shared, crystals, origin)
        return self.item.from_scale((features @ self.weights + self.intercept).numpy())

    def save(self, path: Path) -> None:
        """Write the head that all laboratories use with the round's network."""
        told = {"kind": HEAD, "to": self.to, "intercept": self.intercept}
        told |= {"property": self.item.name, "logarithmic": self.item.logarithmic}
        save_checkpoint(path, {"weights": self.weights}, told)

    @classmethod
    def load(cls, path: Path, shared: NetworkRound) -> "Head":
        """Read a head; one on another network is refused."""
        tensors, stored = load_checkpoint(path)
        check_kind(stored, HEAD, path)
        if stored["to"] != shared.key:
            raise MatmlError(f"{path}: is a head on another network; give the round that it is on")
        item = find_property(stored["property"], logarithmic=stored["logarithmic"])
        return cls(stored["to"], item, tensors["weights"], stored["intercept"])


def _features(shared: NetworkRound, crystals: CrystalSet, origin: object) -> Tensor:
    """Return the network's features in float64, so that batches do not show in their digits."""
    shared.refuse_others(crystals, origin)
    batches = GraphBatches(crystals, dtype=np.float64)
    rows = np.arange(len(crystals))
    return torch.from_numpy(embed(shared.network().double(), batches, rows))
