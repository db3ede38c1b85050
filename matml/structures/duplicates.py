"""Equal crystals: the same atoms at the same places of the same cell, at the same volume.

Crystals of one composition and prototype, in primitive cells, are laid on each other in every way
that keeps the cell's edges and angles. The work for a pair and for a group is bounded: a pair
that is not decided within it is said to be undecided, and both crystals are kept.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from matml.core.parallel import map_ordered
from matml.structures.disorder.atoms import sites_of
from matml.structures.symmetry.cell import cell_volume

SAME_VOLUME = 0.028
"""Largest logarithm of the ratio of the volumes of equal crystals. Of 507 pairs of the embedded
sets that are equal but for their volume, none differs by more than 0.027; a step of 1 % in length,
as of an equation of state, makes 0.030: strained copies are crystals of their own."""
SAME_EDGE, SAME_ANGLE, LONG_EDGE_ANGLE = 0.1, 5.0, 1.0
"""Relative difference of edges, and of angles in degrees, between equal cells of one volume; the
last for long edges, which a small angle already moves on by another vector of the lattice."""
SAME_PLACE = 0.2
"""How far atoms of equal crystals may lie apart, in units of the edge of a cube of one atom's
volume, about half an angstrom; the nearest atoms of a crystal are about one such unit apart."""
ALIKE = 0.01
"""The same where two cells are compared atom by atom as they are, which suffices for most."""
PROBES = 6
"""Atoms by which most ways to lay one crystal on the other are ruled out."""
MOST_WORK, MOST_WORK_OF_A_GROUP = 6e7, 2e9
"""Distances computed for one pair, and for all pairs of one composition and prototype; 3e7 take
about a second."""
AT_ONCE = 500_000
STEPS = np.array(list(product(range(-2, 3), repeat=3)))
Cell = tuple[np.ndarray, np.ndarray, np.ndarray]


class Scaled(NamedTuple):
    """A cell of volume 1 per atom: rows (3, 3), positions (atoms, 3), numbers; its own volume."""

    lattice: np.ndarray
    coords: np.ndarray
    numbers: np.ndarray
    volume: float

    @classmethod
    def of(cls, lattice: np.ndarray, coords: np.ndarray, numbers: np.ndarray) -> "Scaled":
        """Scale a cell in angstrom, flat or in rows."""
        lattice, numbers = np.reshape(lattice, (3, 3)), np.asarray(numbers)
        volume = cell_volume(lattice) / len(numbers)
        return cls(lattice / np.cbrt(volume), np.reshape(coords, (-1, 3)), numbers, volume)


class Undecided(Exception):
    """Whether two crystals are equal would take too much work to tell."""


class Matcher:
    """Tells whether crystals are equal, within the work that is left for a group of them."""

    def __init__(self) -> None:
        self.left = MOST_WORK_OF_A_GROUP

    def equal(self, one: Scaled, other: Scaled, strain: float = SAME_VOLUME) -> bool:
        """Whether two primitive cells of one composition hold the same crystal.

        Parameters
        ----------
        strain
            Largest logarithm of the ratio of their volumes.

        Raises
        ------
        Undecided
            Where that takes more work than a pair may take, or the group has left.
        """
        if len(one.numbers) != len(other.numbers):
            return False
        if abs(np.log(one.volume / other.volume)) > strain:
            return False
        if _laid_alike(one, other):
            return True
        kinds, counts = np.unique(one.numbers, return_counts=True)
        # one composition may be mixed in several ways
        if not np.array_equal(np.sort(one.numbers), np.sort(other.numbers)):
            return False
        rarest = kinds[counts.argmin()]
        anchors = np.flatnonzero(other.numbers == rarest)
        maps = _lattice_maps(one.lattice, other.lattice)
        ways = len(maps) * len(anchors)
        self._spend(ways * PROBES * int(counts.max()))
        # the probes: atoms of all kinds, spread over the cell
        order = np.argsort(one.coords @ (0.618, 0.333, 0.147) % 1, kind="stable")
        probes = order[:: max(len(order) // PROBES, 1)][:PROBES]
        origin = one.coords[np.flatnonzero(one.numbers == rarest)[0]]
        for turn in maps:
            coords = other.coords @ turn
            for shift in _fitting(one, other, coords, probes, origin - coords[anchors]):
                self._spend(len(coords) ** 2)
                if _same_atoms(one, other.numbers, coords + shift):
                    return True
        return False

    def _spend(self, work: float) -> None:
        if work > min(MOST_WORK, self.left):
            raise Undecided
        self.left -= work


def _laid_alike(one: Scaled, other: Scaled) -> bool:
    """Whether two cells are equal atom by atom as they are, far within the tolerances."""
    if not np.array_equal(one.numbers, other.numbers):
        return False
    if np.abs(one.lattice - other.lattice).max() > ALIKE:
        return False
    apart = one.coords - other.coords
    return bool(np.abs((apart - np.round(apart)) @ one.lattice).max() <= ALIKE)


def _lattice_maps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return what takes coordinates in one lattice to a like basis of another, [n, 3, 3].

    Both are primitive and reduced, so that the vectors of one are short sums of the other's.
    """
    vectors = STEPS @ other
    lengths, edges = np.linalg.norm(vectors, axis=1), np.linalg.norm(one, axis=1)
    near = [np.flatnonzero(np.abs(lengths - edge) <= SAME_EDGE * edge) for edge in edges]
    ways = np.ones([len(found) for found in near], dtype=bool)
    tilt = max(
        min(SAME_ANGLE, float(np.degrees(0.25 * edges.min() / edges.max()))), LONG_EDGE_ANGLE
    )
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        a, b = vectors[near[first]], vectors[near[second]]
        cosines = (a @ b.T) / np.outer(lengths[near[first]], lengths[near[second]])
        wanted = one[first] @ one[second] / (edges[first] * edges[second])
        angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)) - np.arccos(wanted))
        fits = np.abs(angles) <= tilt
        ways &= np.expand_dims(fits if first < second else fits.T, axis)
    chosen = np.argwhere(ways)
    bases = np.stack([STEPS[near[k][chosen[:, k]]] for k in range(3)], 1)
    bases = bases[np.abs(np.rint(np.linalg.det(bases))) == 1]
    return np.linalg.inv(bases) if len(bases) else np.zeros((0, 3, 3))


