"""Text of one structure file to pymatgen structures; declared sizes are checked before expanding.

What pymatgen's readers warn about is collected into notes instead of being printed.
"""

import re
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import Element

from matml.core.text.cells import to_numbers
from matml.core.text.json_text import from_json
from matml.structures.elements import Unknown, structure_of
from matml.structures.errors import BadCrystal
from matml.structures.io.cif.read import read_cif
from matml.structures.io.documents import other_content
from matml.structures.io.entries import check_entry
from matml.structures.io.json.databases import (
    crystal_records,
    entries_of,
    entry_suffixes,
    is_optimade,
)
from matml.structures.io.json.dictionaries import (
    ase_structure,
    cartesian_structure,
    jarvis_structure,
    pymatgen_structure,
    refuse_occupancy,
    weighed,
)
from matml.structures.io.json.optimade import optimade_structure
from matml.structures.io.poscar import read_poscar

BLOCK_LINES = re.compile(r"(?:^|(?<=[\n\r\ufeff]))(?:;|[ \t]*data_)", re.IGNORECASE)
CELL_EDGE = re.compile("_cell[_.]length_a", re.IGNORECASE)
SHAPES = re.compile("inhomogeneous|reshape|core dimension|broadcast|array element")
"""How numpy calls rows of different lengths."""
MOST_CRYSTALS = 250_000
"""Of one file."""
MOST_SECONDS = 10.0
"""Processor time that reading one crystal may take, and that checking it may: both take some
milliseconds."""
Parsed = tuple[str, Structure | BadCrystal, list[str]]


def parse(kind: str, text: str, max_sites: int) -> list[Parsed]:
    """Read every crystal of one text.

    Parameters
    ----------
    kind
        `poscar`, `cif`, `json` or `xyz`.
    max_sites
        Most atoms allowed in a cell.

    Returns
    -------
    list
        Per crystal: a suffix for its id ('' where it is the only one), the structure or the
        reason why there is none, and notes.
    """
    results = _parse(kind, text, max_sites)
    if len(results) == 1 and isinstance(results[0][1], BadCrystal):
        suffix, bad, notes = results[0]
        return [(suffix, other_content(kind, text) or bad, notes)]
    return results


def _parse(kind: str, text: str, max_sites: int) -> list[Parsed]:
    parts: Sequence[str | dict]
    if kind == "cif":
        parts = cif_blocks(text)
    elif kind == "xyz":
        parts = xyz_frames(text)
    elif kind == "json":
        try:
            parts = json_records(text)
        except BadCrystal as bad:
            return [("", bad, [])]
    else:
        parts = [text]
    if len(parts) > MOST_CRYSTALS:
        reason = f"holds more than {MOST_CRYSTALS} crystals"
        return [("", BadCrystal(reason, "split the file"), [])]
    suffixes = entry_suffixes(parts)
    results: list[Parsed] = []
    for suffix, part in zip(suffixes, parts, strict=True):
        messages: list[str] = []
        result: Structure | BadCrystal
        try:
            with collected_warnings(messages), bounded_work():
                result = READERS[kind](part, max_sites)
        except BadCrystal as bad:
            result = bad
        except Exception as error:  # readers raise whatever they stumble on
            detail = "; ".join([_stumbled(error), *messages])
            result = BadCrystal(
                f"cannot be read as {kind.upper()}: {shorten(detail)}",
                "correct the file; pymatgen's Structure.from_file must be able to read it",
            )
        results.append((suffix, result, [shorten(m) for m in dict.fromkeys(messages)]))
    return results


def _stumbled(error: Exception) -> str:
    """Say in words what a reader stumbled on, rather than in Python's."""
    if isinstance(error, KeyError):
        return f"the key {error} is missing"
    if isinstance(error, AttributeError | TypeError):
        return f"a value is of another kind than is meant ({error})"
    if isinstance(error, ValueError) and SHAPES.search(str(error)):
        return "lattice or positions are not in rows of three numbers"
    return f"{type(error).__name__}: {error}"


def shorten(text: str, limit: int = 300) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


class OutOfTime(BaseException):
    """Raised where reading a crystal takes too long; no reader's `except Exception` stops it."""


