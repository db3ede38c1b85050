"""Symmetry of cubic crystals told from one with the same operations, without another search.

spglib spends 10 to 20 ms on a crystal of space group 221 to 230, nearly all of it on Wyckoff
letters, and no more than 1 ms on most others. Crystals of one prototype differ in their free
coordinates alone, so what one search has found is carried over, wherever that is certain:

- the other crystal has the same kinds on as many sites and the same cubic lattice;
- averaged over the known operations, its atoms stay where they are to within a thousandth of the
  tolerance, so all these operations are its own;
- there can be no others: m-3m is the largest point group of any lattice, and more pure translations
  would have to divide the number of atoms of every kind.

Sites then have the same site-symmetry groups, hence the same Wyckoff letters.

Whether a crystal was searched or told from another, its coordinates are the average of its own over
the operations. The origin of the operations, which a search finds up to rounding, shifts all atoms
alike, so that distances do not depend on what was met before.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import spglib

    from matml.structures.symmetry import Symmetry

FIRST_M3M = 221
POINT_OPERATIONS = 48
MOST_ATOMS = 40
"""Atoms beyond which averaging costs as much as a search."""
ROUNDING = 1e-4
"""What a coordinate may lie below a cell's edge and count as on it."""
PATTERNS, CRYSTALS = 512, 8
"""Patterns of kinds that are kept, and crystals of each."""


@dataclass(frozen=True)
class Arranged:
    """A cell whose atoms stand in an order and about an origin that the input's own do not touch.

    Attributes
    ----------
    frac_coords, kind
        (atoms, 3), the first atom at the origin, and (atoms,), rare kinds first.
    order, origin
        Atom of the input that each is, and the input's coordinates of the new origin.
    given
        The input's number of each kind.
    """

    frac_coords: np.ndarray
    kind: np.ndarray
    order: np.ndarray
    origin: np.ndarray
    given: np.ndarray

    @classmethod
    def of(cls, frac_coords: np.ndarray, kind: np.ndarray) -> "Arranged":
        """Arrange a cell; `kind` is numbered from 0 without gaps."""
        given = np.argsort(np.bincount(kind), kind="stable")
        number = np.empty_like(given)
        number[given] = np.arange(len(given))
        kind = number[kind]
        origin = frac_coords[kind.argmin()]
        frac_coords = frac_coords - origin
        frac_coords -= np.floor(frac_coords + ROUNDING)
        x, y, z = frac_coords.round(3).T
        order = np.lexsort((z, y, x, kind))
        return cls(frac_coords[order], kind[order], order, origin, given)


@dataclass(frozen=True)
class KnownCubic:
    """One crystal that was searched, arranged.

    Attributes
    ----------
    found
        Its symmetry, kinds as arranged.
    lattice
        Row vectors, (3, 3).
    average
        Averaging over the operations, as a matrix on the coordinates one after another.
    constant
        What is added to that, [3 atoms].
    source, to_primitive, shift
        Atom that each of the primitive cell stands for, (3, 3) from the coordinates of the one
        cell to those of the other, and what is added to them, (atoms of the primitive cell, 3):
        the same for all but for whole edges.
    """

    found: "Symmetry"
    lattice: np.ndarray
    average: np.ndarray
    constant: np.ndarray
    source: np.ndarray
    to_primitive: np.ndarray
    shift: np.ndarray

    def carried_over(
        self, lattice: np.ndarray, cell: Arranged, tolerance: float
    ) -> "Symmetry | None":
        """Symmetry of another crystal; None where it is not certain."""
        if np.abs(lattice - self.lattice).max() > tolerance:
            return None
        averaged = (self.average @ cell.frac_coords.ravel() + self.constant).reshape(-1, 3)
        moved = np.abs((averaged - cell.frac_coords) @ lattice).max()
        if moved > tolerance:
            return None
        frac = averaged[self.source] @ self.to_primitive + self.shift
        frac -= np.floor(frac + 1e-12)
        return replace(
            self.found,
            frac_coords=frac,
            kind=cell.given[self.found.kind],
            displacement=max(self.found.displacement, float(moved)),
        )