def _fitting(
    one: Scaled, other: Scaled, coords: np.ndarray, probes: np.ndarray, shifts: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield shifts of a turned crystal that bring a like atom near to each probe of the other."""
    for probe in probes:
        alike = coords[other.numbers == one.numbers[probe]]
        size = max(AT_ONCE // len(alike), 1)
        parts = []
        for start in range(0, len(shifts), size):
            apart = one.coords[probe] - alike - shifts[start : start + size, None]
            apart = (apart - np.rint(apart)) @ one.lattice
            # the anchor may be off by the tolerance, and so may the probe
            parts.append((np.square(apart).sum(2) <= (2 * SAME_PLACE) ** 2).any(1))
        shifts = shifts[np.concatenate(parts)] if parts else shifts
        if not len(shifts):
            return
    yield from shifts


def _same_atoms(one: Scaled, numbers: np.ndarray, coords: np.ndarray) -> bool:
    """Whether each atom of a crystal has one of the other to itself, once shifted to fit best."""
    apart = one.coords[:, None] - coords[None]
    apart -= np.rint(apart)
    distance = np.square(apart @ one.lattice).sum(2)
    distance[one.numbers[:, None] != numbers[None]] = np.inf
    partner = distance.argmin(1)
    if len(np.unique(partner)) < len(partner):
        return False
    step = apart[np.arange(len(partner)), partner] @ one.lattice
    return bool(np.linalg.norm(step - step.mean(0), axis=1).max() <= SAME_PLACE)


def first_equal(cells: Sequence[Cell], strain: float = SAME_VOLUME) -> list[tuple[int, int | None]]:
    """For each cell the first one equal to it, and the first of which that is undecided.

    Parameters
    ----------
    cells
        Lattice (9 numbers, angstrom), fractional coordinates, atomic numbers or kinds; all of one
        prototype and composition, in primitive cells.
    strain
        As of `Matcher.equal`.

    Returns
    -------
    list
        Positions of both; its own where no cell is equal to it, None where nothing is undecided.
    """
    matcher = Matcher()
    scaled = [Scaled.of(*cell) for cell in cells]
    unique: list[int] = []
    result = []
    for index, cell in enumerate(scaled):
        match, undecided = first_match(matcher, [scaled[place] for place in unique], cell, strain)
        result.append(
            (
                index if match is None else unique[match],
                None if undecided is None or match is not None else unique[undecided],
            )
        )
        if match is None:
            unique.append(index)
    return result


def first_match(
    matcher: Matcher, cells: Sequence[Scaled], cell: Scaled, strain: float = SAME_VOLUME
) -> tuple[int | None, int | None]:
    """Return the position of the first cell equal to one, and of the first undecided one."""
    undecided = None
    for place, other in enumerate(cells):
        try:
            if matcher.equal(other, cell, strain):
                return place, undecided
        except Undecided:
            undecided = place if undecided is None else undecided
    return None, undecided


def comparable(table: pd.DataFrame) -> list[Cell]:
    """Cells of a table like `structures.parquet`: lattice, positions and kinds of their sites."""
    return [
        (lattice, sites.frac_coords, sites.kinds)
        for lattice, sites in zip(table["lattice"], sites_of(table), strict=True)
    ]


def find_duplicates(
    table: pd.DataFrame, threads: int | None = None, strain: float = SAME_VOLUME
) -> tuple[list[str], dict[int, str]]:
    """Id of the first crystal equal to each row of `structures.parquet`, '' where there is none.

    Returns
    -------
    duplicate_of
        One id a row.
    undecided
        Rows of which it is not decided whether they equal another, with the id of that one.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(table["prototype"], table["formula"], strict=True)):
        groups[key].append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    cells = comparable(table)
    tasks = [[cells[row] for row in rows] for rows in several]
    duplicate_of, undecided = [""] * len(table), {}
    ids = table["id"].tolist()
    equal = partial(first_equal, strain=strain)
    found = (
        map(equal, tasks)
        if threads == 1
        else map_ordered(equal, tasks, threads, "duplicates", chunk_size=16)
    )
    for rows, matches in zip(several, found, strict=True):
        for position, (match, other) in enumerate(matches):
            if match != position:
                duplicate_of[rows[position]] = ids[rows[match]]
            elif other is not None:
                undecided[rows[position]] = ids[rows[other]]
    return duplicate_of, undecided


def note_undecided(table: pd.DataFrame, undecided: Mapping[int, str]) -> None:
    """Say in the column `notes` of which crystal a row may be a copy."""
    notes = table["notes"].tolist()
    for row, other in undecided.items():
        said = f"may equal {other}: too many ways to lay one on the other, both are kept"
        notes[row] = "; ".join(filter(None, (notes[row], said)))
    table["notes"] = notes


def copies(table: pd.DataFrame, strain: float = SAME_VOLUME) -> np.ndarray:
    """Whether each row of a table like `structures.parquet` equals one before it, [rows].

    Parameters
    ----------
    strain
        Largest logarithm of the ratio of their volumes.
    """
    numbered = table.assign(id=np.arange(len(table)).astype(str))
    return np.array(find_duplicates(numbered, 1, strain)[0], dtype=str) != ""
