"""From structures to crystals as the methods take them: graphs, descriptors, networks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from matml.core.errors import MatmlError
from matml.properties.methods.encoded import EncodedCrystals, encode
from matml.properties.networks.ensemble import Member, NetworkRecipe
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.settings import GraphsSection, StructuresSection

CHUNK = 2048
"""Crystals encoded at once, which bounds memory."""


@dataclass(frozen=True)
class Encoder:
    """Makes of structures what the methods take.

    Attributes
    ----------
    structures, graphs
        How structures are read and graphs made.
    """

    members: Sequence[Member]
    recipe: NetworkRecipe
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
                structures, settings=self.structures, graph_section=self.graphs
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
            structures,
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
        return encode(crystals, self.members, self.device)
