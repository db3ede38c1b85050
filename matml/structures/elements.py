"""Import this before pymatgen sorts elements: noble gases then bring no warnings.

pymatgen warns once per element that He, Ne and Ar have no Pauling electronegativity, wherever a
formula that holds them is first sorted, and keeps the value. There is no way to sort without it,
so the values are asked for here, once.
"""

import warnings
from collections.abc import Sequence
from functools import cache

import numpy as np
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import DummySpecies, Element, Species

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="No Pauling electronegativity for ")
    ELECTRONEGATIVITY: dict[str, float] = {
        element.symbol: float(element.X) for element in Element if element.Z > 0
    }

MAX_ATOMIC_NUMBER = 94
"""Plutonium: of heavier elements hardly a crystal has labels, and little is tabulated."""
# Cordero et al., Dalton Trans. 2008, 2832
RADII_A = np.array(
    [0.0]
    + [CovalentRadius.radius[Element.from_Z(z).symbol] for z in range(1, MAX_ATOMIC_NUMBER + 1)]
)


@cache
def element_of(atomic_number: int) -> Element:
    """The element; pymatgen's own `from_Z` searches through all of them."""
    return Element.from_Z(atomic_number)


class Unknown(DummySpecies):
    """What a site holds whose name is no element; its symbol is the name as the file gives it.

    pymatgen's own dummies refuse names that begin like an element ("vacancy", "Qq").
    """

    def __init__(
        self, symbol: str = "X", oxidation_state: float | None = 0, spin: float | None = None
    ) -> None:
        super().__init__("X", oxidation_state, spin)
        self._symbol = symbol


def structure_of(
    lattice: np.ndarray,
    frac_coords: np.ndarray,
    numbers: np.ndarray,
    occupancy: np.ndarray | None = None,
) -> Structure:
    """pymatgen's structure of lattice and coordinates, flat or in rows, and atomic numbers.

    Atoms listed one after the other at one place, with an occupancy, are one disordered site.
    """
    coords = np.reshape(frac_coords, (-1, 3))
    species: list = [element_of(int(number)) for number in numbers]
    if occupancy is not None and not (np.asarray(occupancy) == 1).all():
        first = np.flatnonzero(np.append(True, (coords[1:] != coords[:-1]).any(1)))
        parts = zip(species, np.asarray(occupancy).tolist(), strict=True)
        shares = list(parts)
        ends = [*first[1:].tolist(), len(shares)]
        species = [dict(shares[a:b]) for a, b in zip(first.tolist(), ends, strict=True)]
        coords = coords[first]
    return Structure(Lattice(np.reshape(lattice, (3, 3))), species, coords)


def unbalanced(charges: Sequence[float]) -> str:
    """Return a note on the oxidation numbers of a cell's atoms, times their shares, else ''.

    Rounded ones, and those of rounded shares, may miss zero by two percent.
    """
    total = sum(charges)
    if not abs(total) > 0.1 + 0.02 * sum(map(abs, charges)):
        return ""  # or one is not given
    return f"the oxidation numbers that are given sum to {total:+.4g} in the cell, not to 0"


def shown(species: Element | Species | DummySpecies) -> str:
    """A species as a message names it: pymatgen writes a dummy of no charge as `X0+`."""
    uncharged = isinstance(species, DummySpecies) and not species.oxi_state
    return species.symbol if uncharged else str(species)
