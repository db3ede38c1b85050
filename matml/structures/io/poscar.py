"""A POSCAR or CONTCAR to a cell: all that VASP 5 and 6 write, and nothing guessed.

Format: VASP manual, "POSCAR". What remains of a file after its positions may be velocities only.
"""

import re
from collections.abc import Sequence
from itertools import takewhile

import numpy as np
from pymatgen.core.periodic_table import Element

from matml.core.text.cells import to_numbers
from matml.core.text.words import plural
from matml.structures.elements import MAX_ATOMIC_NUMBER
from matml.structures.errors import BadCrystal
from matml.structures.io.declared import (
    Declared,
    check_fractions,
    contradictions,
    formula_of,
    parse_formula,
)
from matml.structures.symmetry.mixed_lengths import refuse_mixed_lengths

NUMBERS = {Element.from_Z(number).symbol: number for number in range(1, MAX_ATOMIC_NUMBER + 1)}
FASTEST = 0.3
"""Velocities in angstrom per femtosecond are smaller: 30 km/s."""
CONFIGURATION = re.compile(r"\s*direct\s+configuration\s*=", re.IGNORECASE)
"""Above each of an XDATCAR's."""
FLAGS = {"T", "F", ".TRUE.", ".FALSE."}
Cell = tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]


def read_poscar(text: str, max_sites: int) -> Cell:
    """Return lattice, fractional positions, atomic numbers and notes.

    Returns
    -------
    tuple
        Row vectors (3, 3) in angstrom; (sites, 3); (sites,); how it was understood where the file
        leaves room for doubt.

    Raises
    ------
    BadCrystal
        Where a line is missing, too many or unreadable, or two of them contradict each other.
    """
    lines = text.lstrip("\ufeff").rstrip().splitlines()
    if len(lines) < 8:
        raise BadCrystal(
            f"POSCAR of {len(lines)} lines: cut short", "give the complete file (VASP 5 format)"
        )
    notes: list[str] = []
    cell = np.array([_numbers(lines, at, 3, exactly=True) for at in (2, 3, 4)])
    symbols, at = _symbols(lines, notes)
    counts = _counts(lines, at, symbols)
    total = sum(counts)
    if total > max_sites:
        raise BadCrystal(
            f"declares {total} sites, more than {max_sites}",
            "give the primitive cell, or raise structures.max_sites",
        )
    selective = lines[at + 1].strip()[:1] in ("s", "S")
    at += 2 if selective else 1
    cartesian = _is_cartesian(lines, at)
    rows = lines[at + 1 : at + 1 + total]
    if len(rows) < total:
        raise BadCrystal(f"declares {total} sites but lists {len(rows)}", "give the complete file")
    words = [row.split() for row in rows]
    try:
        positions = to_numbers([row[:3] for row in words])
        if positions.shape != (total, 3):
            raise ValueError
    except ValueError:
        for offset in range(total):
            _numbers(lines, at + 1 + offset, 3)
        raise
    names = _names([row[3:] for row in words])
    if symbols is None:
        symbols = _symbols_of_names(names, counts, notes)
    _check_names(names, symbols, counts)
    _check_rest(lines, at + 1 + total, total)
    scales = _scales(lines, cell)
    lattice = cell * scales
    kinds = np.repeat([NUMBERS[s] for s in symbols], counts)
    if cartesian:
        positions = _to_fractional(positions * scales, lattice)
        scale = scales[0] if scales[0] == scales[1] == scales[2] else 1.0
        refuse_mixed_lengths(lattice, positions, kinds.tolist(), scale)
    else:
        check_fractions(positions)
    _note_title(lines[0].strip(), symbols, counts, lattice, notes)
    return lattice, positions, kinds, notes


def _note_title(
    title: str, symbols: list[str], counts: list[int], lattice: np.ndarray, notes: list[str]
) -> None:
    """Note a formula in the first line that the sites contradict: it is a comment, often stale."""
    formula = parse_formula(title) if re.search(r"[a-z0-9]", title) else None
    amounts: dict[str, float] = {}
    for symbol, count in zip(symbols, counts, strict=True):
        amounts[symbol] = amounts.get(symbol, 0) + count
    words = title.split()
    if len(words) > 1 and NUMBERS.keys() >= set(words):
        # ASE lists symbols there, as in the line of symbols
        stale = set(words) != amounts.keys()
    else:
        stale = bool(formula and contradictions(Declared(formula, title), amounts, lattice))
    if stale:
        notes.append(f"the first line says {title!r}, the sites give {formula_of(amounts)}")


