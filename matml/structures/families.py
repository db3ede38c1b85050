"""Prototype label, site roles and family of a crystal: functions of the crystal alone.

The *prototype* is the AFLOW-style label without elements, e.g. `ABC3_cP5_221_a_b_c`: anonymous
formula, Pearson symbol, space group, and the Wyckoff letters of each element, made independent of
the choice of origin and of element names with pymatgen's Wyckoff relabelling tables (Goodall et
al., Sci. Adv. 8, eabn4117 (2022)). It equals what
`pymatgen.analysis.prototypes.get_prototype_from_protostructure` returns; the tables are read
here directly because importing that package loads a structure library for several seconds.

The *family* is the prototype, and behind it the slots that anions occupy where they are not the
usual ones: `ABC3_cP5_221_a_b_c` is the perovskite, `ABC3_cP5_221_a_b_c-anionB` the antiperovskite.
"""

import gzip
import json
from collections import Counter
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.util import find_spec
from math import gcd
from pathlib import Path
from types import MappingProxyType

import numpy as np

from matml.structures.elements import ELECTRONEGATIVITY, element_of
from matml.structures.graphs.neighbours import neighbour_search
from matml.structures.prototypes import PROTOTYPES
from matml.structures.symmetry.cell import first_places
from matml.structures.symmetry.search import Symmetry

SLOTS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# elements that form anions with any metal, and those that do where no such element is present
STRONG_ANIONS = frozenset(["H", "B", "C", "N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I", "At"])
WEAK_ANIONS = frozenset(["Si", "P", "Ge", "As", "Sn", "Sb", "Pb", "Bi"])
EQUALLY_NEAR_A = 1e-4
# space groups of mirror-image structures: the higher number to the lower
MIRROR_IMAGE = {78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152}
MIRROR_IMAGE |= {170: 169, 172: 171, 179: 178, 181: 180, 213: 212}


@cache
def relabellings() -> dict[int, tuple[dict[int, str], ...]]:
    """Equivalent renamings of Wyckoff letters under a change of origin, by space group."""
    return {
        int(number): tuple({int(old): new for old, new in table.items()} for table in tables)
        for number, tables in _pymatgen_table("wyckoff-position-relabelings").items()
    }


def _pymatgen_table(name: str) -> dict:
    """One of the tables of `pymatgen.analysis.prototypes`, without importing that package."""
    found = find_spec("pymatgen.analysis")
    places = found.submodule_search_locations if found else None
    folder = Path((places or [""])[0]) / "prototypes"
    return json.loads(gzip.decompress((folder / f"{name}.json.gz").read_bytes()))


