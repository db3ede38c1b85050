"""Symmetry told from a crystal with the same operations, without another search.

spglib spends 0.5 to 1.5 ms on a small crystal and 10 to 20 ms on one of space group 221 to 230,
most of it on Wyckoff letters. Crystals of one prototype differ in their free coordinates and axial
ratio alone, so what one search has found is carried over, wherever that is certain, for
tetragonal, trigonal, hexagonal and cubic crystals:

- the other crystal has the same kinds on as many sites;
- averaged over the known operations, its lattice and atoms stay where they are to within a
  thousandth of the tolerance, so all these operations are its own;
- there can be no others. Its lattice has no more symmetry than the known one's: its axial ratio is
  far from those at which a tetragonal or rhombohedral lattice is a cubic one. And each operation
  that the lattice would allow beyond the known ones (rotations up to known ones, and pure
  translations, each with every place that an atom of the rarest kind could go to) leaves some atom
  two and a half tolerances from any of its kind.

Sites then have the same site-symmetry groups, hence the same Wyckoff letters.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, groupby, islice, permutations, product
from math import gcd, sqrt
from typing import TYPE_CHECKING

import numpy as np

from matml.structures.symmetry.cell import first_places

if TYPE_CHECKING:
    import spglib

    from matml.structures.symmetry.record import Symmetry

TETRAGONAL, TRIGONAL, CUBIC = 75, 143, 195
"""First space group of each system."""
INVERSION = -np.eye(3, dtype=np.int64)
FOURFOLD = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
TWOFOLD = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1]])
SIXFOLD = np.array([[1, -1, 0], [1, 0, 0], [0, 0, 1]])
DIAGONAL = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]])
CUBIC_RATIOS = {
    "tP": (1.0,),
    "tI": (1.0, sqrt(2)),
    "hR": (sqrt(6), sqrt(3 / 2), sqrt(3 / 8)),
}
"""Ratios c/a of the conventional cell at which a uniaxial lattice is cubic."""
FAR_RATIO = 3.0
"""How far from those, as a change of length a in tolerances: spglib then sees vectors that differ
by 1.5 at least."""
FAR_ATOM = 2.5
"""How far, in tolerances, an operation must leave some atom to be none: spglib allows 1 with the
best translation, which is at most 1 from the one that puts the first atom on another."""
MOST_ATOMS = 40
"""Atoms beyond which averaging costs as much as a search."""
MOST_DISTANCES = 20_000
"""Distances beyond which refuting other operations does."""
WAYS = 8
"""Ways to arrange a cell that are tried."""
ROUNDING = 1e-4
"""What a coordinate may lie below a cell's edge and count as on it."""
CRYSTALS, PATTERNS, MOST_BYTES = 24, 1024, 1 << 26
"""Crystals that are kept of each pattern of kinds, patterns, and the size of all that is kept."""


@dataclass(frozen=True)
class Arranged:
    """A cell whose atoms stand in an order that the input's does not touch, or hardly.

    Attributes
    ----------
    frac_coords, kind
        (atoms, 3), about their mean, and (atoms,), rare kinds first.
    order
        Atom of the input that each is.
    given
        The input's number of each kind.
    """

    frac_coords: np.ndarray
    kind: np.ndarray
    order: np.ndarray
    given: np.ndarray

    @classmethod
    def ways(cls, frac_coords: np.ndarray, kind: np.ndarray) -> "Iterator[Arranged]":
        """All ways to arrange a cell: any atom of the rarest kind may be first, and kinds of equal
        numbers take turns. `kind` is numbered from 0 without gaps.
        """
        counts = np.bincount(kind).tolist()
        kinds = sorted(range(len(counts)), key=counts.__getitem__)
        groups = [tuple(group) for _, group in groupby(kinds, counts.__getitem__)]
        for turn in product(*map(permutations, groups)):
            given = np.array(list(chain(*turn)))
            number = np.empty_like(given)
            number[given] = np.arange(len(given))
            own = number[kind]
            for first in np.flatnonzero(own == 0):
                moved = frac_coords - frac_coords[first]
                moved -= np.floor(moved + ROUNDING)
                x, y, z = moved.round(3).T
                order = np.lexsort((z, y, x, own))
                moved = moved[order]
                moved -= moved.mean(0)
                yield cls(moved, own[order], order, given)