def _numbers(lines: Sequence[str], at: int, least: int, *, exactly: bool = False) -> list[float]:
    """Return the first numbers of a line; raise `BadCrystal` that names it where it has none."""
    words = lines[at].split()
    try:
        if len(words) < least or (exactly and len(words) != least):
            raise ValueError
        return to_numbers([words[:least]])[0].tolist()
    except ValueError:
        raise BadCrystal(
            f"line {at + 1} of the POSCAR is {lines[at].strip()[:60]!r}, not {least} numbers",
            "correct the line, or give the complete file",
        ) from None


def _words(line: str) -> list[str]:
    """Return the words of a line before its comment."""
    return re.split("[!#]", line)[0].split()


def _scales(lines: Sequence[str], cell: np.ndarray) -> np.ndarray:
    """Return the factors of x, y and z: one number, three, or minus the volume of the cell."""
    words = _words(lines[1])
    try:
        scales = to_numbers([words])[0]
    except ValueError:
        scales = np.zeros(0)
    if len(scales) not in (1, 3) or (len(scales) == 3 and not (scales > 0).all()):
        raise BadCrystal(
            f"line 2 of the POSCAR is {lines[1].strip()[:60]!r}, not a scale",
            "give one factor, three positive ones, or minus the volume in cubic angstrom",
        )
    if len(scales) == 1 and scales[0] < 0:
        # of lengths near the largest number the volume is none
        with np.errstate(invalid="ignore", over="ignore"):
            volume = abs(np.linalg.det(cell))
        if volume == 0 or not np.isfinite(volume):
            raise BadCrystal("the lattice vectors span no volume", "correct the three vectors")
        scales = np.cbrt(-scales / volume)
    return np.broadcast_to(scales, 3)


