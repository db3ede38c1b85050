"""Import this before pymatgen sorts elements: noble gases then bring no warnings.

pymatgen warns once per element that He, Ne and Ar have no Pauling electronegativity, wherever a
formula that holds them is first sorted, and keeps the value. There is no way to sort without it,
so the values are asked for here, once.
"""

import warnings
from functools import cache

from pymatgen.core.periodic_table import Element

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="No Pauling electronegativity for ")
    ELECTRONEGATIVITY: dict[str, float] = {
        element.symbol: float(element.X) for element in Element if element.Z > 0
    }


@cache
def element_of(atomic_number: int) -> Element:
    """The element; pymatgen's own `from_Z` searches through all of them."""
    return Element.from_Z(atomic_number)
