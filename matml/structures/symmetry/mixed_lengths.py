"""Cartesian positions in another unit than the cell, or scaled twice: told by the symmetry."""

from collections.abc import Hashable, Iterable

import moyopy
import numpy as np

from matml.structures.errors import BadCrystal
from matml.structures.symmetry.cell import cell_volume, is_too_long
from matml.structures.symmetry.search import REFERENCE_VOLUME_A3, SETTING

BOHR_A = 0.529177
SYMPREC_A = 0.02
LEAST_OPERATIONS = 4
"""Of the other reading. None of the 6,175 embedded crystals has that many where its positions are
multiplied, unless it had as many before."""
LEAST_SPAN, MOST_SPAN, FEW = 0.47, 1.05, 8
"""Of fractions along an axis, in the other reading; the least of more sites than a few."""
LEAST_SCALE = 0.015
"""By how much a factor differs from 1 where it is looked at: at 1.007 one of the embedded crystals
would have more symmetry, at 1.02, .98, 1.1, .9 and more none."""
MIXTURES = (
    (1 / BOHR_A, "is the cell in bohr, and are the positions in angstrom"),
    (BOHR_A, "is the cell in angstrom, and are the positions in bohr"),
)
"""Factors of positions that are fractions of a cell in another unit."""


def refuse_mixed_lengths(
    lattice: np.ndarray, frac_coords: np.ndarray, kinds: Iterable[Hashable], scale: float = 1.0
) -> None:
    """Refuse Cartesian positions that have more symmetry in another unit than the cell's.

    Parameters
    ----------
    lattice, frac_coords
        Row vectors (3, 3) in angstrom, positions as fractions of them (sites, 3).
    kinds
        What each site holds.
    scale
        Factor that the file gives for cell and positions.

    Raises
    ------
    BadCrystal
        Says which unit fits, or that positions have been scaled before.
    """
    volume = cell_volume(lattice)
    if len(frac_coords) < 2 or not (
        np.isfinite(frac_coords).all() and np.isfinite(volume) and not is_too_long(lattice)
    ):
        return  # which the check of the cell tells; moyo panics where it is too long
    rank: dict[Hashable, int] = {}
    numbers = [rank.setdefault(kind, len(rank)) for kind in kinds]
    to_reference = (REFERENCE_VOLUME_A3 * len(numbers) / volume) ** (1 / 3)
    places = frac_coords - frac_coords[0]
    as_read, span = None, float(np.ptp(places, axis=0).max())
    scaled = f"were the positions in angstrom already, and then scaled by {scale:g}"
    others = ((1 / scale, scaled),) if abs(scale - 1) > LEAST_SCALE else ()
    for factor, question in (*MIXTURES, *others):
        # the sites fill a good part of one cell
        least = LEAST_SPAN if len(numbers) > FEW else 0.0
        if not least <= factor * span <= MOST_SPAN:
            continue
        found = _search(lattice * to_reference, places * factor, numbers)
        if found is None or found[0] < LEAST_OPERATIONS:
            continue
        as_read = as_read or _search(lattice * to_reference, places, numbers) or (1, 1)
        if found[0] >= 2 * as_read[0]:
            raise BadCrystal(
                f"as they stand, the Cartesian positions have space group {as_read[1]}; multiplied "
                f"by {factor:.6f}, space group {found[1]}: {question}",
                f"divide the positions by {scale:g}"
                if question == scaled
                else "give cell and positions in angstrom",
            )


def _search(lattice: np.ndarray, places: np.ndarray, numbers: list[int]) -> tuple[int, int] | None:
    """Return the number of operations in this cell, and the space group; None without any."""
    cell = moyopy.Cell(lattice.tolist(), (places % 1.0).tolist(), numbers)
    try:
        found = moyopy.MoyoDataset(cell, symprec=SYMPREC_A, setting=SETTING)
    except ValueError:
        return None
    return len(found.operations), found.number
