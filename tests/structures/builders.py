"""Textbook crystals, written from their published Wyckoff positions."""

from functools import cache

import numpy as np
from pymatgen.core import Lattice, Structure


@cache
def _expanded(group, lattice, elements, positions):
    """The conventional cell; `lattice` is (a,) cubic, else (kind, a, c)."""
    cell = (
        Lattice.cubic(*lattice) if len(lattice) == 1 else getattr(Lattice, lattice[0])(*lattice[1:])
    )
    return Structure.from_spacegroup(group, cell, list(elements), [list(p) for p in positions])


def from_group(group, lattice, elements, positions):
    """Expanding a space group is slow, so each crystal is made once and copied."""
    return _expanded(group, lattice, tuple(elements), tuple(tuple(p) for p in positions)).copy()


def rocksalt(cation="Na", anion="Cl", a=5.64):
    return from_group("Fm-3m", (a,), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])


def caesium_chloride(first="Cs", second="Cl", a=4.12):
    return Structure(Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def cubic_abx3(corner="Sr", centre="Ti", face="O", a=3.905):
    """Corner at (0,0,0), centre at (1/2,1/2,1/2), three at the face centres around the centre."""
    return Structure(
        Lattice.cubic(a),
        [corner, centre, face, face, face],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
    )


def spinel(tetrahedral="Mg", octahedral="Al", anion="O", a=8.08):
    """Origin choice 1: cations at 8a and 16d, oxygen parameter u = 0.3875 - 1/8."""
    return from_group(
        "Fd-3m",
        (a,),
        [tetrahedral, octahedral, anion],
        [[0, 0, 0], [0.625, 0.625, 0.625], [0.3875, 0.3875, 0.3875]],
    )


def inverse_spinel():
    """Half of the octahedral sites of the primitive cell hold Mg, all tetrahedral ones Al."""
    cell = spinel().get_primitive_structure()
    octahedral = [i for i, site in enumerate(cell) if site.specie.symbol == "Al"]
    for i, site in enumerate(cell):
        if site.specie.symbol == "Mg":
            cell.replace(i, "Al")
    for i in octahedral[:2]:
        cell.replace(i, "Mg")
    return cell


def half_heusler():
    return from_group(
        "F-43m",
        (6.1,),
        ["Hf", "Sn", "Ni"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]],
    )


def heusler():
    return from_group(
        "Fm-3m",
        (5.95,),
        ["Al", "Mn", "Cu"],
        [[0, 0, 0], [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]],
    )


def fluorite(single="Ca", double="F", a=5.46):
    return from_group("Fm-3m", (a,), [single, double], [[0, 0, 0], [0.25, 0.25, 0.25]])


def rutile():
    return from_group(
        "P4_2/mnm", ("tetragonal", 4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.3053, 0.3053, 0]]
    )


def wurtzite():
    return from_group(
        "P6_3mc",
        ("hexagonal", 3.25, 5.207),
        ["Zn", "O"],
        [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]],
    )


def chromium_silicide_pair():
    """ThCr2Si2 itself."""
    return from_group(
        "I4/mmm",
        ("tetragonal", 4.043, 10.577),
        ["Th", "Cr", "Si"],
        [[0, 0, 0], [0, 0.5, 0.25], [0, 0, 0.374]],
    )


def corundum():
    return from_group(
        "R-3c",
        ("hexagonal", 4.759, 12.991),
        ["Al", "O"],
        [[0, 0, 0.3522], [0.3063, 0, 0.25]],
    )


def triclinic(seed=0, atoms=6):
    """A P1 cell of atoms at least 1.9 angstrom apart."""
    generator = np.random.default_rng(seed)
    while True:
        lattice = Lattice.from_parameters(
            *generator.uniform(4.5, 7.5, 3), *generator.uniform(70, 110, 3)
        )
        structure = Structure(
            lattice,
            generator.choice(["Na", "Mg", "Al", "O"], atoms),
            generator.uniform(0, 1, (atoms, 3)),
        )
        distances = structure.distance_matrix + 10 * np.eye(atoms)
        if distances.min() > 1.9:
            return structure
