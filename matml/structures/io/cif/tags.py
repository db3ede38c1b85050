"""The tags of one CIF block: their values, numbers, cell, and what it declares of the crystal."""

import re
from typing import cast

import gemmi
import numpy as np
from pymatgen.core import Lattice
from pymatgen.core.periodic_table import Element

from matml.structures.errors import BadCrystal
from matml.structures.io.declared import (
    Declared,
    parse_formula,
    plain_formula,
)

EDGES = tuple(f"_cell_length_{axis}" for axis in "abc")
ANGLES = tuple(f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma"))
FORMULAS = (
    "_chemical_formula_sum",
    "_chemical_formula_structural",
    "_chemical_formula_moiety",
    "_chemical_formula_iupac",
)
BONDED = tuple(f"_geom_bond_atom_site_label_{end}" for end in "12")
MULTIPLICITY = ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity")
SYMMETRY_ORDER = "_atom_site_site_symmetry_order"
SYSTEM = ("_space_group_crystal_system", "_symmetry_cell_setting")
CHARGED = re.compile(r"\W*[A-Za-z]+[\^(]*(?:(\d*\.?\d*)([+-])|([+-])(\d+\.?\d*))[\^)]*")
"""A type symbol such as `Fe3+`, `O-2`, `Na+`."""
READ = (
    *("_cell", "_atom_site", "_atom_type", "_symmetry", "_space_group", "_chemical", "_exptl"),
    *("_geom_bond", "_pd_phase_name"),
)
"""What the tags of a crystal begin with."""
UNKNOWN = ("", ".", "?")
MOST_ROWS = 100_000
"""Of a loop that is read."""


def values_by_tag(text: str) -> dict[str, list[str]]:
    """Return the values of the first block by lower-case tag, without quotes.

    Raises
    ------
    BadCrystal
        Where the text is no CIF, or gives a tag or a loop twice.
    """
    # the grammar knows ASCII spaces and line ends only
    plain = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
    if "data_" not in plain.lower():
        raise BadCrystal(
            "no CIF data block with a cell (_cell_length_a)", "give a complete CIF file"
        )
    try:
        document = gemmi.cif.read_string(plain)
    except (RuntimeError, ValueError) as error:
        raise _unreadable(str(error), plain) from None
    found: dict[str, list[str]] = {}
    for item in next((block for block in document if len(list(block))), document[0]):
        if item.pair is not None:
            tag, value = cast(tuple[str, str], item.pair)
            pairs = [(tag, [value])]
        elif item.loop is not None:
            loop = item.loop
            if loop.length() > MOST_ROWS and any(map(_is_read, loop.tags)):
                raise BadCrystal(
                    f"a loop of {loop.length()} rows ({loop.tags[0]}), more than {MOST_ROWS}",
                    "give the primitive cell, or a shorter loop",
                )
            columns = loop.values if any(map(_is_read, loop.tags)) else []
            pairs = [(tag, columns[i :: loop.width()]) for i, tag in enumerate(loop.tags)]
        else:
            continue
        for tag, values in pairs:
            # DDLm writes entry.length_a for _cell_length_a
            name = tag.lower().replace(".", "_")
            if name in found:
                raise BadCrystal(
                    f"the tag {tag} appears twice in one data block",
                    "give each crystal its own data_ block, or delete the second value",
                )
            # measured data may be millions of values
            wanted = values if _is_read(tag) else []
            found[name] = [gemmi.cif.as_string(value).strip() for value in wanted]
    return found


def _is_read(tag: str) -> bool:
    return tag.lower().startswith(READ)


def _unreadable(message: str, text: str) -> BadCrystal:
    """Return the rejection of a text that is no valid CIF."""
    if "duplicate" in message:
        tag = message.split("duplicate tag ")[-1]
        return BadCrystal(
            f"the tag {tag} appears twice in one data block",
            "give each crystal its own data_ block, or delete the second value",
        )
    found = re.match(r"string:(\d+)(?::\d+)?(?:\(\d+\))?[^:]*: (.*)", message)
    line = int(found[1]) if found else 0
    lines = text.split("\n")
    shown = f", line {line} ({lines[line - 1].strip()[:60]!r})" if 0 < line <= len(lines) else ""
    reason = found[2] if found else message
    if "number of values" in reason:
        reason = "a loop's number of values is no multiple of its number of tags"
    return BadCrystal(
        f"cannot be read as CIF: {reason}{shown}",
        "correct the file; values with spaces, such as operations x, y, z, stand in quotes",
    )


def _number(block: dict[str, list[str]], tag: str) -> float | None:
    """Return a number, without its standard uncertainty; None where there is none."""
    values = block.get(tag, [])
    if not values or values[0] in UNKNOWN:
        return None
    return finite_number(values[0], tag)


def finite_number(text: str, what: str) -> float:
    """Return a number, its standard uncertainty left out; `what` names it where it is none."""
    value = gemmi.cif.as_number(text)
    if not np.isfinite(value):
        raise BadCrystal(
            f"{what} is {text!r}, not a number", "write a number such as 5.64 or 5.640(1)"
        )
    return float(value)


def lattice_of(block: dict[str, list[str]]) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return the row vectors of the cell in angstrom, and its angles in degrees."""
    edges: list[float] = []
    angles: list[float] = []
    for tag in (*EDGES, *ANGLES):
        value = _number(block, tag)
        if value is None and tag in ANGLES:
            raise BadCrystal(f"the cell has no {tag}", "give all three angles of the cell")
        if value is None:
            raise BadCrystal(f"the cell has no {tag}", "give all three edges of the cell")
        (edges if tag in EDGES else angles).append(value)
    if min(edges) <= 0 or not all(0 < angle < 180 for angle in angles):
        raise BadCrystal(
            f"the cell has edges {edges} A and angles {angles} degrees",
            "give positive edges and angles between 0 and 180 degrees",
        )
    lattice = Lattice.from_parameters(*edges, *angles).matrix
    if not np.isfinite(lattice).all():
        raise BadCrystal(
            f"angles {angles} degrees span no cell", "check the three angles of the cell"
        )
    return np.array(lattice), (angles[0], angles[1], angles[2])


def declared_facts(block: dict[str, list[str]], notes: list[str]) -> Declared:
    """Return what the block says of its content; a formula that is not understood is noted."""
    texts = [text for tag in FORMULAS for text in block.get(tag, [])]
    kinds = block.get("_atom_site_type_symbol", block.get("_atom_site_label", []))
    own = {letters[0].capitalize() for kind in kinds if (letters := re.search("[A-Za-z]+", kind))}
    formulas = {text: plain_formula(text, own) for text in texts if text not in UNKNOWN}
    plain = {text: formula for text, formula in formulas.items() if formula}
    sums = [text for text in block.get(FORMULAS[0], []) if text in formulas]
    notes += [
        f"the formula {text!r} is not understood, and was not compared with the sites"
        for text in sums or list(formulas)[: not plain]
        if text not in plain
    ]
    text, formula = next(iter(plain.items()), ("", None))
    units = _number(block, "_cell_formula_units_z")
    return Declared(
        formula=formula,
        formula_text=text,
        other_formulas=plain,
        units=units if units and units > 0 else None,
        volume_A3=_number(block, "_cell_volume"),
        density_g_cm3=_number(block, "_exptl_crystal_density_diffrn"),
        measured_g_cm3=_number(block, "_exptl_crystal_density_meas"),
        electrons=_number(block, "_exptl_crystal_f_000"),
        weight_u=_number(block, "_chemical_formula_weight"),
        in_cell=_in_cell(block),
    )


def oxidation_numbers(block: dict[str, list[str]]) -> dict[str, float]:
    """Return the oxidation numbers of type symbols, as their loop or else the symbols give them."""
    numbers: dict[str, float] = {}
    said = block.get("_atom_type_oxidation_number", [])
    for kind, text in zip(block.get("_atom_type_symbol", []), said, strict=False):
        if np.isfinite(value := gemmi.cif.as_number(text)):
            numbers[kind] = float(value)
    for kind in block.get("_atom_site_type_symbol", block.get("_atom_site_label", [])):
        if kind not in numbers and (found := CHARGED.fullmatch(kind)):
            size = float((found[1] or found[4] or "1").strip(".") or 1)
            numbers[kind] = -size if "-" in (found[2] or found[3]) else size
    return numbers


def _in_cell(block: dict[str, list[str]]) -> dict[str, float] | None:
    """Return the atoms of the cell by the loop of atom types; None where it does not tell them."""
    found: dict[str, float] = {}
    numbers = block.get("_atom_type_number_in_cell", [])
    for kind, number in zip(block.get("_atom_type_symbol", []), numbers, strict=False):
        formula = parse_formula(re.sub(r"\d*[+-]$|\d+$", "", kind))
        if number in UNKNOWN or formula is None or len(formula) != 1:
            return None
        [symbol] = formula
        found[symbol] = found.get(symbol, 0.0) + finite_number(number, "_atom_type_number_in_cell")
    return found or None


def listed_types(block: dict[str, list[str]]) -> dict[str, str]:
    """Return the elements of the loop of atom types as they stand there, by symbol, D as H.

    Empty where one of them is no element.
    """
    found: dict[str, str] = {}
    for kind in block.get("_atom_type_symbol", []):
        letters = re.match(r"\d*([A-Za-z]*)", kind)
        symbol = letters[1].capitalize() if letters else ""
        symbol = "H" if symbol in ("D", "T") else symbol
        if not Element.is_valid_symbol(symbol):
            return {}
        found[symbol] = kind
    return found


def entry(block: dict[str, list[str]], tag: str, row: int) -> str:
    """Return a value of a row, '' where it is not given."""
    values = block.get(tag, [])
    value = values[row] if row < len(values) else ""
    return "" if value in UNKNOWN else value
