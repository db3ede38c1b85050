"""Is this a crystal? Known elements, at most one atom on a site, room for all, in angstrom."""

import re
from collections.abc import Iterable

import numpy as np
from pymatgen.core import IStructure
from pymatgen.core.periodic_table import DummySpecies, Element, Species
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.disorder.sites import (
    FIRST_MIXTURE,
    FULL,
    LEAST,
    Mixture,
    Sites,
    kind_of,
    mixture_of,
    slack,
)
from matml.structures.elements import MAX_ATOMIC_NUMBER, shown, unbalanced
from matml.structures.errors import BadCrystal
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.cell import cell_volume, inverse, is_too_long

PERIODIC = np.ones(3, dtype=np.int64)
VACANCY = re.compile(r"x|vac|vacancy|void|va", re.IGNORECASE)
"""What stands for the share of a site that is empty."""
TIGHT, LOOSE = 0.62, 1.5
"""Distances of nearest atoms by the sum of their covalent radii: not all of a crystal's are below
the first, nor above the second. Of the 6,175 embedded ones the loosest atom has .669 (Pu) or more,
the tightest 1.295 (HgF2) or less, but for crystals of `UNBONDED`; of 4,667 candidates whose ions
were exchanged .806 (BaO) or more and 1.410 (TlF) or less."""
UNBONDED = frozenset((1, 2, 10, 18, 36, 54))
"""Elements whose atoms need no bond: noble gases, and hydrogen of its own."""
USUAL = (0.63, 1.3)
"""The tightest atom's in angstrom."""
UNITS = (
    (0.529177, "are its lengths in bohr? multiply them by 0.529177"),
    (1.889726, "were angstroms taken for bohr? multiply its lengths by 1.889726"),
    (10.0, "are its lengths in nanometres? multiply them by 10"),
    (0.1, "were angstroms taken for nanometres? divide its lengths by 10"),
    (0.01, "are its lengths in picometres? divide them by 100"),
    (1e10, "are its lengths in metres? multiply them by 1e10"),
)
"""Factors to angstrom."""
SCALE_A3, REACH_A = 15.0, 6.0
"""Volume per atom at which contacts are searched, and how far: every atom then has one."""


def site_kinds(structure: IStructure) -> tuple[np.ndarray, list[Mixture], list[str]]:
    """What sites hold, as of `Sites`: kinds [sites] and mixtures; and notes on what was left out.

    Raises
    ------
    BadCrystal
        For a site that holds nothing, more than one atom, a dummy or a heavy-hydrogen isotope.
    """
    kinds = np.empty(len(structure), dtype=np.int64)
    mixtures: list[Mixture] = []
    charges: list[float] = []
    for index, site in enumerate(structure):
        # `elements` and `num_atoms` are looked up, `items` is made anew
        species, occupancy = site.species.elements, site.species.num_atoms
        if len(species) == 1 and abs(occupancy - 1) <= 1e-6:
            kinds[index] = _atomic_number(species[0], index)
        else:
            kinds[index] = kind_of(_mixture(site.species.items(), index), mixtures)
        charges += [
            one.oxi_state * site.species[one]
            for one in species
            if isinstance(one, Species) and one.oxi_state
        ]
    notes = ["oxidation states removed"] if charges else []
    return kinds, mixtures, [*notes, *filter(None, [unbalanced(charges)])]


def _atomic_number(species: Element | Species | DummySpecies, index: int) -> int:
    """Return the atomic number of one occupant of a site."""
    element = getattr(species, "element", species)
    if isinstance(species, DummySpecies) or not isinstance(element, Element):
        raise BadCrystal(
            f"site {index + 1} holds {shown(species)}, which is not a chemical element",
            "put the real element on the site or delete it if it stands for a vacancy",
        )
    # pymatgen gives isotopes the symbol H; only the name tells
    if element.name in ("D", "T"):
        raise BadCrystal(
            f"site {index + 1} holds the isotope {element.name}",
            f"write H in place of {element.name}: isotopes are not distinguished here",
        )
    if element.Z > MAX_ATOMIC_NUMBER:
        raise BadCrystal(
            f"site {index + 1} holds {element.symbol} (Z = {element.Z})",
            f"only elements up to Z = {MAX_ATOMIC_NUMBER} are known here",
        )
    return element.Z


