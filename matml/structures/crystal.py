"""One document or structure to finished records: parse, check, symmetry, family."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from types import MappingProxyType

import numpy as np
from pymatgen.core import Composition, IStructure
from pymatgen.core.composition import reduce_formula

from matml.structures.check import check_geometry, site_kinds
from matml.structures.disorder.atoms import listed
from matml.structures.disorder.sites import FIRST_MIXTURE, Mixture, Sites, in_words
from matml.structures.disorder.split import merged
from matml.structures.elements import ELECTRONEGATIVITY, element_of
from matml.structures.errors import BadCrystal
from matml.structures.families import classify
from matml.structures.io.entries import DECLARED, SURFACES
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
    """What is known of one good crystal, in its idealised primitive cell (columns of the table).

    Of a disordered one, the occupants of a site are listed one after the other, at one place and
    each with its `occupancy`; `n_sites` counts the places.
    """

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
    occupancy: np.ndarray
    disordered: bool
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
    lattice, frac_coords, kinds, more, mixtures = cell_of(structure)
    declared = {**structure.properties.get(DECLARED, {}), **declared}
    notes = [*notes, *more]
    return crystal_of_cell(lattice, frac_coords, kinds, settings, notes, declared, mixtures)


def cell_of(
    structure: IStructure,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str], list[Mixture]]:
    """Lattice, fractional coordinates and kinds as of `crystal_of_cell`, notes, and mixtures.

    Raises
    ------
    BadCrystal
        For a structure that is not periodic, or a site that cannot be.
    """
    if not structure.is_3d_periodic or type(structure).__name__ in SURFACES:
        raise BadCrystal("not periodic in all three directions", "give a bulk crystal")
    kinds, mixtures, notes = site_kinds(structure)
    lattice = np.ascontiguousarray(structure.lattice.matrix)
    return lattice, np.ascontiguousarray(structure.frac_coords), kinds, notes, mixtures


def crystal_of_cell(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    kinds: np.ndarray,
    settings: StructuresSection,
    notes: Sequence[str] = (),
    declared: Mapping[str, Collection[int]] = MappingProxyType({}),
    mixtures: Sequence[Mixture] = (),
) -> Crystal:
    """Check a cell and find its symmetry and family.

    Parameters
    ----------
    lattice, frac_coords, kinds
        Row vectors (3, 3) in angstrom, fractional positions (sites, 3), and atomic numbers, or from
        `FIRST_MIXTURE` on the numbers of `mixtures`, (sites,).
    declared
        What is declared of its symmetry, in words, with the space groups that it may be.

    Raises
    ------
    BadCrystal
        Where a check fails, or the sites have not the declared symmetry.
    """
    sites = Sites(folded(frac_coords), kinds, mixtures)
    # infinite numbers are told by the check
    with np.errstate(invalid="ignore"):
        cartesian = np.ascontiguousarray(sites.frac_coords @ lattice)
    if mixtures and np.isfinite(lattice).all() and np.isfinite(cartesian).all():
        sites = merged(sites, lattice, settings.min_distance_ratio)
        cartesian = np.ascontiguousarray(sites.frac_coords @ lattice)
        notes = [*notes, _virtual(len(kinds), sites)]
    check_geometry(lattice, cartesian, sites, settings)
    shape, symmetry = symmetries(lattice, sites.frac_coords, sites.kinds, settings)
    number = shape.space_group_number
    if other := {said: may for said, may in declared.items() if number not in may}:
        refuse_other_symmetry(lattice, sites.frac_coords, sites.kinds, other)
        # a lower one, or by another tolerance
        notes = [*notes, f"{next(iter(other))} is declared, the sites have {number}"]
    main = {FIRST_MIXTURE + i: held[0][0] for i, held in enumerate(sites.mixtures)}
    prototype, family, name = classify(shape, main)
    amounts = Counter(symmetry.kind.tolist())
    ideal = Sites(symmetry.frac_coords, symmetry.kind, sites.mixtures)
    atoms = listed(ideal, symmetry.orbit)
    return Crystal(
        formula=formula_of_sites(ideal, amounts),
        anonymous_formula=anonymised_formula(tuple(sorted(amounts.values()))),
        n_sites=len(symmetry.kind),
        volume_per_atom_A3=cell_volume(symmetry.lattice) / ideal.atoms,
        space_group_number=number,
        prototype=prototype,
        family=family,
        common_name=name,
        lattice=symmetry.lattice,
        frac_coords=symmetry.frac_coords[atoms.site],
        atomic_numbers=atoms.numbers,
        orbit=atoms.orbit,
        occupancy=atoms.occupancy,
        disordered=bool(mixtures),
        notes="; ".join(notes),
    )


def _virtual(n_read: int, sites: Sites) -> str:
    """Return the note on a disordered crystal of which so many positions were read."""
    mixed = [kind for kind in dict.fromkeys(sites.kinds.tolist()) if kind >= FIRST_MIXTURE]
    told = ["virtual crystal"]
    if len(sites.kinds) < n_read:
        told.append(f"{n_read} positions, some of split sites, made {len(sites.kinds)}")
    if mixed:
        told.append(f"sites hold {', '.join(in_words(sites.held(kind)) for kind in mixed)}")
    return ": ".join((told[0], "; ".join(told[1:])))


def formula_of_sites(sites: Sites, amounts: Mapping[int, int]) -> str:
    """Reduced formula of sites by the number of each kind: of mixtures as in `Ba0.5Sr0.5TiO3`."""
    if max(amounts) < FIRST_MIXTURE:
        return reduced_formula(tuple(sorted(amounts.items())))
    unit, total = gcd(*amounts.values()), defaultdict[int, float](float)
    for kind, count in amounts.items():
        for z, share in sites.held(kind):
            total[z] += share * count / unit
    symbols = {element_of(z).symbol: amount for z, amount in total.items()}
    return "".join(
        f"{symbol}{_amount(amount)}"
        for symbol, amount in sorted(symbols.items(), key=lambda x: (ELECTRONEGATIVITY[x[0]], x[0]))
    )


def _amount(amount: float) -> str:
    """Return an amount as formulas show it: to three places, or its first digit behind them."""
    if abs(amount - 1) < 5e-4:
        return ""
    shown = f"{amount:.3f}" if amount >= 5e-4 else f"{amount:.1g}"
    return f"{float(shown):f}".rstrip("0").rstrip(".")


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
