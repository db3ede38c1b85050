"""The plainest POSCAR read without building a pymatgen structure, many times faster.

Anything out of the ordinary (another scale, Cartesian positions, selective dynamics, velocities,
names that are no elements) is left to pymatgen's reader, which knows it or says what is wrong.
"""

import numpy as np
from pymatgen.core.periodic_table import Element

from matml.structures.check import MAX_ATOMIC_NUMBER

NUMBERS = {Element.from_Z(number).symbol: number for number in range(1, MAX_ATOMIC_NUMBER + 1)}


def plain_cell(text: str, max_sites: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Lattice (3, 3) in angstrom, fractional positions and atomic numbers; None if not plain."""
    lines = text.rstrip().split("\n")
    if len(lines) < 9 or lines[7].strip().lower() != "direct":
        return None
    symbols, counts = lines[5].split(), lines[6].split()
    if len(symbols) != len(counts) or not all(word.isdigit() for word in counts):
        return None
    if not all(symbol in NUMBERS for symbol in symbols):
        return None
    amounts = [int(word) for word in counts]
    total = sum(amounts)
    if not 0 < total <= max_sites or len(lines) != 8 + total or 0 in amounts:
        return None
    names = [symbol for symbol, n in zip(symbols, amounts, strict=True) for _ in range(n)]
    rows = [line.split() for line in lines[8:]]
    cell = [line.split() for line in lines[2:5]]
    if any(len(row) != 3 for row in cell) or any(
        len(row) not in (3, 4) or row[3:] not in ([], [name])
        for row, name in zip(rows, names, strict=True)
    ):
        return None
    try:
        if float(lines[1]) != 1:
            return None
        lattice = np.array(cell, dtype=np.float64)
        positions = np.array([row[:3] for row in rows], dtype=np.float64)
    except ValueError:
        return None
    if not (np.isfinite(lattice).all() and np.isfinite(positions).all()):
        return None
    return lattice, positions, np.array([NUMBERS[name] for name in names], dtype=np.int64)