def _mixture(items: Iterable[tuple], index: int) -> Mixture:
    """Return what a shared or partly empty site holds."""
    shares: dict[int, float] = {}
    total, room = 0.0, None
    for species, share in items:
        total += share
        if isinstance(species, DummySpecies) and VACANCY.fullmatch(species.symbol):
            room = FULL  # what is said to be empty is
            continue
        z = _atomic_number(species, index)
        shares[z] = shares.get(z, 0.0) + share
    listed = " ".join(f"{shown(species)}{share:g}" for species, share in items) or "nothing"
    if min(shares.values(), default=0.0) < LEAST:
        raise BadCrystal(
            f"disordered: site {index + 1} holds {listed}",
            f"delete what is not there, or give the occupancies of its elements, from {LEAST} on",
        )
    if total > 1 + slack(shares.values()):
        raise BadCrystal(
            f"disordered: site {index + 1} holds {listed}, {total:.4g} atoms in all",
            "correct the occupancies of the site: they sum to 1 at most",
        )
    return mixture_of(shares, room)


def check_geometry(
    lattice: np.ndarray, cartesian: np.ndarray, sites: Sites, settings: StructuresSection
) -> None:
    """Check one cell.

    Parameters
    ----------
    lattice
        Row vectors, shape (3, 3), angstrom.
    cartesian
        Positions, shape (sites, 3), angstrom.
    sites
        What they hold.

    Raises
    ------
    BadCrystal
        Where the lattice is not finite, the volume per atom is out of range, atoms overlap, or all
        are nearer or farther apart than in any crystal.
    """
    if len(sites.kinds) == 0:
        raise BadCrystal("holds no atoms", "give at least one site")
    if not (np.isfinite(lattice).all() and np.isfinite(cartesian).all()):
        raise BadCrystal("lattice or coordinates are not finite numbers", "correct the numbers")
    volume = cell_volume(lattice)
    per_atom = volume / sites.atoms
    low, high = settings.min_volume_per_atom_A3, settings.max_volume_per_atom_A3
    if not low <= per_atom <= high:
        raise BadCrystal(
            f"volume per atom {per_atom:.4g} A^3 is outside {low:g} to {high:g}",
            (
                not is_too_long(lattice)
                and _unit_meant(_closest(lattice, cartesian, sites)[0], per_atom, settings)
            )
            or "check the lattice (in angstrom) and that no atom is missing or doubled",
        )
    heights = 1 / np.sqrt(np.square(inverse(lattice.tolist())).sum(axis=0))
    if heights.min() < 0.3 or np.square(lattice).sum(axis=1).max() > 1000**2:
        raise BadCrystal(
            f"the cell is degenerate: edges {np.round(np.linalg.norm(lattice, axis=1), 3)} A, "
            f"heights {np.round(heights, 3)} A",
            "give a reduced cell with edges in angstrom and angles between 20 and 160 degrees",
        )
    _check_lengths(lattice, cartesian, sites, settings, _fractions_meant(cartesian, heights))
    radii = sites.radii_A
    reach = settings.min_distance_ratio * 2 * float(radii.max())
    centre, other, image, distance = find_points_in_spheres(
        cartesian, cartesian, r=reach, pbc=PERIODIC, lattice=lattice, tol=1e-8
    )
    limit = settings.min_distance_ratio * (radii[centre] + radii[other])
    pair = distance < limit
    # each atom finds itself
    if np.count_nonzero(pair) > len(radii):
        pair &= (centre != other) | image.any(axis=1)
        worst = np.flatnonzero(pair)[np.argmin(distance[pair] / limit[pair])]
        i, j = int(centre[worst]), int(other[worst])
        raise BadCrystal(
            f"overlapping atoms: {sites.name(i)} and {sites.name(j)} are {distance[worst]:.3f} A "
            f"apart, less than {limit[worst]:.3f} A",
            _fractions_meant(cartesian, heights)
            or "delete the doubled site, or correct the cell or the coordinates",
        )


