"""From structures to crystals as the methods take them: graphs, descriptors, networks, distance."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pymatgen.core import IStructure, Structure

from matml.core.errors import MatmlError
from matml.properties.data.descriptors import PACKING
from matml.properties.methods.encoded import EncodedCrystals, encode
from matml.properties.networks.ensemble import Member, NetworkRecipe, nearest_distances
from matml.structures.crystals import CrystalSet, Structures, listed
from matml.structures.settings import GraphsSection, StructuresSection

CHUNK = 2048
"""Crystals encoded at once, which bounds memory."""
ROUNDING = 1e-4
"""By how much a training crystal at the edge of their packings may seem to lie beyond it."""


def beyond_packing(descriptors: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return how far the packing of atoms lies from the middle of the known crystals' range, [n].

    In halves of that range: above 1 is denser, looser or more uneven than any known crystal. The
    networks' embeddings do not tell it: layers in a vacuum have the neighbours that they have in a
    solid.

    Parameters
    ----------
    descriptors, known
        [n, features] and [training crystals, features].
    """
    own, others = descriptors[:, PACKING], known[:, PACKING]
    low, high = others.min(0), others.max(0)
    return (np.abs(2 * own - low - high) / np.maximum(high - low, 1e-6)).max(1)


@dataclass(frozen=True)
class KnownSpace:
    """Where the training crystals are, from which distances are measured.

    Attributes
    ----------
    embeddings
        Of the training crystals by one member of each fold, the first ones, [training, width].
    far
        Unit of the distances of each: the 95th percentile of those of training families that the
        member had not seen.
    descriptors
        Of the training crystals, [training, features].
    """

    embeddings: Sequence[np.ndarray]
    far: Sequence[float]
    descriptors: np.ndarray

    def distance(self, crystals: EncodedCrystals) -> np.ndarray:
        """Return the distance to the nearest training crystal, [n].

        In the networks' embeddings, mean over the members. Above 1, too, where atoms are packed as
        in no training crystal (`beyond_packing`).
        """
        near = [
            nearest_distances(own, known) / unit
            for own, known, unit in zip(
                crystals.embeddings, self.embeddings, self.far, strict=False
            )
        ]
        distance = np.mean(near, 0, dtype=float)
        packing = beyond_packing(crystals.descriptors, self.descriptors)
        return np.where(packing > 1 + ROUNDING, np.maximum(distance, packing), distance)


@dataclass(frozen=True)
class Encoder:
    """Makes of structures what the methods take.

    Attributes
    ----------
    known
        Where the training crystals are.
    structures, graphs
        How structures are read and graphs made.
    """

    members: Sequence[Member]
    recipe: NetworkRecipe
    known: KnownSpace
    structures: StructuresSection
    graphs: GraphsSection
    device: str

    def encode(self, structures: Structures) -> EncodedCrystals:
        """Return structures as the methods take them.

        Raises
        ------
        MatmlError
            Names the structure that cannot be used and why, or how the graphs of a `CrystalSet`
            differ from the model's.
        """
        if not isinstance(structures, CrystalSet):
            structures = CrystalSet.from_structures(
                _only_structures(listed(structures)),
                settings=self.structures,
                graph_section=self.graphs,
            )
        return self._encoded(structures)

    def stream(self, structures: Structures, processes: int = 1) -> Iterator[EncodedCrystals]:
        """Yield structures as the methods take them, some at a time, which bounds memory.

        Several `processes` build graphs ahead of this one. Errors as of `encode`.
        """
        if isinstance(structures, CrystalSet):
            for start in range(0, len(structures), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(structures)))
                yield self._encoded(structures.subset(rows))
            return
        parts = CrystalSet.stream(
            _only_structures(listed(structures)),
            settings=self.structures,
            graph_section=self.graphs,
            processes=processes,
        )
        yield from map(self._encoded, parts)

    def _encoded(self, crystals: CrystalSet) -> EncodedCrystals:
        """Return crystals as the methods take them; refuse those that are not whole."""
        if len(crystals.quarantine):
            bad = crystals.quarantine.iloc[0]
            raise MatmlError(f"structure {bad['id']}: {bad['reason']}; {bad['remedy']}")
        self.recipe.check_graphs(crystals.graphs.settings, "crystals")
        encoded = encode(crystals, self.members, self.device)
        return replace(encoded, distance=self.known.distance(encoded))


def _only_structures(given: list[Structure]) -> list[Structure]:
    """Return structures; raise MatmlError for anything else."""
    for index, structure in enumerate(given):
        if not isinstance(structure, IStructure):
            raise MatmlError(
                f"structure {index}: is a {type(structure).__name__}; give a pymatgen Structure "
                "(`Structure.from_file` reads one)"
            )
    return given