class CubicCrystals:
    """Cubic crystals that were searched lately."""

    def __init__(self) -> None:
        self.known: OrderedDict[tuple[bytes, float], list[KnownCubic]] = OrderedDict()

    def find(
        self, lattice: np.ndarray, frac_coords: np.ndarray, kind: np.ndarray, symprec: float
    ) -> "Symmetry | None":
        """Symmetry of a crystal like one of those; None where there is none or it is not certain.

        Parameters
        ----------
        lattice, frac_coords, kind
            As `matml.structures.symmetry` searches them.
        """
        if len(kind) > MOST_ATOMS:
            return None
        cell = Arranged.of(frac_coords, kind)
        for known in self.known.get((cell.kind.tobytes(), symprec), ()):
            if found := known.carried_over(lattice, cell, symprec / 1000):
                return found
        return None

    def add(
        self,
        dataset: "spglib.SpglibDataset",
        lattice: np.ndarray,
        frac_coords: np.ndarray,
        kind: np.ndarray,
        symprec: float,
        found: "Symmetry",
        to_basis: np.ndarray,
    ) -> "Symmetry":
        """Keep a crystal where it can tell of others; its symmetry, as it would be told itself.

        Parameters
        ----------
        to_basis
            From coordinates in spglib's conventional cell to those of `found`, (3, 3).
        """
        rotations = np.asarray(dataset.rotations)
        translations = len(rotations) // POINT_OPERATIONS
        if (
            found.space_group_number < FIRST_M3M
            or len(kind) > MOST_ATOMS
            or len(rotations) % POINT_OPERATIONS
            or np.gcd.reduce(np.bincount(kind)) != translations
            or found.displacement > symprec / 1000
        ):
            return found
        cell = Arranged.of(frac_coords, kind)
        # about the new origin
        shift = dataset.translations + rotations @ cell.origin - cell.origin
        averaging = _averaging(rotations, shift, cell.frac_coords, cell.kind)
        if averaging is None:
            return found
        average, constant = averaging
        averaged = (average @ cell.frac_coords.ravel() + constant).reshape(-1, 3)
        _, source = np.unique(dataset.mapping_to_primitive[cell.order], return_index=True)
        to_primitive = dataset.transformation_matrix.T @ to_basis
        apart = found.frac_coords - averaged[source] @ to_primitive
        known = KnownCubic(
            replace(found, kind=cell.kind[source]),
            lattice,
            average,
            constant,
            source,
            to_primitive,
            apart[0] + np.round(apart - apart[0]),
        )
        own = known.carried_over(lattice, cell, symprec / 1000)
        if own is None:
            return found
        key = cell.kind.tobytes(), symprec
        alike = self.known.setdefault(key, [])
        self.known.move_to_end(key)
        alike.insert(0, known)
        del alike[CRYSTALS:]
        if len(self.known) > PATTERNS:
            self.known.popitem(last=False)
        return own


def _averaging(
    rotations: np.ndarray, translations: np.ndarray, frac_coords: np.ndarray, kind: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Matrix and constant that average coordinates over operations.

    None where an operation does not permute the atoms.
    """
    atoms, number = len(kind), len(rotations)
    moved = frac_coords @ rotations.transpose(0, 2, 1) + translations[:, None]
    offset = moved[:, :, None] - frac_coords
    cells = np.round(offset)
    distance = np.square(offset - cells).sum(-1)
    distance[:, kind[:, None] != kind] = np.inf
    image = distance.argmin(-1)
    if (np.sort(image, -1) != np.arange(atoms)).any():
        return None
    matrix = np.zeros((atoms, 3, atoms, 3))
    constant = np.zeros((atoms, 3))
    own = np.arange(atoms)
    for operation in range(number):
        to = image[operation]
        matrix[to, :, own] += rotations[operation]
        constant[to] += translations[operation] - cells[operation, own, to]
    return matrix.reshape(3 * atoms, 3 * atoms) / number, constant.ravel() / number