@contextmanager
def bounded_work(seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Refuse a crystal that takes too long, in processor time, where the system has such a clock.

    Raises
    ------
    BadCrystal
        Says so.
    """
    if not hasattr(signal, "setitimer") or current_thread() is not main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGVTALRM, end)
    # again and again, since a callback may swallow the first
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.5)
    try:
        yield
    except OutOfTime:
        raise BadCrystal(
            f"takes more than {seconds:g} s of processor time",
            "check that it is a crystal; give the primitive cell",
        ) from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@contextmanager
def collected_warnings(messages: list[str]) -> Iterator[None]:
    """Append the text of every warning in the block to `messages`, also where it fails."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            messages.extend(str(item.message) for item in caught)


def too_many(count: float, max_sites: int) -> BadCrystal:
    """The rejection of a cell with too many atoms."""
    return BadCrystal(
        f"declares {count:.10g} sites, more than {max_sites}",
        "give the primitive cell, or raise structures.max_sites",
    )


def read_poscar_text(text: str, max_sites: int) -> Structure:
    """Read a POSCAR or CONTCAR; how it was understood is warned of."""
    lattice, positions, numbers, notes = read_poscar(text, max_sites)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return structure_of(lattice, positions, numbers)


def cif_blocks(text: str) -> list[str]:
    """Split a CIF at its `data_` lines, outside text fields; blocks without a cell are left out."""
    starts, in_text = [0], False
    # by places, since a list of the lines of a large file takes many times its size
    for line in BLOCK_LINES.finditer(text):
        if line[0] == ";":
            in_text = not in_text
        elif not in_text:
            starts.append(line.start())
    blocks = [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [block for block in blocks if CELL_EDGE.search(block)] or [text]


def json_records(text: str) -> list[dict]:
    """Records of a JSON file: structures of pymatgen, or entries as databases send them."""
    try:
        value = from_json(text)
    except (ValueError, RecursionError) as error:
        remedy = "write it with json.dump(structure.as_dict(), file)"
        if "Extra data" in str(error):
            remedy = "several entries in one file make a list: [entry, entry]"
        raise BadCrystal(f"is not valid JSON ({error})", remedy) from None
    try:
        records = entries_of(value)
    except ValueError as error:
        raise BadCrystal(str(error), "write the file again with the program that made it") from None
    if not records:
        raise BadCrystal("holds an empty list", "give at least one structure")
    return records


def read_json(entry: dict, max_sites: int) -> Structure:
    """Build the structure of one entry: pymatgen's, a database's or OPTIMADE's."""
    *above, record = crystal_records(entry)
    if is_optimade(record):
        return optimade_structure(record, max_sites)
    if not isinstance(record, dict):
        record = {}
    if isinstance(record.get("cif"), str):
        structure = read_cif_block(record["cif"], max_sites)
    elif "lattice_mat" in record:
        structure = jarvis_structure(record, max_sites)
    elif {"cell", "positions"} <= record.keys():
        structure = ase_structure(record, max_sites)
    elif "lattice" in record and "sites" in record:
        structure = pymatgen_structure(record, max_sites)
    else:
        keys = ", ".join(map(str, list(record)[:8])) or "none"
        raise BadCrystal(
            f"is no crystal in a form that is read (its keys: {keys})",
            "write it with json.dump(structure.as_dict(), file) of pymatgen; entries of the "
            "Materials Project, OPTIMADE, JARVIS and ASE's database are read, too",
        )
    beside = [record.get(key) for key in ("properties", "key_value_pairs", "info")]
    for level in (*above, record, *beside):
        check_entry(level, structure)
    return structure


def xyz_frames(text: str) -> list[str]:
    """Split an extended-XYZ file into its frames; a frame cut short is left for the reader."""
    lines = text.lstrip("\ufeff").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    frames: list[str] = []
    position = 0
    while position < len(lines) and len(frames) <= MOST_CRYSTALS:
        word = lines[position].strip()
        if frames and not word.isdigit():
            # more lines than the frame before says, which its reader tells
            frames[-1] += "\n" + "\n".join(lines[position:])
            break
        size = int(word) if word.isdigit() and len(word) < 19 else len(lines)
        frames.append("\n".join(lines[position : position + 2 + size]))
        position += 2 + size
    return frames or [""]


def read_cif_block(text: str, max_sites: int) -> Structure:
    """Read one block of a CIF; how it was understood is warned of."""
    structure, notes = read_cif(text, max_sites)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return structure


def read_xyz(text: str, max_sites: int) -> Structure:
    """Read one frame of extended XYZ: `Lattice="9 numbers"` and `Properties=species:S:1:pos:R:3`.

    The format is the one that ASE and libAtoms document.
    """
    lines = text.splitlines()
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise BadCrystal(
            "the first line of an XYZ frame must be the number of atoms", "correct the file"
        )
    count = int(lines[0])
    if count > max_sites:
        raise too_many(count, max_sites)
    if len(lines) > count + 2 and lines[count + 2].strip():
        raise BadCrystal(
            f"declares {count} sites, but more lines follow ({lines[count + 2].strip()[:60]!r})",
            "correct the number of atoms in the first line",
        )
    if len(lines) < count + 2:
        raise BadCrystal(
            f"declares {count} sites but lists {len(lines) - 2}", "give the complete file"
        )
    found = re.search(r"(?i)\blattice\s*=\s*[\"'{\[]([^\"'}\]]*)", lines[1])
    if found is None:
        raise BadCrystal(
            'no Lattice="…" in the second line: not a periodic crystal',
            "write extended XYZ with its lattice (ase.io.write(..., format='extxyz'))",
        )
    numbers = to_numbers([found.group(1).replace(",", " ").split()])[0]
    if len(numbers) != 9:
        raise BadCrystal(
            f"Lattice has {len(numbers)} numbers in place of 9", "give three row vectors"
        )
    periodic = re.search(
        r"(?i)\b(?:pbc|periodic)\s*=\s*[\"'{\[]?\s*([TF\d][a-z]*(?:[\s,]+[TF\d][a-z]*){2}|[TF\d]\b)",
        lines[1],
    )
    if periodic and any(word[0] in "Ff0" for word in re.split(r"[\s,]+", periodic.group(1))):
        raise BadCrystal(
            f'pbc="{periodic.group(1)}": not periodic in all directions', "give a bulk crystal"
        )
    layout = re.search(r"(?i)\bproperties\s*=\s*\"?([^\s\"]+)", lines[1])
    columns = (layout.group(1) if layout else "species:S:1:pos:R:3").split(":")
    start, position = {}, 0
    for name, width in zip(columns[::3], columns[2::3], strict=True):
        start[name.lower()] = position
        position += int(width)
    name_column = start.get("species", start.get("z", start.get("element")))
    number_column = start.get("z", start.get("numbers"))
    if name_column is None or "pos" not in start:
        raise BadCrystal("Properties names no species or no pos", "write species and pos columns")
    rows = [line.split() for line in lines[2 : count + 2]]
    short = next((i for i, row in enumerate(rows) if len(row) < position), None)
    if short is not None:
        raise BadCrystal(
            f"line {short + 3} has {len(rows[short])} values, but Properties declares {position}",
            "give every atom all its values, or declare what stands there",
        )
    coordinates = to_numbers([row[start["pos"] : start["pos"] + 3] for row in rows])
    species: list[Element | Unknown] = []
    for row in rows:
        word = row[name_column]
        said = row[number_column] if number_column is not None else ""
        if Element.is_valid_symbol(word) and said.isdigit() and int(said) != Element(word).Z:
            raise BadCrystal(
                f"a site is called {word}, but its atomic number is given as {said}",
                "correct one of the two columns",
            )
        where = f"site {len(species) + 1}"
        symbol = (
            Element.from_Z(int(word)).symbol if word.isdigit() and 0 < int(word) < 119 else word
        )
        mass = next((row[start[key]] for key in ("masses", "mass") if key in start), None)
        species.append(weighed(symbol, mass, where))
        for key in ("occupancy", "occupancies", "occ"):
            if key in start:
                refuse_occupancy(to_numbers([[row[start[key]]]])[0][0], 1.0, where)
    structure = cartesian_structure(Lattice(np.reshape(numbers, (3, 3))), species, coordinates)
    found_facts = re.findall(r"(\w+)=(?:\"([^\"]*)\"|(\S+))", lines[1])
    facts = {name.lower(): quoted or plain for name, quoted, plain in found_facts}
    if "occupancy" in facts:
        raise BadCrystal(
            f"occupancy={facts['occupancy']:.60} is declared, which is not read from here",
            "give the crystal as CIF",
        )
    check_entry(facts, structure)
    return structure


READERS: dict[str, Callable[[Any, int], Structure]] = {
    "poscar": read_poscar_text,
    "cif": read_cif_block,
    "json": read_json,
    "xyz": read_xyz,
}
