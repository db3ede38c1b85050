"""A declared space group or crystal system, held against the symmetry of the sites."""

from collections.abc import Collection, Mapping
from functools import cache

import gemmi
import numpy as np

from matml.structures.elements import structure_of
from matml.structures.errors import BadCrystal

TOLERANCES_A = (1e-3, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3)
"""Of the searches by which databases find what they declare."""


@cache
def subgroups(number: int) -> frozenset[int]:
    """Return a space group's number and those of its subgroups with the same translations.

    A crystal of the group has the symmetry of each of these, too. They are reached over maximal
    ones (Hermann, Z. Kristallogr. 69, 533, 1929).
    """
    from pymatgen.symmetry.groups import SYMM_DATA

    below = (n for n in SYMM_DATA["maximal_subgroups"][str(number)] if _order(n) < _order(number))
    return frozenset({number}).union(*map(subgroups, below))


@cache
def _order(number: int) -> int:
    """Return the number of operations of a space group's point group."""
    return len(gemmi.get_spacegroup_reference_setting(number).operations().sym_ops)


def refuse_other_symmetry(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    declared: Mapping[str, Collection[int]],
) -> None:
    """Refuse a crystal that has a declared symmetry at none of the usual tolerances.

    Parameters
    ----------
    lattice, frac_coords, numbers
        Row vectors (3, 3) in angstrom, fractional positions (sites, 3), numbers that are alike
        where sites hold alike (sites,).
    declared
        What is declared, in words, with the space groups that it may be.

    Raises
    ------
    BadCrystal
        Names what is declared and what the sites have.
    """
    # some tenths of a second, which few runs need
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer, SymmetryUndeterminedError

    # by spglib, which most databases take
    # which elements they are is all the same
    kinds = np.unique(numbers, return_inverse=True)[1] + 1
    structure = structure_of(lattice, frac_coords, kinds)
    left, found = dict(declared), list[int]()
    for tolerance in TOLERANCES_A:
        try:
            search = SpacegroupAnalyzer(structure, tolerance)
        except SymmetryUndeterminedError:
            continue
        found.append(search.get_space_group_number())
        left = {said: may for said, may in left.items() if subgroups(found[-1]).isdisjoint(may)}
        if not left:
            return
    if not found:
        return  # which the search for its symmetry tells
    has = " or ".join(
        f"{number} ({gemmi.get_spacegroup_reference_setting(number).hm})"
        for number in dict.fromkeys(found)
    )
    raise BadCrystal(
        f"{next(iter(left))} is declared, but the sites have space group {has} at tolerances of "
        f"{TOLERANCES_A[0]:g} to {TOLERANCES_A[-1]:g} A",
        "check elements and positions; leave the declared symmetry out if it is of another model",
    )
