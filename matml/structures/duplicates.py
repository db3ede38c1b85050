"""Equal crystals: pymatgen's StructureMatcher within one prototype and composition."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from pymatgen.core.structure_matcher import StructureMatcher

from matml.core.parallel import map_ordered
from matml.structures.elements import structure_of

ALIKE = 0.01
"""How much equal cells of 1 cubic angstrom per atom may differ (the matcher allows 0.3)."""
Cell = tuple[np.ndarray, np.ndarray, np.ndarray]


def first_equal(cells: Sequence[Cell]) -> list[int]:
    """For each cell the position of the first one equal to it (its own where there is none).

    Parameters
    ----------
    cells
        Lattice (9 numbers, angstrom), flat fractional coordinates, atomic numbers; all of one
        prototype and composition, in primitive cells.
    """
    # the cells are primitive and of one size already, so neither needs a search
    matcher = StructureMatcher(primitive_cell=False, attempt_supercell=False)
    scaled = [_scaled(*cell) for cell in cells]
    structures = [structure_of(*cell) for cell in cells]
    unique: list[int] = []
    result = []
    for index, structure in enumerate(structures):
        match = next(
            (
                u
                for u in unique
                if _laid_alike(scaled[u], scaled[index]) or matcher.fit(structures[u], structure)
            ),
            index,
        )
        if match == index:
            unique.append(index)
        result.append(match)
    return result


def _scaled(lattice: np.ndarray, coords: np.ndarray, numbers: np.ndarray) -> Cell:
    """A cell of one cubic angstrom per atom: lattice (3, 3), coordinates (atoms, 3), numbers."""
    lattice = np.reshape(lattice, (3, 3))
    volume = abs(np.linalg.det(lattice)) / len(numbers)
    return lattice / np.cbrt(volume), np.reshape(coords, (-1, 3)), np.asarray(numbers)


def _laid_alike(one: Cell, other: Cell) -> bool:
    """Whether two scaled cells are equal atom by atom, far within the matcher's tolerances.

    Most copies are, and need no search for how to lay one on the other.
    """
    if not np.array_equal(one[2], other[2]) or np.abs(one[0] - other[0]).max() > ALIKE:
        return False
    apart = one[1] - other[1]
    return np.abs((apart - np.round(apart)) @ one[0]).max() <= ALIKE


def find_duplicates(table: pd.DataFrame, threads: int | None = None) -> list[str]:
    """Id of the first crystal equal to each row of `structures.parquet`, '' where there is none."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(table["prototype"], table["formula"], strict=True)):
        groups[key].append(row)
    several = [rows for rows in groups.values() if len(rows) > 1]
    columns = [table[name].tolist() for name in ("lattice", "frac_coords", "atomic_numbers")]
    tasks = [[tuple(column[row] for column in columns) for row in rows] for rows in several]
    duplicate_of = [""] * len(table)
    ids = table["id"].tolist()
    found = (
        map(first_equal, tasks)
        if threads == 1
        else map_ordered(first_equal, tasks, threads, "duplicates", chunk_size=16)
    )
    for rows, matches in zip(several, found, strict=True):
        for position, match in enumerate(matches):
            if match != position:
                duplicate_of[rows[position]] = ids[rows[match]]
    return duplicate_of


def copies(table: pd.DataFrame) -> np.ndarray:
    """Whether each row of a table like `structures.parquet` equals one before it, [rows]."""
    numbered = table.assign(id=np.arange(len(table)).astype(str))
    return np.array(find_duplicates(numbered, threads=1), dtype=str) != ""
