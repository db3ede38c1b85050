"""Import this before pymatgen sorts elements: noble gases then bring no warnings.

pymatgen warns once per element that He, Ne and Ar have no Pauling electronegativity, wherever a
formula that holds them is first sorted, and keeps the value. There is no way to sort without it,
so the values are asked for here, once.
"""

import warnings
from functools import cache

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import DummySpecies, Element, Species

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="No Pauling electronegativity for ")
    ELECTRONEGATIVITY: dict[str, float] = {
        element.symbol: float(element.X) for element in Element if element.Z > 0
    }


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


def structure_of(lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray) -> Structure:
    """pymatgen's structure of lattice and coordinates, flat or in rows, and atomic numbers."""
    elements = [element_of(int(number)) for number in numbers]
    return Structure(
        Lattice(np.reshape(lattice, (3, 3))), elements, np.reshape(frac_coords, (-1, 3))
    )


def shown(species: Element | Species | DummySpecies) -> str:
    """A species as a message names it: pymatgen writes a dummy of no charge as `X0+`."""
    uncharged = isinstance(species, DummySpecies) and not species.oxi_state
    return species.symbol if uncharged else str(species)
