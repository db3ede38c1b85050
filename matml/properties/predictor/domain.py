"""The domain of one property: where crystals that are labelled with it are, and what is outside."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from matml.properties.data.descriptors import PACKING
from matml.properties.data.targets import Property
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.networks.ensemble import nearest_distances
from matml.structures.disorder.atoms import are_partly_empty
from matml.structures.elements import element_of

ROUNDING = 1e-4
"""By how much a labelled crystal at the edge of their packings may seem to lie beyond it."""
FEWEST = 3
"""Labelled crystals of as many elements, or more, that make such compositions known."""


@dataclass(frozen=True)
class Domain:
    """What is known of one property: its labelled crystals, in training and support.

    Attributes
    ----------
    item
        The property.
    embeddings
        Of the labelled crystals by one member of each fold, the first ones, [crystals, width].
    far
        Unit of the distances of each: the 95th percentile of those of training families that the
        member had not seen.
    descriptors
        Of the labelled crystals, [crystals, features].
    compositions
        Their elements, by atomic number.
    own
        How many of them, the last ones, are of the support.
    met
        Elements that count as known without a label: of a property of one's own all that training
        met. With 12 labels of energies above the hull in each of ten families, 90 % intervals of
        near crystals with elements that no label tells of covered .91 of 1,075, of others .92.
    partly_empty
        Whether labelled crystals, too, have sites that are not always occupied.
    """

    item: Property
    embeddings: Sequence[np.ndarray]
    far: Sequence[float]
    descriptors: np.ndarray
    compositions: Sequence[frozenset[int]]
    own: int = 0
    met: frozenset[int] = frozenset()
    partly_empty: bool = False

    def with_support(self, support: EncodedCrystals) -> "Domain":
        """Return the domain when further crystals are labelled."""
        if not len(support):
            return self
        embeddings = [
            np.vstack([known, own])
            for known, own in zip(self.embeddings, support.embeddings, strict=False)
        ]
        return replace(
            self,
            embeddings=embeddings,
            descriptors=np.vstack([self.descriptors, support.descriptors]),
            compositions=[*self.compositions, *compositions_of(support)],
            own=self.own + len(support),
            partly_empty=self.partly_empty or bool(_partly_empty(support).any()),
        )

    @property
    def elements(self) -> frozenset[int]:
        """Atomic numbers that are known."""
        return self.met.union(*self.compositions)

    def placed(self, crystals: EncodedCrystals) -> EncodedCrystals:
        """Return crystals with their distance to the nearest labelled one.

        In the networks' embeddings, mean over the members. Above 1, too, where atoms are packed as
        in no labelled crystal: embeddings do not tell it, since layers in a vacuum have the
        neighbours that they have in a solid.
        """
        if not len(self.descriptors):
            return replace(crystals, distance=np.full(len(crystals), np.inf))
        near = [
            nearest_distances(own, known) / unit
            for own, known, unit in zip(
                crystals.embeddings, self.embeddings, self.far, strict=False
            )
        ]
        distance, packing = np.mean(near, 0, dtype=float), self.packing(crystals.descriptors)
        beyond = packing > 1 + ROUNDING
        return replace(crystals, distance=np.where(beyond, np.maximum(distance, packing), distance))

    def packing(self, descriptors: np.ndarray) -> np.ndarray:
        """Return how far the packing of atoms is from the middle of the labelled ones' range, [n].

        In halves of that range: above 1 is denser, looser or more uneven than any labelled crystal.
        Few labels of a property of one's own have no range worth the name: 0.
        """
        if self.own == len(self.descriptors):
            return np.zeros(len(descriptors))
        own, known = descriptors[:, PACKING], self.descriptors[:, PACKING]
        low, high = known.min(0), known.max(0)
        return (np.abs(2 * own - low - high) / np.maximum(high - low, 1e-6)).max(1)

    def outside(self, crystals: EncodedCrystals) -> tuple[list[str], list[str]]:
        """Return why each placed crystal is outside of the domain, '' where it is inside.

        With them the symbols of the elements that no labelled crystal holds.
        """
        known, counts = self.elements, [len(own) for own in self.compositions]
        # so many elements, or more, have at least `FEWEST` crystals
        most = max(sorted(counts)[-FEWEST : -FEWEST + 1], default=0)
        most = max([most, *counts[len(counts) - self.own :]])
        packing = self.packing(crystals.descriptors)
        empty = _partly_empty(crystals) & (not self.partly_empty)
        reasons, unseen = [], []
        for row, own in enumerate(compositions_of(crystals)):
            new = symbols(own - known)
            said = []
            if packing[row] > 1 + ROUNDING:
                said.append("atoms packed as in no labelled crystal")
            elif crystals.distance[row] > 1:
                said.append(f"far from all labelled crystals ({crystals.distance[row]:.2f})")
            if new:
                said.append(f"no labelled crystal holds {new}")
            if empty[row]:
                said.append("sites partly empty, and in no labelled crystal")
            if len(own) > most and self.own < len(self.compositions):
                said.append(f"{len(own)} elements, labelled crystals have at most {most}")
            metals = all(element_of(z).is_metal for z in own)
            # a few labelled insulators are of metals alone
            if self.item.insulators and metals and crystals.distance[row] > ROUNDING:
                said.append("all elements are metals, and only insulators are labelled")
            reasons.append("; ".join(said))
            unseen.append(new)
        return reasons, unseen


def _partly_empty(crystals: EncodedCrystals) -> np.ndarray:
    return are_partly_empty(crystals.crystals.table) if len(crystals) else np.zeros(0, bool)


def compositions_of(crystals: EncodedCrystals) -> list[frozenset[int]]:
    """Return the elements of crystals, by atomic number."""
    if not len(crystals):
        return []
    numbers = crystals.crystals.table["atomic_numbers"]
    return [frozenset(map(int, np.unique(np.asarray(own)))) for own in numbers]


def symbols(numbers: frozenset[int]) -> str:
    """Return the symbols of elements, in the order of their numbers."""
    return " ".join(element_of(z).symbol for z in sorted(numbers))
