"""Space group, idealised primitive cell and symmetry orbits, by one moyo search a crystal."""

import logging
from dataclasses import dataclass, replace
from functools import lru_cache

import moyopy
import numpy as np

from matml.structures.errors import BadCrystal
from matml.structures.symmetry.cell import cell_volume, first_places, inverse

# moyo warns of operations that a centred cell cannot show, which are not asked for here
logging.getLogger("moyo").setLevel(logging.ERROR)

REFERENCE_VOLUME_A3 = 15.0
SETTING = moyopy.Setting.spglib()
"""Axes and origin: those of the first Hall symbol of each space group."""


@dataclass(frozen=True)
class Symmetry:
    """A crystal snapped on to its space group, in a primitive cell.

    Attributes
    ----------
    lattice
        Row vectors, shape (3, 3), angstrom.
    frac_coords
        Shape (atoms, 3), in [0, 1).
    kind
        Which element (number as given by the caller) each atom is, shape (atoms,).
    orbit
        Symmetry orbit of each atom, 0-based and contiguous, shape (atoms,).
    wyckoff
        Wyckoff letter of each orbit.
    space_group_number, pearson_symbol
        International number; Pearson symbol such as `cF8`.
    displacement
        How far the farthest atom or lattice vector moved to its ideal place, angstrom in a cell
        of 15 cubic angstrom per atom.
    """

    lattice: np.ndarray
    frac_coords: np.ndarray
    kind: np.ndarray
    orbit: np.ndarray
    wyckoff: tuple[str, ...]
    space_group_number: int
    pearson_symbol: str
    displacement: float


def symmetrise(
    lattice: np.ndarray, frac_coords: np.ndarray, numbers: np.ndarray, symprec: float
) -> Symmetry:
    """Find the symmetry of a crystal; distances keep to within `symprec` of the original.

    The search runs on the cell scaled to 15 cubic angstrom per atom and rounded to 1e-5 angstrom
    and 1e-6 of an edge, elements taken as mere kinds. The result is therefore a function of the
    shape alone, and crystals of one shape (candidates made by substitution) share one search.

    Parameters
    ----------
    lattice, frac_coords, numbers
        Row vectors (3, 3) in angstrom, fractional positions (atoms, 3), atomic numbers (atoms,).
    symprec
        Tolerance at that scale, angstrom.

    Raises
    ------
    BadCrystal
        Where moyo finds no consistent space group.
    """
    volume = cell_volume(lattice)
    scale = (REFERENCE_VOLUME_A3 * len(numbers) / volume) ** (1 / 3)
    # kinds are numbered by first appearance, so that substitution does not change the key
    rank: dict[int, int] = {}
    kind = tuple([rank.setdefault(number, len(rank)) for number in numbers.tolist()])
    wrapped = (frac_coords - np.floor(frac_coords)).round(6) % 1.0
    found = _search((lattice * scale).round(5).tobytes(), wrapped.tobytes(), kind, symprec)
    wanted = volume * len(found.kind) / len(numbers)
    return replace(
        found,
        lattice=found.lattice * (wanted / cell_volume(found.lattice)) ** (1 / 3),
        kind=np.array(list(rank))[found.kind],
    )


@lru_cache(maxsize=4096)
def _search(
    lattice_bytes: bytes, frac_bytes: bytes, kind: tuple[int, ...], symprec: float
) -> Symmetry:
    """Symmetry of a normalised cell; arrays are given as their bytes."""
    lattice = np.frombuffer(lattice_bytes).reshape(3, 3)
    frac_coords = np.frombuffer(frac_bytes).reshape(-1, 3)
    cell = moyopy.Cell(lattice.tolist(), frac_coords.tolist(), list(kind))
    try:
        found = moyopy.MoyoDataset(cell, symprec=symprec, setting=SETTING)
    except ValueError as error:
        raise BadCrystal(
            f"no consistent space group is found at a tolerance of {symprec:g} A ({error})",
            "check for nearly equal atoms or a strongly skewed cell, "
            "or change structures.symprec_A",
        ) from None
    return _primitive(found, lattice, frac_coords)


def _primitive(found: moyopy.MoyoDataset, lattice: np.ndarray, frac_coords: np.ndarray) -> Symmetry:
    """moyo's idealised primitive cell, with what it tells of the atoms of the cell it was given."""
    primitive, mapping, orbits = found.prim_std_cell, found.mapping_std_prim, found.orbits
    # orbits of the given cell's atoms, named by their first, are those of the primitive cell
    representative = [orbits[atom] for atom in first_places(mapping)[1]]
    rank = {atom: number for number, atom in enumerate(sorted(set(representative)))}
    ideal, ideal_lattice = np.array(primitive.positions), np.array(primitive.basis)
    # moyo, of column vectors: x_given = P x + p, and (a b c) = R (a b c)_given P before averaging
    to_primitive = inverse(found.prim_std_linear).T
    moved = (frac_coords - np.array(found.prim_std_origin_shift)) @ to_primitive - ideal[
        np.array(mapping)
    ]
    moved = (moved - moved.round()) @ ideal_lattice
    turned = np.array(found.std_rotation_matrix) @ lattice.T @ np.array(found.std_linear)
    stretched = turned.T - np.array(found.std_cell.basis)
    farthest = max(np.square(moved).sum(1).max(), np.square(stretched).sum(1).max())
    wyckoffs = found.wyckoffs
    return Symmetry(
        lattice=ideal_lattice,
        # what is 0 but for rounding stays 0
        frac_coords=ideal - np.floor(ideal + 1e-12),
        kind=np.array(primitive.numbers),
        orbit=np.array([rank[atom] for atom in representative]),
        wyckoff=tuple([wyckoffs[atom] for atom in rank]),
        space_group_number=found.number,
        # one letter for cells centred on one face, whichever it is
        pearson_symbol=found.pearson_symbol.replace("S", "C"),
        displacement=float(farthest) ** 0.5,
    )
