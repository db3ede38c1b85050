"""One document or structure to finished records: parse, check, symmetry, family."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from pymatgen.core import Composition, IStructure
from pymatgen.core.composition import reduce_formula

from matml.structures.check import atomic_numbers, check_geometry
from matml.structures.elements import element_of
from matml.structures.errors import BadCrystal
from matml.structures.families import classify
from matml.structures.io.entries import DECLARED
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.cell import cell_volume
from matml.structures.symmetry.search import Symmetry, symmetrise
from matml.structures.symmetry.subgroups import refuse_other_symmetry

FAR_CELLS = 4.0
"""Positions up to here are left as they are."""
FARTHEST_CELLS = 1e6
"""Beyond, double precision leaves less than ten digits within the cell."""


@dataclass(frozen=True)
class Crystal:
    """What is known of one good crystal, in its idealised primitive cell (columns of the table)."""

    formula: str
    anonymous_formula: str
    n_sites: int
    volume_per_atom_A3: float
    space_group_number: int
    prototype: str
    family: str
    common_name: str
    lattice: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    orbit: np.ndarray
    notes: str


def crystal_of(
    structure: IStructure,
    settings: StructuresSection,
    notes: list[str],
    declared: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> Crystal:
    """Check a structure and find its symmetry and family; `declared` as of `crystal_of_cell`.

    Raises
    ------
    BadCrystal
        Where a check fails.
    """
    lattice, frac_coords, numbers, more = cell_of(structure)
    declared = {**structure.properties.get(DECLARED, {}), **declared}
    return crystal_of_cell(lattice, frac_coords, numbers, settings, [*notes, *more], declared)


def cell_of(structure: IStructure) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Lattice, fractional coordinates and atomic numbers as of `crystal_of_cell`, and notes.

    Raises
    ------
    BadCrystal
        For a structure that is not periodic or not ordered.
    """
    if not structure.is_3d_periodic:
        raise BadCrystal("not periodic in all three directions", "give a bulk crystal")
    numbers, notes = atomic_numbers(structure)
    lattice = np.ascontiguousarray(structure.lattice.matrix)
    return lattice, np.ascontiguousarray(structure.frac_coords), numbers, notes


def crystal_of_cell(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    settings: StructuresSection,
    notes: Sequence[str] = (),
    declared: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> Crystal:
    """Check a cell and find its symmetry and family.

    Parameters
    ----------
    lattice, frac_coords, numbers
        Row vectors (3, 3) in angstrom, fractional positions (atoms, 3), atomic numbers (atoms,).
    declared
        What is declared of its symmetry, in words, with the space groups that it may be.

    Raises
    ------
    BadCrystal
        Where a check fails, or the sites have not the declared symmetry.
    """
    frac_coords = folded(frac_coords)
    # infinite numbers are told by the check
    with np.errstate(invalid="ignore"):
        cartesian = np.ascontiguousarray(frac_coords @ lattice)
    check_geometry(lattice, cartesian, numbers, settings)
    shape, symmetry = symmetries(lattice, frac_coords, numbers, settings)
    number = shape.space_group_number
    if other := {said: may for said, may in declared.items() if number not in may}:
        refuse_other_symmetry(lattice, frac_coords, numbers, other)
        # a lower one, or by another tolerance
        notes = [*notes, f"{next(iter(other))} is declared, the sites have {number}"]
    prototype, family, name = classify(shape)
    amounts = Counter(symmetry.kind.tolist())
    return Crystal(
        formula=reduced_formula(tuple(sorted(amounts.items()))),
        anonymous_formula=anonymised_formula(tuple(sorted(amounts.values()))),
        n_sites=len(symmetry.kind),
        volume_per_atom_A3=cell_volume(symmetry.lattice) / len(symmetry.kind),
        space_group_number=number,
        prototype=prototype,
        family=family,
        common_name=name,
        lattice=symmetry.lattice,
        frac_coords=symmetry.frac_coords,
        atomic_numbers=symmetry.kind,
        orbit=symmetry.orbit,
        notes="; ".join(notes),
    )


def folded(frac_coords: np.ndarray) -> np.ndarray:
    """Return positions folded into the cell where any lies far outside; the search is bounded so.

    Raises
    ------
    BadCrystal
        For a position so far away that its digits do not tell where in the cell it is.
    """
    farthest = np.abs(frac_coords).max(initial=0.0)
    if not farthest > FAR_CELLS:
        return frac_coords
    if np.isfinite(farthest) and farthest > FARTHEST_CELLS:
        site = int(np.abs(frac_coords).max(axis=1).argmax())
        raise BadCrystal(
            f"site {site + 1} lies {farthest:.3g} cells away", "correct its coordinates"
        )
    with np.errstate(invalid="ignore"):
        return frac_coords - np.floor(frac_coords)


@lru_cache(maxsize=8192)
def reduced_formula(amounts: tuple[tuple[int, int], ...]) -> str:
    """pymatgen's reduced formula of atomic numbers with their amounts."""
    # what `Composition.reduced_formula` does, without building a composition
    formula, _ = reduce_formula({element_of(number).symbol: n for number, n in amounts})
    return Composition.special_formulas.get(formula, formula)


@lru_cache(maxsize=8192)
def anonymised_formula(amounts: tuple[int, ...]) -> str:
    """pymatgen's anonymised formula, which depends on the amounts of the elements alone."""
    return Composition({element_of(z): n for z, n in enumerate(amounts, 1)}).anonymized_formula


def symmetries(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    settings: StructuresSection,
) -> tuple[Symmetry, Symmetry]:
    """The symmetry that names the family, and the one that the crystal is snapped on to.

    Relaxed structures stray from their prototype by some hundredths of an angstrom, so families
    are told with `family_symprec_A` (the Materials Project and pymatgen's prototype labels take
    0.1 A, too). Where its ideal form is within `symprec_A` of the crystal, as mostly, both are
    the same; else the crystal keeps the lower symmetry that is.
    """
    wide = max(settings.family_symprec_A, settings.symprec_A)
    try:
        shape = symmetrise(lattice, frac_coords, numbers, wide)
    except BadCrystal:
        shape = symmetrise(lattice, frac_coords, numbers, settings.symprec_A)
    if shape.displacement <= settings.symprec_A or wide == settings.symprec_A:
        return shape, shape
    return shape, symmetrise(lattice, frac_coords, numbers, settings.symprec_A)
