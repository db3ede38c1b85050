"""The bonds that a CIF lists, held against the distances between its atoms."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.io.cif.tags import BONDED, UNKNOWN, finite_number

DISTANCE = "_geom_bond_distance"
TOLERANCE_A, HYDROGEN_A = 0.1, 0.2
"""How far a listed length may lie from the sites': it is corrected for thermal motion, and of bonds
to hydrogen for where neutrons see that."""
LONGEST_A = 6.0
"""Longer ones are no bonds, and not compared."""


@dataclass(frozen=True)
class Bond:
    """A bond between two sites by their labels, in lower case, and its length."""

    ends: tuple[str, str]
    length_A: float


def listed_bonds(block: dict[str, list[str]]) -> list[Bond]:
    """Return the bonds that a block gives a length, each once."""
    columns = [block.get(tag, []) for tag in (*BONDED, DISTANCE)]
    found: dict[Bond, None] = {}
    for one, other, text in zip(*columns, strict=False):
        if text not in UNKNOWN:
            length = finite_number(text, f"{DISTANCE} of {one} and {other}")
            found[Bond((one.lower(), other.lower()), length)] = None
    return list(found)


def other_bond(
    bonds: Sequence[Bond],
    names: Sequence[str],
    owners: np.ndarray,
    positions: np.ndarray,
    lattice: np.ndarray,
) -> str:
    """Return the first bond whose length no pair of its sites has, with both lengths, else ''.

    Parameters
    ----------
    names
        Of the sites.
    owners, positions
        Site [N] and fractional position [N, 3] of each atom of the cell.
    lattice
        Row vectors in angstrom, [3, 3].
    """
    number = {name.lower(): i for i, name in reversed(list(enumerate(names)))}
    known = [b for b in bonds if 0 < b.length_A <= LONGEST_A and set(b.ends) <= number.keys()]
    if not known:
        return ""
    cartesian = np.ascontiguousarray(positions @ lattice)
    # by symmetry every atom of a site has the same neighbours
    first = np.array([np.flatnonzero(owners == number[b.ends[0]])[0] for b in known])
    centres, place = np.unique(first, return_inverse=True)
    # far enough to tell how far others lie
    reach = 1.5 * max(b.length_A for b in known) + HYDROGEN_A
    centre, other, _, distance = find_points_in_spheres(
        cartesian,
        np.ascontiguousarray(cartesian[centres]),
        r=reach,
        pbc=np.ones(3, np.int64),
        lattice=np.ascontiguousarray(lattice),
        tol=1e-8,
    )
    for bond, row in zip(known, place, strict=True):
        between = distance[(centre == row) & (owners[other] == number[bond.ends[1]])]
        between = between[between > 1e-6]
        limit = HYDROGEN_A if {end[0] for end in bond.ends} & set("hd") else TOLERANCE_A
        nearest = min(between, key=lambda d: abs(d - bond.length_A), default=np.inf)
        if abs(nearest - bond.length_A) > limit:
            ends = " and ".join(names[number[end]] for end in bond.ends)
            said = f"{nearest:.3f} A" if np.isfinite(nearest) else f"more than {reach:.3f} A"
            return f"sites {ends} lie {said} apart, but a bond of {bond.length_A:.3f} A is listed"
    return ""
