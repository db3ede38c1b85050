"""Stability: distance to the convex hull of the known entries' formation energies."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Composition
from scipy.spatial import ConvexHull

import matml.structures.elements  # noqa: F401  (silences noble gases)
from matml.screening.objectives import FORMATION_ENERGY
from matml.structures.disorder.atoms import amounts, occupancies
from matml.structures.elements import element_of

CACHED_SYSTEMS = 20_000


@dataclass(frozen=True)
class Coverage:
    """How well a chemical system is covered by known entries.

    Attributes
    ----------
    n_entries
        Known compounds in the system, all its subsystems included.
    missing
        Pairs of elements of which the entries hold no binary compound, and elements that stand in
        none of their compounds, as `A-B` and `A`.
    """

    n_entries: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.missing)


class KnownHull:
    """Convex hulls of formation energies over composition, one per chemical system, made on demand.

    The hull of a system is that of its known compounds and its elements, whose formation energy
    is zero by definition. Since the energy at a composition is what the *known* entries can reach,
    an energy above it is a lower bound: phases nobody entered can only make a candidate less
    stable.

    Parameters
    ----------
    compositions, energies
        Atomic numbers of each known crystal's cell and formation energy in eV/atom; the lowest
        energy of each composition counts.
    shares
        Shares of the cells in which the atoms are there; by default ordered crystals.
    """

    def __init__(
        self,
        compositions: Sequence[np.ndarray],
        energies: np.ndarray,
        shares: Iterable[np.ndarray | None] | None = None,
    ) -> None:
        best: dict[tuple[tuple[int, float], ...], float] = {}
        for numbers, energy, share in zip(
            compositions, energies, shares or [None] * len(compositions), strict=True
        ):
            if np.isfinite(energy):
                key = reduced(numbers, share)
                best[key] = min(best.get(key, np.inf), float(energy))
        self.by_system: dict[frozenset[int], list[tuple[dict[int, float], float]]] = {}
        for key, energy in best.items():
            total = sum(n for _, n in key)
            fractions = {z: n / total for z, n in key}
            self.by_system.setdefault(frozenset(fractions), []).append((fractions, energy))
        self.elements = frozenset().union(*self.by_system) if self.by_system else frozenset()
        self.cache: OrderedDict[tuple[int, ...], tuple[np.ndarray, Coverage]] = OrderedDict()

    @classmethod
    def of(cls, known: pd.DataFrame) -> "KnownHull":
        """The hull of a table with the columns of `structures.parquet`."""
        rows = known[known[FORMATION_ENERGY].notna()] if FORMATION_ENERGY in known else known[:0]
        energies = rows[FORMATION_ENERGY].to_numpy(float) if len(rows) else np.zeros(0)
        return cls(rows["atomic_numbers"].tolist(), energies, occupancies(rows))

    def __len__(self) -> int:
        return sum(map(len, self.by_system.values()))

    def energy(
        self, numbers: np.ndarray, occupancy: np.ndarray | None = None
    ) -> tuple[float, Coverage]:
        """Energy of the hull at a crystal's composition, eV/atom, and how well it is known there.

        Parameters
        ----------
        numbers, occupancy
            Atomic numbers of its atoms, and the shares of the cells in which they are there.
        """
        kinds, counts = amounts(numbers, occupancy)
        system = tuple(int(z) for z in kinds)
        if system not in self.cache:
            self.cache[system] = self._facets(system)
            if len(self.cache) > CACHED_SYSTEMS:
                self.cache.popitem(last=False)
        facets, coverage = self.cache[system]
        # the lower hull is convex: the largest of its facets' planes
        fractions = counts / counts.sum()
        return float((facets[:, :-1] @ fractions[1:] + facets[:, -1]).max()), coverage

    def entries(self, system: tuple[int, ...]) -> list[tuple[dict[int, float], float]]:
        """Known compounds in a chemical system: atomic fractions and formation energy."""
        subsets = (
            frozenset(part)
            for size in range(1, len(system) + 1)
            for part in itertools.combinations(system, size)
        )
        return [entry for part in subsets for entry in self.by_system.get(part, [])]

    def _facets(self, system: tuple[int, ...]) -> tuple[np.ndarray, Coverage]:
        """Planes over the fractions of all but the first element, [facets, elements], of a hull."""
        entries = self.entries(system)
        compounds = [entry for entry in entries if len(entry[0]) > 1]
        known_pairs = {frozenset(f) for f, _ in compounds if len(f) == 2}
        missing = [element_of(z).symbol for z in system if z not in self.elements]
        missing += [
            "-".join(element_of(z).symbol for z in pair)
            for pair in itertools.combinations(system, 2)
            if frozenset(pair) not in known_pairs
        ]
        coverage = Coverage(len(compounds), tuple(missing))
        stable = [(f, energy) for f, energy in compounds if energy < 0]
        if len(system) == 1 or not stable:
            return np.zeros((1, len(system))), coverage
        corners = np.vstack([np.zeros(len(system) - 1), np.eye(len(system) - 1)])
        inside = np.array([[f.get(z, 0.0) for z in system[1:]] for f, _ in stable])
        # one point far above closes the hull from above, whatever lies below
        top = np.full((1, len(system) - 1), 1 / len(system))
        points = np.vstack([corners, inside, top])
        heights = [0.0] * len(corners) + [energy for _, energy in stable] + [1.0]
        equations = ConvexHull(np.column_stack([points, heights])).equations
        lower = equations[equations[:, -2] < -1e-9]
        return -np.delete(lower, -2, axis=1) / lower[:, [-2]], coverage

    def decomposition(self, numbers: np.ndarray, occupancy: np.ndarray | None = None) -> str:
        """What a crystal's composition falls into on the hull, e.g. `0.40 CaO + 0.60 TiO2`.

        By pymatgen's `PhaseDiagram`; shares are of the atoms.
        """
        composition = Composition({element_of(int(z)): 1 for z in set(map(int, numbers))})
        system = tuple(sorted(element.Z for element in composition))
        # which brings matplotlib along
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

        entries = [PDEntry(Composition({element_of(z): 1}), 0.0) for z in system]
        for fractions, energy in self.entries(system):
            if len(fractions) > 1:
                shares = {element_of(z): share for z, share in fractions.items()}
                entries.append(PDEntry(Composition(shares), energy))
        kinds, counts = (part.tolist() for part in amounts(numbers, occupancy))
        wanted = Composition({element_of(z): n for z, n in zip(kinds, counts, strict=True)})
        parts = PhaseDiagram(entries).get_decomposition(wanted)
        named = _named(parts)
        return " + ".join(f"{share:.2f} {name}" for name, share in sorted(named.items()))


def _named(parts: Mapping[Any, float]) -> dict[str, float]:
    """Reduced formula of each part, from fractions that add to one atom, to its share."""
    found = {}
    for entry, share in parts.items():
        for atoms in range(1, 201):
            amounts = {e: n * atoms for e, n in entry.composition.fractional_composition.items()}
            if all(abs(n - round(n)) < 1e-4 for n in amounts.values()):
                whole = {element: round(n) for element, n in amounts.items()}
                found[Composition(whole).reduced_formula] = float(share)
                break
    return found


def reduced(
    numbers: np.ndarray, occupancy: np.ndarray | None = None
) -> tuple[tuple[int, float], ...]:
    """Atomic numbers with their amounts in the reduced formula, sorted; of mixtures with shares."""
    kinds, counts = amounts(numbers, occupancy)
    whole = counts.round().astype(int)
    if np.abs(counts - whole).max() < 1e-6:
        counts = whole // np.gcd.reduce(whole)
    else:
        counts = (counts / counts.sum()).round(5)
    return tuple(zip(kinds.tolist(), counts.tolist(), strict=True))