def anonymous_formula(amounts: list[int]) -> str:
    """`ABC3` for the amounts 3, 1, 1: letters by rising amount."""
    divisor = gcd(*amounts)
    parts = zip(SLOTS, sorted(amount // divisor for amount in amounts), strict=False)
    return "".join(f"{slot}{amount if amount > 1 else ''}" for slot, amount in parts)


@lru_cache(maxsize=8192)
def canonical_sites(
    space_group: int, elements: tuple[tuple[int, str, int], ...]
) -> tuple[str, tuple[int, ...]]:
    """Wyckoff part of the prototype label, and the role of each of its slots.

    Parameters
    ----------
    space_group
        International number.
    elements
        Per element: amount, Wyckoff letters of its orbits (sorted), and a number for its role.

    Returns
    -------
    str, tuple of int
        Letters per slot joined by `_`, with the lowest sum of letters and then the first in
        order among all equivalent choices of origin; roles in the order of the slots, the
        smallest in order where several choices give the same letters.
    """
    best: tuple[int, str, tuple[int, ...]] | None = None
    for table in relabellings()[space_group]:
        slots = []
        score = 0
        for amount, letters, role in elements:
            renamed = sorted(letters.translate(table))
            # "A" is the 27th position of Pmmm; pymatgen scores it 0
            score += sum(0 if letter == "A" else ord(letter) - 96 for letter in renamed)
            counted = "".join(
                f"{renamed.count(letter) if renamed.count(letter) > 1 else ''}{letter}"
                for letter in dict.fromkeys(renamed)
            )
            # the trailing "_" orders parts as the joined string would be
            slots.append((amount, counted + "_", role))
        slots.sort()
        label = "".join(text for _, text, _ in slots).rstrip("_")
        candidate = (score, label, tuple(role for _, _, role in slots))
        if best is None or candidate < best:
            best = candidate
    assert best is not None
    return best[1], best[2]


def anions_of(lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray) -> set[str]:
    """Elements that are anions in a crystal.

    Strong anion formers count where the nearest atom of another element is a metal or a
    nonmetal of lower electronegativity (so S is no anion in a sulfate); where there is none,
    metalloids and pnictogens count by the same rule.

    Parameters
    ----------
    lattice, frac_coords, numbers
        Row vectors (3, 3) in angstrom, coordinates (atoms, 3) and atomic numbers of a cell.
    """
    symbols = {number: element_of(number).symbol for number in sorted(set(numbers.tolist()))}
    nonmetals = [n for n, s in symbols.items() if s in STRONG_ANIONS or s in WEAK_ANIONS]
    if len(symbols) == 1:
        return set()
    for candidates in (STRONG_ANIONS, WEAK_ANIONS):
        found = {symbols[number] for number in nonmetals if symbols[number] in candidates}
        if len(nonmetals) > 1:
            found = {
                symbols[number]
                for number in nonmetals
                if symbols[number] in candidates
                and _takes_electrons(
                    symbols[number],
                    symbols[_nearest_element(lattice, frac_coords, numbers, number)],
                )
            }
        if found:
            return found
    return set()


def _takes_electrons(symbol: str, partner: str) -> bool:
    """Whether a nonmetal takes electrons from an element next to it."""
    metal = partner not in STRONG_ANIONS and partner not in WEAK_ANIONS
    return metal or ELECTRONEGATIVITY[partner] < ELECTRONEGATIVITY[symbol]


def _nearest_element(
    lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray, number: int
) -> int:
    """The other element next to atoms of one; the lower atomic number of two equally near."""
    lattice, cartesian = np.ascontiguousarray(lattice), np.ascontiguousarray(frac_coords @ lattice)
    centres, radius = (numbers == number).nonzero()[0], 3.0
    while True:
        _, neighbour, distance = neighbour_search(lattice, cartesian, centres, radius)
        other = numbers[neighbour]
        distance = np.where(other == number, np.inf, distance)
        if np.isfinite(nearest := distance.min(initial=np.inf)):
            return int(other[distance <= nearest + EQUALLY_NEAR_A].min())
        radius *= 1.5


def classify(
    symmetry: Symmetry, elements: Mapping[int, int] = MappingProxyType({})
) -> tuple[str, str, str]:
    """Return prototype, family and common name ('' if none) of a crystal.

    Parameters
    ----------
    symmetry
        With atomic numbers for `kind`, or numbers of mixtures.
    elements
        The atomic number by which a mixture is judged.
    """
    amounts = Counter(symmetry.kind.tolist())
    kinds = sorted(amounts)
    counts = [amounts[kind] for kind in kinds]
    numbers = symmetry.kind
    if elements:
        numbers = np.array([elements.get(kind, kind) for kind in numbers.tolist()])
    anionic = anions_of(symmetry.lattice, symmetry.frac_coords, numbers)
    orbit_kind = symmetry.kind[first_places(symmetry.orbit.tolist())[1]].tolist()
    slots = []
    divisor = gcd(*counts)
    for kind, count in zip(kinds, counts, strict=True):
        symbol = element_of(elements.get(kind, kind)).symbol
        letters = "".join(
            sorted(w for w, k in zip(symmetry.wyckoff, orbit_kind, strict=True) if k == kind)
        )
        strength = 0 if symbol not in anionic else 2 if symbol in STRONG_ANIONS else 1
        slots.append((count // divisor, letters, strength))
    sites, roles = canonical_sites(symmetry.space_group_number, tuple(sorted(slots)))
    prototype = (
        f"{anonymous_formula(counts)}_{symmetry.pearson_symbol}_"
        f"{symmetry.space_group_number}_{sites}"
    )
    family, name = family_of(prototype, roles)
    return prototype, family, name


def family_of(prototype: str, roles: tuple[int, ...]) -> tuple[str, str]:
    """Family and common name from a prototype and the role of each slot.

    Roles are 2 for an anion, 1 for a metalloid or pnictogen in that place, 0 for neither.
    """
    formula, pearson, number, sites = prototype.split("_", 3)
    # mirror images have the same distances, hence one family
    number = str(MIRROR_IMAGE.get(int(number), int(number)))
    label = f"{formula}_{pearson}_{number}_{sites}"
    known = PROTOTYPES.get(label)
    threshold = 1 if known is not None and known.metalloids else 2
    anionic = "".join(slot for slot, role in zip(SLOTS, roles, strict=False) if role >= threshold)
    if known is None:
        return (f"{label}-anion{anionic}" if anionic else label), ""
    if known.usual is None or set(anionic) <= set(known.usual):
        return label, known.name
    return f"{label}-anion{anionic}", known.others.get(anionic, "")