@dataclass(frozen=True)
class Known:
    """One crystal that was searched, arranged; coordinates are about the atoms' mean.

    Attributes
    ----------
    found
        Its symmetry, kinds as arranged.
    metric
        Averaging a metric tensor, flattened, over the rotations, (9, 9).
    average, constant
        Averaging coordinates one after another over the operations: (3 atoms, 3 atoms), and what
        is added to that.
    averaged
        The coordinates after averaging, (atoms, 3).
    source, to_primitive
        Atom that each of the primitive cell stands for, and (3, 3) from the coordinates of the
        one cell to those of the other.
    axes
        From the flattened metric tensor to the squares of the conventional a and c, (2, 9).
    lengths
        a and c, angstrom.
    ratios
        Ratios c/a at which the lattice has more symmetry.
    rotation, target
        Operations that the lattice allows beyond the known ones: (operations, 3, 3), and where
        the first atom would go, (operations,).
    """

    found: "Symmetry"
    metric: np.ndarray
    average: np.ndarray
    constant: np.ndarray
    averaged: np.ndarray
    source: np.ndarray
    to_primitive: np.ndarray
    axes: np.ndarray
    lengths: np.ndarray
    ratios: tuple[float, ...]
    rotation: np.ndarray
    target: np.ndarray

    @classmethod
    def of(
        cls,
        dataset: "spglib.SpglibDataset",
        frac_coords: np.ndarray,
        kind: np.ndarray,
        cell: Arranged,
        found: "Symmetry",
        to_basis: np.ndarray,
    ) -> "Known | None":
        """Prepare a searched crystal; None where it cannot tell of others.

        Parameters
        ----------
        to_basis
            From coordinates in spglib's conventional cell to those of `found`, (3, 3).
        """
        change = dataset.transformation_matrix
        back = np.linalg.inv(change)
        system = _system(found)
        allowed = back @ _holohedry(system) @ change
        # a cell that is no cell of the whole lattice's symmetry hides operations
        if np.abs(allowed - np.round(allowed)).max() > 1e-3:
            return None
        rotations = np.asarray(dataset.rotations)
        images = _images(dataset, frac_coords, kind, cell)
        if images is None:
            return None
        image, cells = images
        rotation, target = _other_operations(
            rotations, image[:, 0], np.round(allowed).astype(np.int64), cell.kind
        )
        if len(rotation) * len(kind) ** 2 > MOST_DISTANCES:
            return None
        number, atoms = image.shape
        moves = (image[:, None] == np.arange(atoms)[:, None]).astype(float)
        average = np.tensordot(moves, rotations, (0, 0)).transpose(0, 2, 1, 3)
        shift = cells - cells.mean(1, keepdims=True)
        # the new place of each atom is that of the atom which comes there
        constant = -np.einsum("gai,gix->ax", moves, shift).ravel() / number
        average = average.reshape(3 * atoms, 3 * atoms) / number
        source = np.array(first_places(dataset.mapping_to_primitive[cell.order])[1])
        metric = np.einsum("gji,glk->ikjl", rotations, rotations).reshape(9, 9) / number
        rows = back.T[[0, 2]]
        std_lattice = dataset.std_lattice
        return cls(
            replace(found, kind=cell.kind[source]),
            metric,
            average,
            constant,
            (average @ cell.frac_coords.ravel() + constant).reshape(-1, 3),
            source,
            change.T @ to_basis,
            np.einsum("ai,aj->aij", rows, rows).reshape(2, 9),
            np.sqrt(np.square(std_lattice[[0, 2]]).sum(1)),
            CUBIC_RATIOS.get(system, ()),
            rotation,
            target,
        )

    @property
    def size(self) -> int:
        """Bytes that it takes, nearly."""
        return self.average.nbytes

    def carried_over(
        self,
        lattice: np.ndarray,
        cell: Arranged,
        metric: np.ndarray,
        averaged: np.ndarray,
        moved: float,
        symprec: float,
    ) -> "Symmetry | None":
        """Symmetry of another crystal that has these operations; None where it may have others.

        Parameters
        ----------
        lattice, cell
            The other crystal.
        metric, averaged, moved
            Its metric tensor, flattened, and its coordinates, (3 atoms,), averaged over the
            operations, and how far that moved atoms, angstrom.
        """
        a, c = lengths = np.sqrt(self.axes @ metric)
        for ratio in self.ratios:
            if abs(c / (a * ratio) - 1) * a < FAR_RATIO * symprec:
                return None
        if len(self.rotation) and not self._refuted(lattice, cell, symprec):
            return None
        change = (averaged.reshape(-1, 3) - self.averaged)[self.source]
        frac = self.found.frac_coords + change @ self.to_primitive
        frac -= np.floor(frac + 1e-12)
        a, c = lengths / self.lengths
        return replace(
            self.found,
            # the conventional c is along z
            lattice=self.found.lattice * (a, a, c),
            frac_coords=frac,
            kind=cell.given[self.found.kind],
            displacement=max(self.found.displacement, moved),
        )

    def _refuted(self, lattice: np.ndarray, cell: Arranged, symprec: float) -> bool:
        """Whether each other operation leaves some atom far from any of its kind."""
        # rounding finds the nearest image only of what is much nearer than lattice planes
        if np.square(np.linalg.inv(lattice)).sum(0).max() * (4 * FAR_ATOM * symprec) ** 2 > 1:
            return False
        own = cell.frac_coords
        moved = (own - own[0]) @ self.rotation.transpose(0, 2, 1) + own[self.target][:, None]
        offset = moved[:, :, None] - own
        offset -= np.round(offset)
        square = np.square(offset @ lattice).sum(-1)
        square[:, cell.kind[:, None] != cell.kind] = np.inf
        return bool((square.min(-1).max(-1) > (FAR_ATOM * symprec) ** 2).all())


