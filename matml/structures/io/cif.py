"""One block of a CIF to a crystal: every fact that it declares is held against what was read.

gemmi parses the file (COMCIFS' grammar) and knows the space groups; what a site, an operation or
a formula means, and what to do where two of them disagree, is decided here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import gemmi
import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import Element
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.elements import Unknown
from matml.structures.errors import BadCrystal
from matml.structures.io.declared import (
    FARTHEST_UNCONFIRMED,
    Declared,
    check_fractions,
    contradictions,
    parse_formula,
)
from matml.structures.io.entries import DECLARED, declared_symmetry
from matml.structures.io.space_groups import Operations, declared_operations, keep_metric

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
SYSTEM = ("_space_group_crystal_system", "_symmetry_cell_setting")
READ = (
    *("_cell", "_atom_site", "_atom_type", "_symmetry", "_space_group", "_chemical", "_exptl"),
    *BONDED,
)
"""What the tags of a crystal begin with."""
MODULATED = ("_cell_modulation_dimension", "_space_group_ssg_name", "_cell_subsystems_number")
VACANCY = re.compile(r"x|vac|vacancy|void|dum|dummy", re.IGNORECASE)
GROUPS = {"OH", "OW", "WAT", "HOH", "H2O", "NH", "CH", "ME", "ET", "PH"}
"""Labels that stand for a group with hydrogens, where no type symbol says what they are."""
SAME_SITE_A = 0.1
"""Images of one site nearer than this are one atom, whose coordinates have too few digits."""
SAME_ATOM_A = 0.02
"""Atoms of one element, of different rows, nearer than this are one atom given twice."""
LARGEST_SPACE_GROUP = 192  # general positions of Fm-3m
FARTHEST_CELLS = 1e6
"""Fractional coordinates beyond are refused: no digits are left within the cell."""
MOST_AT_ONE_PLACE = 64
"""Positions of rows within `SAME_ATOM_A` of one another, beyond which a file is absurd."""
UNKNOWN = ("", ".", "?")


@dataclass(frozen=True)
class Site:
    """One row of the loop of atom sites."""

    name: str
    species: Element | Unknown
    position: np.ndarray
    occupancy: float
    multiplicity: int | None
    wyckoff: str


@dataclass(frozen=True)
class Reading:
    """A cell filled by one of the declared symmetries, and what contradicts it."""

    operations: Operations
    species: list[dict]
    positions: np.ndarray
    contradictions: list[str]
    notes: list[str]


def read_cif(text: str, max_sites: int) -> tuple[Structure, list[str]]:
    """Return the crystal of one block, and notes on how it was read.

    Raises
    ------
    BadCrystal
        Where the block cannot be read, or declares what contradicts its sites.
    """
    block = _values(text)
    if not all(block.get(tag) for tag in EDGES):
        raise BadCrystal(
            "no CIF data block with a cell (_cell_length_a)", "give a complete CIF file"
        )
    notes: list[str] = []
    if any(block.get(tag, ["0"])[0] not in (*UNKNOWN, "0") for tag in MODULATED):
        raise BadCrystal(
            "the structure is modulated: its sites are an average", "give a commensurate supercell"
        )
    lattice, angles = _lattice(block)
    declared = _declared(block)
    _check_size(block, declared, max_sites)
    sites = _sites(block, declared, lattice, notes)
    operations = declared_operations(block, angles, notes)
    if not operations:
        operations = [_no_symmetry(declared)]
    # a row of the largest group makes 192 atoms at most
    if len(sites) * max(map(len, operations)) > LARGEST_SPACE_GROUP * max_sites:
        raise _too_many(len(sites) * max(map(len, operations)), max_sites)
    reading = _choose([_fill(sites, one, lattice, declared) for one in operations], declared)
    if len(reading.operations) == 1:
        # a formula confirms nothing that no operation moves
        check_fractions(np.array([site.position for site in sites]))
    if len(reading.species) > max_sites:
        raise _too_many(len(reading.species), max_sites)
    structure = Structure(Lattice(lattice), reading.species, reading.positions)
    system = next((word for tag in SYSTEM for word in block.get(tag, [])), "")
    declared_system, number = (
        declared_symmetry({"crystal_system": system}),
        reading.operations.number,
    )
    for said, numbers in declared_system.items():
        if number > 1 and number not in numbers:
            raise BadCrystal(
                f"{said} is declared, but {reading.operations.origin} is of space group {number}",
                "correct one of the two",
            )
    if number <= 1:
        structure.properties[DECLARED] = declared_system
    return structure, [*notes, *reading.notes]


def _values(text: str) -> dict[str, list[str]]:
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
            columns = loop.values if any(map(_is_read, loop.tags)) else []
            pairs = [(tag, columns[i :: loop.width()]) for i, tag in enumerate(loop.tags)]
        else:
            continue
        for tag, values in pairs:
            # DDLm writes _cell.length_a for _cell_length_a
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
    return _as_number(values[0], tag)


def _as_number(text: str, what: str) -> float:
    value = gemmi.cif.as_number(text)
    if not np.isfinite(value):
        raise BadCrystal(
            f"{what} is {text!r}, not a number", "write a number such as 5.64 or 5.640(1)"
        )
    return float(value)


def _lattice(block: dict[str, list[str]]) -> tuple[np.ndarray, tuple[float, float, float]]:
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


def _declared(block: dict[str, list[str]]) -> Declared:
    """Return what the block says of its content."""
    formula, text = None, ""
    for tag in FORMULAS:
        text = " ".join(block.get(tag, [])[:1])
        if text not in UNKNOWN and (formula := parse_formula(text)):
            break
    units = _number(block, "_cell_formula_units_z")
    return Declared(
        formula=formula,
        formula_text=text if formula else "",
        units=units if units and units > 0 else None,
        volume_A3=_number(block, "_cell_volume"),
        density_g_cm3=_number(block, "_exptl_crystal_density_diffrn"),
        electrons=_number(block, "_exptl_crystal_f_000"),
        weight_u=_number(block, "_chemical_formula_weight"),
        in_cell=_in_cell(block),
    )


def _in_cell(block: dict[str, list[str]]) -> dict[str, float] | None:
    """Return the atoms of the cell by the loop of atom types; None where it does not tell them."""
    found: dict[str, float] = {}
    numbers = block.get("_atom_type_number_in_cell", [])
    for kind, number in zip(block.get("_atom_type_symbol", []), numbers, strict=False):
        formula = parse_formula(re.sub(r"\d*[+-]$|\d+$", "", kind))
        if number in UNKNOWN or formula is None or len(formula) != 1:
            return None
        [symbol] = formula
        found[symbol] = found.get(symbol, 0.0) + _as_number(number, "_atom_type_number_in_cell")
    return found or None


def _check_size(block: dict[str, list[str]], declared: Declared, max_sites: int) -> None:
    """Refuse a cell that declares too many atoms before any is made."""
    if (atoms := declared.largest_cell) > max_sites:
        raise _too_many(atoms, max_sites)
    rows = max(
        (len(values) for tag, values in block.items() if tag.startswith("_atom_site_")), default=0
    )
    if rows > max_sites:
        raise _too_many(rows, max_sites)


def _too_many(count: float, max_sites: int) -> BadCrystal:
    return BadCrystal(
        f"declares {count:.10g} sites, more than {max_sites}",
        "give the primitive cell, or raise structures.max_sites",
    )


def _no_symmetry(declared: Declared) -> Operations:
    """Return the identity for a block without any symmetry, where formula and Z can confirm it."""
    if not declared.tells_amount:
        raise BadCrystal(
            "neither operations nor a space group are given, and nothing tells whether all atoms "
            "of the cell are listed",
            "add _space_group_name_H-M_alt 'P 1' if they are, else the space group",
        )
    return Operations("no symmetry", np.eye(3)[None], np.zeros((1, 3)), 1)


# ---- sites


def _sites(
    block: dict[str, list[str]], declared: Declared, lattice: np.ndarray, notes: list[str]
) -> list[Site]:
    """Return the atom sites, each checked by itself.

    Raises
    ------
    BadCrystal
        Names the site and the value at fault.
    """
    labels = block.get("_atom_site_label", [])
    types = block.get("_atom_site_type_symbol", [])
    positions = _positions(block, lattice)
    count = len(labels or types)
    if not count or len(positions) != count:
        raise BadCrystal("the CIF lists no atoms (_atom_site_…)", "add the loop of atom sites")
    names = labels or [f"{kind} (row {i})" for i, kind in enumerate(types, 1)]
    _refuse_unlisted(block, names)
    if labels:
        _refuse_lost(block, labels)
    hydrogens = any(re.match(r"\d*[HDT](?![a-z])", kind) for kind in types or labels)
    found = []
    multiplicities = next((block[tag] for tag in MULTIPLICITY if tag in block), [])
    for row, name in enumerate(names):
        flag = _cell(block, "_atom_site_calc_flag", row).lower()
        if flag == "dum":
            notes.append(f"site {name} is a dummy (calc_flag dum) and was left out")
            continue
        if types and types[row] not in UNKNOWN:
            species = _of_type(types[row], name, declared)
        else:
            species = _of_label(name, declared, hydrogens, notes)
        _check_position(positions[row], name, declared)
        written = _cell(block, "_atom_site_occupancy", row)
        if not written and "_atom_site_occupancy" in block:
            notes.append(f"site {name} has no occupancy ('.' or '?'), read as 1")
        occupancy = _occupancy(written, name)
        if occupancy == 0:
            if declared.formula is None:
                raise BadCrystal(
                    f"site {name} has occupancy 0, and no formula tells whether it is empty",
                    "delete the row if it is, correct the occupancy, or add _chemical_formula_sum",
                )
            notes.append(f"site {name} has occupancy 0 and was left out, as in the formula")
            continue
        position = re.fullmatch(r"(\d*)([a-zA-Z])", _cell(block, "_atom_site_wyckoff_symbol", row))
        wyckoff = position[2] if position else ""
        times = multiplicities[row] if multiplicities else position[1] if position else ""
        found.append(
            Site(
                name,
                species,
                positions[row],
                occupancy,
                int(times) if times.isdigit() and int(times) else None,
                wyckoff,
            )
        )
    if not found:
        raise BadCrystal("the CIF lists no atoms (_atom_site_…)", "add the loop of atom sites")
    return found


def _check_position(position: np.ndarray, name: str, declared: Declared) -> None:
    """Refuse a site without a position, or with one that cannot be fractions of the cell."""
    if not np.isfinite(position).all():
        raise BadCrystal(
            f"site {name} has no coordinates ('.' or '?')",
            "give its position, or delete the row if the atom was not located",
        )
    farthest = float(position[np.abs(position).argmax()])
    if abs(farthest) > (FARTHEST_CELLS if declared.formula else FARTHEST_UNCONFIRMED):
        raise BadCrystal(
            f"site {name} lies {farthest:.3g} cells away: are its coordinates fractions of the "
            "cell?",
            "give fractions, or _atom_site_Cartn_x in angstrom; a formula confirms what is read",
        )


def _cell(block: dict[str, list[str]], tag: str, row: int) -> str:
    """Return a value of a row, '' where it is not given."""
    values = block.get(tag, [])
    value = values[row] if row < len(values) else ""
    return "" if value in UNKNOWN else value


def _positions(block: dict[str, list[str]], lattice: np.ndarray) -> np.ndarray:
    """Return fractional positions, [rows, 3], NaN where none is given.

    Raises
    ------
    BadCrystal
        Where a number cannot be read, or Cartesian positions are others or their axes not known.
    """
    found: dict[bool, np.ndarray] = {}
    for tags, cartesian in (
        ([f"_atom_site_fract_{axis}" for axis in "xyz"], False),
        ([f"_atom_site_cartn_{axis}" for axis in "xyz"], True),
    ):
        columns = [block.get(tag, []) for tag in tags]
        if not all(columns):
            continue
        names = block.get("_atom_site_label", block.get("_atom_site_type_symbol", []))
        rows = np.array(
            [
                [
                    np.nan
                    if value in UNKNOWN
                    else _as_number(
                        value, f"site {names[row] if row < len(names) else row + 1}: {tag}"
                    )
                    for row, value in enumerate(column)
                ]
                for tag, column in zip(tags, columns, strict=True)
            ]
        ).T
        found[cartesian] = rows @ np.linalg.inv(lattice) if cartesian else rows
    oblique = np.abs(lattice - np.diag(lattice.diagonal())).max() > SAME_SITE_A
    if len(found) == 2 and not oblique:
        step = found[False] - found[True]
        apart = np.linalg.norm((step - np.rint(step)) @ lattice, axis=1)
        if (apart > SAME_SITE_A).any():
            row = int(np.nanargmax(apart))
            one, other = found[False][row].tolist(), (found[True][row] @ lattice).round(4).tolist()
            raise BadCrystal(
                f"site {row + 1} is at {one} in fractions of the cell, but at {other} A, "
                f"{apart[row]:.3g} A apart",
                "correct one of the two",
            )
    if found.keys() == {True} and oblique:
        raise BadCrystal(
            "positions are Cartesian, and how their axes lie in the oblique cell is not known",
            "give fractions (_atom_site_fract_x)",
        )
    return next(iter(found.values()), np.zeros((0, 3)))


def _refuse_unlisted(block: dict[str, list[str]], names: Sequence[str]) -> None:
    """Refuse hydrogens that are counted but not listed, and alternatives of a disorder."""
    for row, name in enumerate(names):
        attached = _cell(block, "_atom_site_attached_hydrogens", row)
        if attached and attached not in ("0", "0.0"):
            raise BadCrystal(
                f"site {name} has {attached} attached hydrogens that are not listed as sites",
                "give the positions of all hydrogens",
            )
    places: dict[str, set[str]] = {}
    for row in range(len(names)):
        group = _cell(block, "_atom_site_disorder_group", row)
        if group:
            assembly = _cell(block, "_atom_site_disorder_assembly", row)
            places.setdefault(assembly, set()).add(group)
    for groups in places.values():
        if len(groups) > 1 or any(group.startswith("-") for group in groups):
            raise BadCrystal(
                f"disordered: sites stand in the disorder groups {', '.join(sorted(groups))}, "
                "alternatives of one another",
                "give an ordered model: keep the sites of one group",
            )


def _refuse_lost(block: dict[str, list[str]], labels: Sequence[str]) -> None:
    """Refuse sites that another loop names, but the loop of sites does not list."""
    listed = {label.lower() for label in labels}
    for tag in ("_atom_site_aniso_label", *BONDED):
        for label in block.get(tag, []):
            if label not in UNKNOWN and label.lower() not in listed:
                raise BadCrystal(
                    f"{tag} names {label}, which is none of the {len(labels)} sites",
                    "give the row of that site, or delete what names it",
                )


def _occupancy(text: str, name: str) -> float:
    # CIF core dictionary: the default is 1
    if not text:
        return 1.0
    value = _as_number(text, f"the occupancy of site {name}")
    if not 0 <= value <= 1.0 + 1e-3:
        raise BadCrystal(f"the occupancy of site {name} is {text}", "give occupancies from 0 to 1")
    return min(value, 1.0)


def _of_type(kind: str, name: str, declared: Declared) -> Element | Unknown:
    """Return the element of a type symbol such as `Na`, `Fe3+`, `O2-`, `7Li`."""
    found = re.fullmatch(r"(\d*)([A-Za-z]+)\s*(?:[(]?[\d.IVX]*[+-]?[\d.]*[)]?)", kind)
    letters = found[2] if found else ""
    if found and found[1] and letters.upper() == "H":
        letters = {"2": "D", "3": "T"}.get(found[1], letters)
    symbol = letters.capitalize()
    if symbol in ("D", "T"):
        return Element(symbol)
    if not found or VACANCY.fullmatch(letters) or not Element.is_valid_symbol(symbol):
        raise BadCrystal(
            f"an atom site holds {kind!r}, which is not a chemical element",
            "put the real element on the site or delete it if it stands for a vacancy",
        )
    # `Mg1` of type Mn: a label of two letters is meant as an element
    other = re.match(r"[A-Z][a-z](?![a-z])", name)
    if (
        other
        and other[0] != symbol
        and Element.is_valid_symbol(other[0])
        and (declared.formula is None or symbol not in declared.formula)
    ):
        raise BadCrystal(
            f"site {name} is of type {kind}, but its label says {other[0]}"
            + (f", and so does the formula '{declared.formula_text}'" if declared.formula else ""),
            "correct the label or the type symbol",
        )
    return Element(symbol)


def _of_label(
    name: str, declared: Declared, hydrogens: bool, notes: list[str]
) -> Element | Unknown:
    """Return the element that a label such as `Na1`, `OW2` or `CA` begins with.

    Raises
    ------
    BadCrystal
        Where it is none, stands for a group of atoms, or may be either of two.
    """
    letters = re.match(r"\d*([A-Za-z]*)", name)
    word = letters[1] if letters else ""
    if not word or VACANCY.fullmatch(word):
        raise BadCrystal(
            f"an atom site holds {name!r}, which is not a chemical element",
            "put the real element on the site or delete it if it stands for a vacancy",
        )
    whole = "".join(re.findall("[A-Za-z]", name))
    if (
        {word.upper(), whole.upper()} & GROUPS
        and not hydrogens
        and not Element.is_valid_symbol(whole)
    ):
        raise BadCrystal(
            f"the label {name} stands for a group with hydrogens, of which none is listed",
            "give every atom a row of its own and add _atom_site_type_symbol",
        )
    one, two = word[:1].upper(), word[:2].capitalize()
    choices = [
        s for s in dict.fromkeys((two, one)) if s in ("D", "T") or Element.is_valid_symbol(s)
    ]
    if not choices:
        raise BadCrystal(
            f"an atom site holds {name!r}, which is not a chemical element",
            "put the real element on the site or delete it if it stands for a vacancy",
        )
    # `Ca1` means calcium; `CA1` may be a carbon
    written = word[:2] == two or len(choices) == 1
    if declared.formula:
        fitting = [symbol for symbol in choices if symbol in declared.formula]
        if len(fitting) == 1:
            if fitting[0] != choices[0]:
                notes.append(f"label {name} read as {fitting[0]}, as in the formula")
            return Element(fitting[0])
    if not written:
        raise BadCrystal(
            f"the label {name} may mean {choices[0]} or {choices[1]}",
            "add _atom_site_type_symbol",
        )
    return Element(choices[0])


# ---- filling the cell


def _fill(
    sites: Sequence[Site], operations: Operations, lattice: np.ndarray, declared: Declared
) -> Reading:
    """Return the cell as one symmetry fills it, and what contradicts it."""
    wrong: list[str] = []
    notes: list[str] = []
    if not keep_metric(operations, lattice):
        edges, angles = Lattice(lattice).abc, Lattice(lattice).angles
        wrong.append(
            f"{operations.origin} does not keep the cell (edges "
            f"{', '.join(f'{x:.4g}' for x in edges)} A, angles "
            f"{', '.join(f'{x:.4g}' for x in angles)} degrees)"
        )
        return Reading(operations, [], np.zeros((0, 3)), wrong, notes)
    owners, places = [], []
    letters: list[tuple[str, int, str]] = []
    for number, site in enumerate(sites):
        images = _images(site, operations, lattice, notes)
        if site.multiplicity is not None and site.multiplicity != len(images):
            wrong.append(
                f"site {site.name} has {len(images)} positions in the cell, but a multiplicity of "
                f"{site.multiplicity} is declared"
            )
        if site.wyckoff and len(operations) > 1:
            letters.append((site.wyckoff.swapcase(), len(images), site.name))
        owners += [number] * len(images)
        places.append(images)
    # from a on, and A behind z, a letter stands for as many positions as those before it, or more
    for (one, few, name), (other, many, next_name) in pairwise(sorted(letters)):
        if many < few or (one == other and many != few):
            wrong.append(
                f"sites {name} and {next_name} have {few} and {many} positions in the cell, but "
                f"the Wyckoff letters {one.swapcase()} and {other.swapcase()} are declared"
            )
    positions = np.concatenate(places)
    try:
        species, kept = _merge(sites, np.array(owners), positions, lattice, notes)
    except BadCrystal as bad:
        # by another setting of the space group they may lie apart
        return Reading(operations, [], np.zeros((0, 3)), [bad.reason, *wrong], notes)
    amounts: Counter[str] = Counter()
    for content in species:
        for kind, share in content.items():
            amounts["H" if kind.symbol in ("D", "T") else kind.symbol] += share
    wrong += contradictions(declared, amounts, lattice)
    return Reading(operations, species, positions[kept], wrong, notes)


def _images(
    site: Site, operations: Operations, lattice: np.ndarray, notes: list[str]
) -> np.ndarray:
    """Return the positions equivalent to a site, [multiplicity, 3].

    Operations that leave it where it is, within `SAME_SITE_A`, are its site symmetry: it is put at
    the mean of its images under them, exactly on its special position.
    """
    images = operations.rotations @ site.position + operations.translations
    step = images - site.position
    step -= np.rint(step)
    near = np.linalg.norm(step @ lattice, axis=1) < SAME_SITE_A
    moved = step[near].mean(0)
    shift = float(np.linalg.norm(moved @ lattice))
    if shift > 0.01:
        notes.append(f"site {site.name} was moved by {shift:.3f} A on to its special position")
    position = site.position + moved
    images = operations.rotations @ position + operations.translations
    difference = images[:, None] - images[None]
    difference -= np.rint(difference)
    alike = (np.abs(difference) < 1e-4).all(2)
    first = alike.argmax(1) == np.arange(len(images))
    return images[first] % 1.0


def _merge(
    sites: Sequence[Site],
    owners: np.ndarray,
    positions: np.ndarray,
    lattice: np.ndarray,
    notes: list[str],
) -> tuple[list[dict], list[int]]:
    """Return what each place holds and which places stay: shared ones hold several species."""
    cartesian = np.ascontiguousarray(positions @ lattice)
    # a row has one position at a place
    if len(sites) > MOST_AT_ONE_PLACE:
        places = (cartesian // SAME_ATOM_A).astype(np.int64)
        crowd = np.unique(places, axis=0, return_counts=True)[1].max()
        if crowd > MOST_AT_ONE_PLACE:
            raise BadCrystal(
                f"{crowd} positions lie within {SAME_ATOM_A} A of one another",
                "delete the doubled sites",
            )
    centre, other, _, _ = find_points_in_spheres(
        cartesian, cartesian, r=SAME_ATOM_A, pbc=np.ones(3, np.int64), lattice=lattice, tol=1e-8
    )
    onto = np.arange(len(positions))
    for a, b in zip(centre, other, strict=True):
        if b < a:
            onto[a] = min(onto[a], onto[b])
    content: dict[int, dict] = {}
    doubled = set()
    for place, owner in enumerate(owners):
        site = sites[owner]
        held = content.setdefault(int(onto[place]), {})
        if site.species in held and site.occupancy == 1.0 and held[site.species] == 1.0:
            doubled.add(site.name)
            continue
        held[site.species] = held.get(site.species, 0.0) + site.occupancy
    if doubled:
        names = ", ".join(sorted(doubled)[:5])
        notes.append(f"sites given twice, each kept once: {names}")
    kept = list(content)
    for place in kept:
        total = sum(content[place].values())
        if total > 1.0 + 1e-3:
            shares = content[place].items()
            listed = ", ".join(f"{kind.symbol} {share:g}" for kind, share in shares)
            raise BadCrystal(
                f"overlapping atoms: one position holds {listed}, {total:g} atoms in all",
                _remedy("overlapping"),
            )
    return [content[place] for place in kept], kept


def _choose(readings: list[Reading], declared: Declared) -> Reading:
    """Return the reading that the file means, where that is certain.

    Raises
    ------
    BadCrystal
        Where every reading is contradicted, or several are not and differ.
    """
    good = [reading for reading in readings if not reading.contradictions]
    if not good:
        reasons = dict.fromkeys(
            f"by {one.operations.origin}: {one.contradictions[0]}"
            if len(readings) > 1
            else one.contradictions[0]
            for one in readings
        )
        raise BadCrystal("; ".join(reasons), _remedy(readings[0].contradictions[0]))
    first = good[0]
    others = [one for one in good[1:] if not _same(first, one)]
    if others:
        said = " and ".join(
            f"{one.operations.origin} ({len(one.species)} atoms)" for one in (first, others[0])
        )
        raise BadCrystal(
            f"the symmetry is not certain: {said} give different crystals",
            "list the operations of the space group (_space_group_symop_operation_xyz), and give "
            "formula and Z",
        )
    refused = [one for one in readings if one.contradictions]
    if not refused:
        if len({one.operations.number for one in readings}) > 1:
            said = " and ".join(one.operations.origin for one in readings)
            first.notes.append(f"{said} are of different groups, but give the same crystal")
        return first
    if not (declared.tells_amount or refused[0].contradictions[0].count("does not keep")):
        # only the formula's ratio, or a multiplicity, speaks
        confirmed = declared.formula is not None or "multiplicity" in refused[0].contradictions[0]
        if not confirmed:
            raise BadCrystal("; ".join(refused[0].contradictions), _remedy(""))
    note = (
        f"read by {first.operations.origin}, since by {refused[0].operations.origin} "
        f"{refused[0].contradictions[0]}"
    )
    return Reading(first.operations, first.species, first.positions, [], [*first.notes, note])


def _remedy(reason: str) -> str:
    if "volume" in reason:
        return "check the edges and angles of the cell for a mistyped digit"
    if "overlapping" in reason:
        return "delete the doubled site, or correct the occupancies"
    if "does not keep" in reason:
        return "check the angles and edges of the cell, and the space group"
    return (
        "check that all atoms are listed (hydrogens too), their elements, the space group and its "
        "operations; or correct what is declared"
    )


def _same(one: Reading, other: Reading) -> bool:
    """Whether two readings hold the same atoms at the same places of the same cell."""
    if len(one.species) != len(other.species):
        return False
    step = one.positions[:, None] - other.positions[None]
    step -= np.rint(step)
    near = (np.abs(step) < 1e-3).all(2)
    if not near.any(1).all():
        return False
    partner = near.argmax(1)
    return all(one.species[i] == other.species[j] for i, j in enumerate(partner))
