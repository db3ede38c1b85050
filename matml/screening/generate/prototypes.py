"""Prototype structures: which sites a family has, which ions sit on them, and how large it is."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from matml.core.errors import MatmlError
from matml.screening.data.known import family_rows
from matml.screening.generate import perovskites
from matml.screening.generate.ions import Ion, balanced_charges, ion
from matml.structures.disorder.atoms import are_disordered
from matml.structures.elements import structure_of

# Shannon's anion radii hardly depend on coordination; six is the convention of the factors above
ANION_COORDINATION = 6
SHELL_WIDTH = 1.25
LARGEST_SAMPLE = 200
FEWEST_MEMBERS = 5


@dataclass(frozen=True)
class Site:
    """One kind of site of a prototype, filled by one element.

    Attributes
    ----------
    name
        A, B, C … for cations by falling coordination; X, Y, Z for anions.
    count
        Atoms on it in one formula unit.
    coordination
        Number of nearest ions of opposite charge (six by convention for an anion).
    """

    name: str
    count: int
    coordination: int
    is_anion: bool


@dataclass(frozen=True)
class Member:
    """A known crystal of the family whose charges balance: its ions by site and its size.

    `size` is the cube root of the volume per atom, in angstrom.
    """

    id: str
    formula: str
    ions: tuple[Ion, ...]
    size: float


@dataclass(frozen=True)
class Prototype:
    """A parent structure into whose sites other ions are put.

    Attributes
    ----------
    parent
        The structure that is copied and scaled.
    site_of_atom
        For each atom of `parent`, the index of its site in `sites`.
    members
        Known crystals, for the volume guess; empty where none were given.
    n_known
        Crystals of the family looked at, balanced or not.
    """

    family: str
    parent: Structure
    site_of_atom: tuple[int, ...]
    sites: tuple[Site, ...]
    members: tuple[Member, ...] = field(default=())
    n_known: int = 0

    @property
    def counts(self) -> np.ndarray:
        """Atoms per formula unit of each site, shape [S]."""
        return np.array([site.count for site in self.sites])

    @property
    def is_perovskite(self) -> bool:
        """Whether the sites are those of ABX3: A twelve-, B six-coordinated, three X."""
        return [(s.count, s.coordination, s.is_anion) for s in self.sites] == [
            (1, 12, False),
            (1, 6, False),
            (3, ANION_COORDINATION, True),
        ]


def built_in() -> Prototype:
    """The cubic perovskite from its ideal positions, without any known crystal."""
    structure, names = perovskites.cubic_cell()
    sites = tuple(
        Site(name, count, perovskites.COORDINATIONS[name], is_anion=name == "X")
        for name, count in perovskites.COUNTS.items()
    )
    order = [site.name for site in sites]
    return Prototype(perovskites.NAME, structure, tuple(order.index(name) for name in names), sites)


def row_structure(row: pd.Series) -> Structure:
    """The crystal of one row of `structures.parquet`."""
    return structure_of(row["lattice"], row["frac_coords"], row["atomic_numbers"])


def from_family(table: pd.DataFrame, family: str, spin: str = "high") -> Prototype:
    """The prototype of an ingested family, with its charge-balanced members.

    Elements are the units that are replaced: a site is all atoms of one element. Members are laid
    on each other with pymatgen's anonymous `StructureMatcher`, so that atoms may be listed in any
    order and the origin may differ. Which sites hold anions is what most members say; the parent
    is the member of median volume among those.

    Raises
    ------
    MatmlError
        Where fewer than five crystals have charge-neutral oxidation states with Shannon radii, so
        that substitution by charge makes no sense (alloys, say).
    """
    rows = family_rows(table, family)
    rows = rows[rows["duplicate_of"] == ""]
    # ions are put on sites that hold one element each
    rows = rows[~are_disordered(rows)]
    step = max(1, -(-len(rows) // LARGEST_SAMPLE))
    structures = {row["id"]: row_structure(row) for _, row in rows.iloc[::step].iterrows()}
    found = {name: _charges(structure) for name, structure in structures.items()}
    charges = {name: own for name, own in found.items() if own is not None}
    balanced = list(charges)
    if len(balanced) < FEWEST_MEMBERS:
        raise _too_few(family, len(balanced), len(structures))
    matcher = StructureMatcher(primitive_cell=False, attempt_supercell=False)
    reference = structures[balanced[0]]
    slots = [element.symbol for element in reference.composition.elements]
    elements_of: dict[str, tuple[str, ...]] = {}
    for name in balanced:
        _, mapping = matcher.get_rms_anonymous(reference, structures[name]) or (None, None)
        if mapping is not None:
            by_symbol = {old.symbol: new.symbol for old, new in mapping.items()}
            elements_of[name] = tuple(by_symbol[slot] for slot in slots)
    # the sign pattern that most members share tells anion sites from cation sites
    signs = {
        name: tuple(charges[name][symbol] < 0 for symbol in symbols)
        for name, symbols in elements_of.items()
    }
    pattern = Counter(signs.values()).most_common(1)[0][0]
    fitting = [name for name in elements_of if signs[name] == pattern]
    sizes = {name: _size(structures[name]) for name in fitting}
    parent_name = sorted(fitting, key=sizes.__getitem__)[len(fitting) // 2]
    parent = structures[parent_name]
    sites, order = _sites(parent, elements_of[parent_name], pattern)
    members = []
    for name in fitting:
        symbols = [elements_of[name][k] for k in order]
        ions = [
            ion(symbol, charges[name][symbol], site.coordination, spin)
            for symbol, site in zip(symbols, sites, strict=True)
        ]
        known = tuple(entry for entry in ions if entry is not None)
        if len(known) == len(ions):
            formula = structures[name].composition.reduced_formula
            members.append(Member(name, formula, known, sizes[name]))
    if len(members) < FEWEST_MEMBERS:
        raise _too_few(family, len(members), len(structures))
    symbols = [elements_of[parent_name][k] for k in order]
    return Prototype(
        family=family,
        parent=parent,
        site_of_atom=tuple(symbols.index(atom.specie.symbol) for atom in parent),
        sites=sites,
        members=tuple(members),
        n_known=len(structures),
    )


def _too_few(family: str, n_balanced: int, n_known: int) -> MatmlError:
    return MatmlError(
        f"--family {family!r}: {n_balanced} of its {n_known} crystals have charge-neutral "
        f"oxidation states with Shannon radii, at least {FEWEST_MEMBERS} are needed to exchange "
        f"ions in it; choose an ionic family, such as {perovskites.NAME!r} (built in), or give "
        "your own structures to `matml screen`"
    )


def _charges(structure: Structure) -> dict[str, int] | None:
    """Charge of each element of a structure, None where nothing balances."""
    amounts = structure.composition.as_reduced_dict()
    found = balanced_charges(list(amounts), [int(n) for n in amounts.values()])
    return None if found is None else dict(zip(amounts, found, strict=True))


def _size(structure: Structure) -> float:
    """Cube root of the volume per atom, angstrom."""
    return float(np.cbrt(structure.volume / len(structure)))


def _sites(
    parent: Structure, symbols: tuple[str, ...], pattern: tuple[bool, ...]
) -> tuple[tuple[Site, ...], list[int]]:
    """Sites in the order cations by falling coordination, then anions; and that order of slots."""
    anions = {symbol for symbol, is_anion in zip(symbols, pattern, strict=True) if is_anion}
    amounts = parent.composition.as_reduced_dict()
    coordination = {symbol: ANION_COORDINATION for symbol in anions}
    for symbol in set(symbols) - anions:
        coordination[symbol] = _cation_coordination(parent, symbol, anions)
    order = sorted(
        range(len(symbols)),
        key=lambda k: (pattern[k], -coordination[symbols[k]], -amounts[symbols[k]], k),
    )
    names = iter("ABCDEFGH"), iter("XYZWVUT")
    sites = tuple(
        Site(
            name=next(names[pattern[k]]),
            count=int(amounts[symbols[k]]),
            coordination=coordination[symbols[k]],
            is_anion=pattern[k],
        )
        for k in order
    )
    return sites, order


def _cation_coordination(structure: Structure, symbol: str, anions: set[str]) -> int:
    """Anions within 1.25 times the shortest distance, averaged over the atoms of an element."""
    numbers = []
    for atom in structure:
        if atom.specie.symbol == symbol:
            cutoff = 4.0
            shell: list[float] = []
            while not shell:
                shell = [
                    near.nn_distance
                    for near in structure.get_neighbors(atom, cutoff)
                    if near.specie.symbol in anions
                ]
                cutoff *= 1.5
            nearest = min(shell)
            wide = structure.get_neighbors(atom, SHELL_WIDTH * nearest)
            numbers.append(sum(near.specie.symbol in anions for near in wide))
    return round(float(np.mean(numbers)))
