"""Is this a crystal? Ordered, known elements, finite lattice, room for every atom."""

import numpy as np
from pymatgen.analysis.molecule_structure_comparator import CovalentRadius
from pymatgen.core import IStructure
from pymatgen.core.periodic_table import DummySpecies, Element
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.elements import element_of, shown
from matml.structures.errors import BadCrystal
from matml.structures.settings import StructuresSection
from matml.structures.symmetry.cell import cell_volume, inverse

MAX_ATOMIC_NUMBER = 94
"""Plutonium: of heavier elements hardly a crystal has labels, and little is tabulated."""
PERIODIC = np.ones(3, dtype=np.int64)
# Cordero et al., Dalton Trans. 2008, 2832
RADII_A = np.array(
    [0.0]
    + [CovalentRadius.radius[Element.from_Z(z).symbol] for z in range(1, MAX_ATOMIC_NUMBER + 1)]
)


def atomic_numbers(structure: IStructure) -> tuple[np.ndarray, list[str]]:
    """Atomic number of every site, shape (sites,), and notes on what was left out.

    Raises
    ------
    BadCrystal
        For a site that is shared, partly occupied, a dummy or a heavy-hydrogen isotope.
    """
    numbers = np.empty(len(structure), dtype=np.int64)
    decorated = False
    for index, site in enumerate(structure):
        # `elements` and `num_atoms` are looked up, `items` is made anew
        kinds, occupancy = site.species.elements, site.species.num_atoms
        if len(kinds) != 1 or abs(occupancy - 1) > 1e-6:
            items = site.species.items()
            content = (
                " ".join(f"{shown(species)}{amount:g}" for species, amount in items) or "nothing"
            )
            raise BadCrystal(
                f"disordered: site {index + 1} holds {content}",
                "give an ordered model: one element with occupancy 1 on each site "
                "(pymatgen's OrderDisorderedStructureTransformation makes one)",
            )
        species = kinds[0]
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
        decorated |= bool(getattr(species, "oxi_state", None)) and species is not element
        numbers[index] = element.Z
    return numbers, ["oxidation states removed"] if decorated else []


def check_geometry(
    lattice: np.ndarray, cartesian: np.ndarray, numbers: np.ndarray, settings: StructuresSection
) -> None:
    """Check one cell.

    Parameters
    ----------
    lattice
        Row vectors, shape (3, 3), angstrom.
    cartesian
        Positions, shape (sites, 3), angstrom.
    numbers
        Atomic numbers, shape (sites,).

    Raises
    ------
    BadCrystal
        Where the lattice is not finite, the volume per atom is out of range or atoms overlap.
    """
    if len(numbers) == 0:
        raise BadCrystal("holds no atoms", "give at least one site")
    if not (np.isfinite(lattice).all() and np.isfinite(cartesian).all()):
        raise BadCrystal("lattice or coordinates are not finite numbers", "correct the numbers")
    volume = cell_volume(lattice)
    per_atom = volume / len(numbers)
    low, high = settings.min_volume_per_atom_A3, settings.max_volume_per_atom_A3
    if not low <= per_atom <= high:
        raise BadCrystal(
            f"volume per atom {per_atom:.4g} A^3 is outside {low:g} to {high:g}",
            "check the lattice (in angstrom) and that no atom is missing or doubled",
        )
    heights = 1 / np.sqrt(np.square(inverse(lattice.tolist())).sum(axis=0))
    if heights.min() < 0.3 or np.square(lattice).sum(axis=1).max() > 1000**2:
        raise BadCrystal(
            f"the cell is degenerate: edges {np.round(np.linalg.norm(lattice, axis=1), 3)} A, "
            f"heights {np.round(heights, 3)} A",
            "give a reduced cell with edges in angstrom and angles between 20 and 160 degrees",
        )
    radii = RADII_A[numbers]
    reach = settings.min_distance_ratio * 2 * float(radii.max())
    centre, other, image, distance = find_points_in_spheres(
        cartesian, cartesian, r=reach, pbc=PERIODIC, lattice=lattice, tol=1e-8
    )
    limit = settings.min_distance_ratio * (radii[centre] + radii[other])
    pair = distance < limit
    # each atom finds itself
    if np.count_nonzero(pair) > len(numbers):
        pair &= (centre != other) | image.any(axis=1)
        worst = np.flatnonzero(pair)[np.argmin(distance[pair] / limit[pair])]
        i, j = int(centre[worst]), int(other[worst])
        names = f"{element_of(int(numbers[i])).symbol} (site {i + 1}) and "
        names += f"{element_of(int(numbers[j])).symbol} (site {j + 1})"
        raise BadCrystal(
            f"overlapping atoms: {names} are {distance[worst]:.3f} A apart, "
            f"less than {limit[worst]:.3f} A",
            "delete the doubled site, or correct the cell or the coordinates",
        )