class Pattern:
    """Crystals with as many atoms of each kind that were searched lately.

    What they tell of others is prepared once another crystal asks.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple] = []
        self.known: list[Known] = []
        self.metric = self.average = self.constant = np.zeros(0)

    def prepare(self) -> int:
        """Prepare what waits; return by how many bytes that grew."""
        before = sum(known.size for known in self.known)
        new = [Known.of(*waiting) for waiting in reversed(self.waiting)]
        self.waiting = []
        self.known = ([known for known in new if known] + self.known)[:CRYSTALS]
        if self.known:
            names = ("metric", "average", "constant")
            self.metric, self.average, self.constant = (
                np.array([getattr(known, name) for known in self.known]) for name in names
            )
        return sum(known.size for known in self.known) - before

    def find(
        self, lattice: np.ndarray, cells: Iterable[Arranged], symprec: float
    ) -> "Symmetry | None":
        """Symmetry of a crystal, arranged in some ways; None where it is not certain."""
        if not self.known:
            return None
        tolerance = symprec / 1000
        own = (lattice @ lattice.T).ravel()
        metric = self.metric @ own
        shortest = sqrt(min(own[0], own[4], own[8]))
        alike = np.abs(metric - own).max(1) <= tolerance * shortest
        alike = np.flatnonzero(alike).tolist()
        for cell in cells if alike else ():
            flat = cell.frac_coords.ravel()
            for number in alike:
                averaged = self.average[number] @ flat + self.constant[number]
                moved = float(np.abs((averaged - flat).reshape(-1, 3) @ lattice).max())
                if moved > tolerance:
                    continue
                found = self.known[number].carried_over(
                    lattice, cell, metric[number], averaged, moved, symprec
                )
                if found is not None:
                    return found
        return None


class SearchedCrystals:
    """Crystals that were searched lately."""

    def __init__(self) -> None:
        self.patterns: OrderedDict[tuple, Pattern] = OrderedDict()
        self.bytes = 0

    def find(
        self, lattice: np.ndarray, frac_coords: np.ndarray, kind: np.ndarray, symprec: float
    ) -> "Symmetry | None":
        """Symmetry of a crystal like one of those; None where there is none or it is not certain.

        Parameters
        ----------
        lattice, frac_coords, kind
            As `matml.structures.symmetry.search` searches them.
        """
        if len(kind) > MOST_ATOMS:
            return None
        pattern = self.patterns.get(_key(kind, symprec))
        if pattern is None:
            return None
        if pattern.waiting:
            self.bytes += pattern.prepare()
        return pattern.find(lattice, islice(Arranged.ways(frac_coords, kind), WAYS), symprec)

    def add(
        self,
        dataset: "spglib.SpglibDataset",
        frac_coords: np.ndarray,
        kind: np.ndarray,
        symprec: float,
        found: "Symmetry",
        to_basis: np.ndarray,
    ) -> None:
        """Keep a crystal where it can tell of others; parameters as of `find` and `Known.of`."""
        if (
            found.space_group_number < TETRAGONAL
            or len(kind) > MOST_ATOMS
            or found.displacement > symprec / 1000
        ):
            return
        cell = next(Arranged.ways(frac_coords, kind))
        key = _key(kind, symprec)
        pattern = self.patterns.setdefault(key, Pattern())
        self.patterns.move_to_end(key)
        pattern.waiting.append((dataset, frac_coords, kind, cell, found, to_basis))
        while self.bytes > MOST_BYTES or len(self.patterns) > PATTERNS:
            _, oldest = self.patterns.popitem(last=False)
            self.bytes -= sum(known.size for known in oldest.known)


def _key(kind: np.ndarray, symprec: float) -> tuple:
    """What crystals of one pattern have in common."""
    return *sorted(np.bincount(kind).tolist()), symprec


def _system(found: "Symmetry") -> str:
    """Lattice of a uniaxial or cubic crystal: `tP`, `tI`, `hP`, `hR` or `c`."""
    if found.space_group_number >= CUBIC:
        return "c"
    return ("h" if found.space_group_number >= TRIGONAL else "t") + found.centring


@cache
def _holohedry(system: str) -> np.ndarray:
    """Rotations of a lattice in its conventional basis, hexagonal for `hR`, (rotations, 3, 3)."""
    generators = {
        "t": (FOURFOLD, TWOFOLD, INVERSION),
        "hP": (SIXFOLD, TWOFOLD, INVERSION),
        "hR": (SIXFOLD @ SIXFOLD, TWOFOLD, INVERSION),
        "c": (FOURFOLD, DIAGONAL, INVERSION),
    }[system if system[0] == "h" else system[0]]
    found = {(one := np.eye(3, dtype=np.int64)).tobytes(): one}
    new = [one]
    while new:
        products = [a @ b for a in new for b in generators]
        new = []
        for rotation in products:
            if rotation.tobytes() not in found:
                found[rotation.tobytes()] = rotation
                new.append(rotation)
    return np.array(list(found.values()))


def _images(
    dataset: "spglib.SpglibDataset", frac_coords: np.ndarray, kind: np.ndarray, cell: Arranged
) -> tuple[np.ndarray, np.ndarray] | None:
    """Atom that each operation takes each to, (operations, atoms), both as arranged.

    With it what is taken off the moved coordinates, in whole cells, (operations, atoms, 3). None
    where an operation does not permute the atoms.
    """
    own, kind = cell.frac_coords, cell.kind
    rotations = np.asarray(dataset.rotations)
    # the input's coordinates of the origin, up to whole cells
    origin = frac_coords[cell.order[0]] - own[0]
    translations = dataset.translations + rotations @ origin - origin
    moved = own @ rotations.transpose(0, 2, 1) + translations[:, None]
    offset = moved[:, :, None] - own
    cells = np.round(offset)
    distance = np.square(offset - cells).sum(-1)
    distance[:, kind[:, None] != kind] = np.inf
    image = distance.argmin(-1)
    if (np.sort(image, -1) != np.arange(len(kind))).any():
        return None
    return image, np.take_along_axis(cells, image[:, :, None, None], 2)[:, :, 0]


def _other_operations(
    rotations: np.ndarray, first: np.ndarray, allowed: np.ndarray, kind: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Operations that a lattice allows beyond the known ones, up to products with these.

    Parameters
    ----------
    rotations, first
        The known ones, (operations, 3, 3), and where they take the first atom, (operations,).
    allowed
        The lattice's rotations.
    kind
        As arranged.

    Returns
    -------
    rotation, target
        As of `Known`.
    """
    rare = np.flatnonzero(kind == 0).tolist()
    counts = np.bincount(kind).tolist()
    point, allowed = rotations.astype(np.int64), allowed.astype(np.int64)
    translated = first[(point == np.eye(3, dtype=np.int64)).all((1, 2))].tolist()
    pairs = []
    # more translations would have to divide the number of atoms of every kind
    if gcd(*counts) > len(translated):
        pairs = [(np.eye(3), j) for j in rare if j not in translated]
    if len(point) < len(allowed) * len(translated):
        covered = {rotation.tobytes() for rotation in point}
        for rotation in allowed:
            if rotation.tobytes() not in covered:
                covered |= {same.tobytes() for same in rotation @ point}
                pairs += [(rotation, j) for j in rare]
    if not pairs:
        return np.zeros((0, 3, 3)), np.zeros(0, dtype=np.int64)
    return np.array([r for r, _ in pairs], dtype=float), np.array([j for _, j in pairs])