def _to_fractional(positions: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    try:
        return positions @ np.linalg.inv(lattice)
    except np.linalg.LinAlgError:
        raise BadCrystal(
            "the lattice vectors span no volume", "correct the three vectors"
        ) from None


def _symbols(lines: Sequence[str], notes: list[str]) -> tuple[list[str] | None, int]:
    """Return the elements of the line of symbols, and where the counts stand.

    None where there is no such line, as in VASP 4.
    """
    words = _words(lines[5])
    if words and all(word.isdigit() for word in words):
        return None, 5
    found = []
    for place, word in enumerate(words):
        # VASP 6 adds the potential and its hash: Na_pv/1234
        bare = re.split(r"[_/]", word)[0]
        symbol = bare if bare in NUMBERS else bare.capitalize()
        if symbol in ("D", "T"):
            raise BadCrystal(
                f"site {_first_site(lines, place)} holds the isotope {symbol}",
                f"write H in place of {symbol}: isotopes are not distinguished here",
            )
        if symbol not in NUMBERS:
            known = Element.is_valid_symbol(symbol)
            raise BadCrystal(
                f"site {_first_site(lines, place)} holds {bare}"
                + ("" if known else ", which is not a chemical element"),
                f"only elements up to Z = {MAX_ATOMIC_NUMBER} are known here"
                if known
                else "put the real element on the site or delete it if it stands for a vacancy",
            )
        if symbol != bare:
            notes.append(f"{bare} in the line of symbols read as {symbol}")
        found.append(symbol)
    if not found:
        raise BadCrystal(
            "line 6 of the POSCAR is empty", "give the elements in the order of the counts"
        )
    return found, 6


def _first_site(lines: Sequence[str], place: int) -> int:
    """Return the number of the first site of the element at a place of the line of symbols."""
    counts = [int(word) for word in lines[6].split()[:place] if word.isdigit()]
    return 1 + sum(counts)


def _counts(lines: Sequence[str], at: int, symbols: list[str] | None) -> list[int]:
    words = _words(lines[at])
    if not words or not all(word.isdigit() for word in words):
        raise BadCrystal(
            f"line {at + 1} of the POSCAR is {lines[at].strip()[:60]!r}, not the numbers of atoms",
            "give one whole number for each element",
        )
    counts = [int(word) for word in words]
    if symbols is not None and len(counts) != len(symbols):
        raise BadCrystal(
            f"the POSCAR names {len(symbols)} {plural('element', len(symbols))} "
            f"({' '.join(symbols)}) but gives {len(counts)} {plural('number', len(counts))} of "
            f"atoms ({' '.join(words)})",
            "give one number for each element",
        )
    if sum(counts) == 0:
        raise BadCrystal("holds no atoms", "give at least one site")
    return counts


def _is_cartesian(lines: Sequence[str], at: int) -> bool:
    line = lines[at].strip() if at < len(lines) else ""
    if any(CONFIGURATION.match(other) for other in lines[at + 1 :] if CONFIGURATION.match(line)):
        raise BadCrystal(
            f"line {at + 1} is {line[:60]!r}: an XDATCAR of several configurations",
            "give one configuration a file (ASE or pymatgen's Xdatcar split it)",
        )
    if not line or line[0] not in "cCkKdD":
        raise BadCrystal(
            f"line {at + 1} of the POSCAR is {line[:60]!r}, neither Direct nor Cartesian",
            "say above the positions how they are given: Direct or Cartesian",
        )
    return line[0] in "cCkK"


def _names(rests: Sequence[list[str]]) -> list[str]:
    """Return what names each site behind its position, '' where nothing does.

    Flags without "Selective dynamics" are passed over: they change nothing about the crystal.
    """
    names = []
    for words in rests:
        flags = len(words) >= 3 and all(word.upper() in FLAGS for word in words[:3])
        rest = words[3:] if flags else words
        name = rest[0] if rest else ""
        names.append("" if name.startswith(("!", "#")) else name)
    return names


def _symbols_of_names(names: Sequence[str], counts: Sequence[int], notes: list[str]) -> list[str]:
    """Return the elements by the names of the sites, for files of VASP 4."""
    symbols, start = [], 0
    for count in counts:
        block = set(names[start : start + count])
        start += count
        if len(block) != 1 or not block <= NUMBERS.keys():
            raise BadCrystal(
                "the POSCAR does not name its elements (VASP 4 format)",
                "add the line of element symbols above the line of counts",
            )
        symbols.append(block.pop())
    notes.append(f"elements read from the lines of the sites: {' '.join(symbols)}")
    return symbols


def _check_names(names: Sequence[str], symbols: Sequence[str], counts: Sequence[int]) -> None:
    """Refuse a site whose name is another element than its count says."""
    expected = (symbol for symbol, count in zip(symbols, counts, strict=True) for _ in range(count))
    for number, (name, symbol) in enumerate(zip(names, expected, strict=True), 1):
        if name == symbol or not name:
            continue
        bare = re.match(r"[A-Za-z]*", name)
        word = bare[0] if bare else ""
        if word in NUMBERS and word != symbol:
            raise BadCrystal(
                f"site {number} is {symbol} by the line of symbols, but its own line says {name}",
                "correct the symbols, the counts or the names of the sites",
            )


def _check_rest(lines: Sequence[str], at: int, total: int) -> None:
    """Refuse what follows the positions, unless it may be velocities or the like."""
    rest = lines[at:]
    if rest and rest[0].strip() and not re.match(r"(?i)\s*(lattice|cartesian|direct)\b", rest[0]):
        words = rest[0].split()
        what = "positions" if len(words) >= 3 and _is_number(words[0]) else "lines"
        raise BadCrystal(
            f"the counts add up to {total} sites, but more {what} follow "
            f"(line {at + 1}: {rest[0].strip()[:60]!r})",
            "correct the counts, or give each crystal a file of its own",
        )
    block = list(takewhile(str.strip, rest[1:])) if rest and not rest[0].strip() else []
    speeds = [row.split() for row in block]
    if block and all(len(row) >= 3 and all(map(_is_number, row[:3])) for row in speeds):
        fastest = max(abs(float(word)) for row in speeds for word in row[:3])
        if len(block) != total or fastest > FASTEST:
            raise BadCrystal(
                f"{total} sites by the counts, and below a blank line (line {at + 1}) {len(block)} "
                f"rows of numbers up to {fastest:g}, which are no velocities in angstrom per fs",
                "correct the counts if they are positions, delete the rows if they are not",
            )
    for offset, line in enumerate(rest):
        if CONFIGURATION.match(line) or (
            line.strip()
            and not all(map(_is_number, line.split()))
            and not re.match(r"(?i)\s*(lattice|cartesian|direct)\b", line)
        ):
            raise BadCrystal(
                f"text follows the positions (line {at + 1 + offset}: {line.strip()[:60]!r}), as "
                "of a second crystal",
                "give each crystal a file of its own",
            )


def _is_number(word: str) -> bool:
    try:
        float(word.replace("D", "E").replace("d", "e"))
    except ValueError:
        return False
    return True