def _fractions_meant(cartesian: np.ndarray, heights: np.ndarray) -> str:
    """Return the remedy where all positions, [sites, 3], lie where fractions of the cell do."""
    if len(cartesian) < 2 or not np.abs(cartesian).max() <= 1 < heights.min() / 2:
        return ""
    return (
        "are its positions fractions, called Cartesian? say so (Direct in a POSCAR), or multiply "
        "them by the cell"
    )


def _check_lengths(
    lattice: np.ndarray,
    cartesian: np.ndarray,
    sites: Sites,
    settings: StructuresSection,
    meant: str,
) -> None:
    """Refuse a crystal all of whose atoms are nearer to one another than in any, or farther.

    `meant` is the remedy where it is not another unit.
    """
    radii = sites.radii_A
    # partly occupied sites may be near; whether too near is told with split sites
    tight = bool((sites.kinds < FIRST_MIXTURE).all())
    loose = not UNBONDED.issuperset(sites.kinds.tolist())
    for atom in range(len(radii)):
        reach = LOOSE * (radii + radii[atom])
        _, other, _, distance = find_points_in_spheres(
            cartesian,
            cartesian[atom : atom + 1],
            r=float(reach.max()),
            pbc=PERIODIC,
            lattice=lattice,
            tol=1e-8,
        )
        # all but itself; doubled ones overlap
        ratio = LOOSE * distance / reach[other]
        nearest = ratio[ratio > 1e-8].min(initial=np.inf)
        tight &= nearest < TIGHT
        loose &= nearest > LOOSE
        if not (tight or loose):
            return
    ratio, i, j, between = _closest(lattice, cartesian, sites)
    remedy = _unit_meant(ratio, cell_volume(lattice) / sites.atoms, settings)
    if tight and ratio < settings.min_distance_ratio and not remedy:
        return  # overlapping ones are told by name
    names = f"{sites.name(i)} and {sites.name(j)}"
    told = f"are {between:.3f} A apart, {ratio:.3g} times the sum of their covalent radii"
    raise BadCrystal(
        f"all atoms are nearer to one another than in any crystal: {names} {told}, and no atom is "
        f"{TIGHT:g} times as far from its nearest"
        if tight
        else f"atoms lie farther apart than in any crystal: the nearest, {names}, {told}, more "
        f"than {LOOSE:g}",
        remedy or meant or "check that no atom is missing, and that lengths are in angstrom",
    )


def _closest(
    lattice: np.ndarray, cartesian: np.ndarray, sites: Sites
) -> tuple[float, int, int, float]:
    """Return the least distance of two atoms by the sum of their radii, these, and the distance.

    Infinite where the cell has no volume.
    """
    radii = sites.radii_A
    volume = cell_volume(lattice)
    if not (np.isfinite(volume) and volume > 0):
        return np.inf, 0, 0, np.inf
    scale = (SCALE_A3 * sites.atoms / volume) ** (1 / 3)
    centre, other, image, distance = find_points_in_spheres(
        cartesian * scale,
        cartesian * scale,
        r=REACH_A,
        pbc=PERIODIC,
        lattice=lattice * scale,
        tol=1e-8,
    )
    apart = (centre != other) | image.any(axis=1)
    if not apart.any():
        return np.inf, 0, 0, np.inf
    centre, other, distance = centre[apart], other[apart], distance[apart] / scale
    ratio = distance / (radii[centre] + radii[other])
    first = int(ratio.argmin())
    return float(ratio[first]), int(centre[first]), int(other[first]), float(distance[first])


def _unit_meant(ratio: float, per_atom_A3: float, settings: StructuresSection) -> str:
    """Return in which unit tightest contact and volume would be usual ones, as a remedy."""
    low, high = settings.min_volume_per_atom_A3, settings.max_volume_per_atom_A3
    for factor, remedy in UNITS:
        if USUAL[0] <= factor * ratio <= USUAL[1] and low <= factor**3 * per_atom_A3 <= high:
            return remedy
    return ""
