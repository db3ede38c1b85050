"""What a search for symmetry found, as one value."""

from dataclasses import dataclass

import numpy as np


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
    space_group_number, centring, n_conventional
        International number, lattice centring letter and atoms in the conventional cell.
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
    centring: str
    n_conventional: int
    displacement: float
