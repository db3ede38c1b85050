"""Crystals as databases send them: OPTIMADE responses and Materials Project JSON, saved to disk."""

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import Element, Species

from matml.structures.elements import Unknown
from matml.structures.errors import BadCrystal
from matml.structures.io.declared import check_fractions
from matml.structures.io.entries import SURFACES, at_most_one
from matml.structures.symmetry.mixed_lengths import refuse_mixed_lengths

LISTS = ("structures", "data", "response", "results")
"""Keys under which responses hold their entries."""
NAMES = ("material_id", "task_id", "jid", "id")
STRUCTURES = ("structure", "atoms", "final_structure", "output")
"""Keys under which entries hold their crystal, those of task documents included."""
ANGLES = ("alpha", "beta", "gamma")
SAME_PLACE_A = 0.05
"""Distance of a position given twice, above the rounding of files."""


def entries_of(value: Any) -> list:
    """Return the entries of a response: a list, tables by pandas, ASE's database, crystals by name.

    What is a single entry, or nothing known, stands alone in the list.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or is_crystal(value):
        return [value]
    columns, rows = value.get("columns"), value.get("data")
    if isinstance(columns, list) and isinstance(rows, list):
        names = value.get("index") or range(1, len(rows) + 1)
        return [
            {"id": str(name), **dict(zip(columns, row, strict=True))}
            for name, row in zip(names, rows, strict=True)
        ]
    if isinstance(value.get("ids"), list) and "nextid" in value:
        return [{"id": str(n), **value[str(n)]} for n in value["ids"] if str(n) in value]
    for key in LISTS:
        if isinstance(value.get(key), list | dict):
            found = value[key]
            return found if isinstance(found, list) else [found]
    crystals = sum(map(is_crystal, value.values()))
    if crystals and crystals in (len(value), max(crystals, 2)):
        # what is no crystal among them is told by its name
        return [
            {**(item if isinstance(item, dict) else {}), "id": name} for name, item in value.items()
        ]
    for key in STRUCTURES:
        # pandas' default: columns of cells by row
        cells = value.get(key)
        if isinstance(cells, dict) and cells and all(map(is_crystal, cells.values())):
            return [{"id": row, key: cell} for row, cell in cells.items()]
    return [value]


def is_crystal(value: Any) -> bool:
    """Whether a dictionary is a crystal in one of the known forms, or holds one."""
    if not isinstance(value, dict):
        return False
    return (
        ("lattice" in value and "sites" in value)
        or {"lattice_mat", "coords", "elements"} <= value.keys()
        or ({"cell", "positions"} <= value.keys() and bool({"numbers", "symbols"} & value.keys()))
        or is_optimade(value)
        or any(isinstance(value.get(key), dict) and is_crystal(value[key]) for key in STRUCTURES)
    )


def crystal_records(entry: Any) -> list[Any]:
    """Return an entry, such as a task document, and what is inside of it down to its crystal."""
    found = [entry]
    for _ in range(4):
        record = found[-1]
        if not isinstance(record, dict) or "lattice" in record or is_optimade(record):
            break
        inner = next((record[key] for key in STRUCTURES if isinstance(record.get(key), dict)), None)
        if inner is None:
            break
        found.append(inner)
    return found


def pymatgen_structure(record: dict, max_sites: int) -> Structure:
    """Return the structure of `Structure.as_dict()`; no class that the file names is looked up.

    Raises
    ------
    BadCrystal
        Where it is not periodic, or its lattice, positions and labels contradict one another.
    """
    cell, sites = record["lattice"], record["sites"]
    if not sites:
        raise BadCrystal("holds no sites", "write the structure again with structure.as_dict()")
    _check_sites(len(sites), len(sites), max_sites)
    if record.get("@class") in SURFACES:
        raise BadCrystal(f"is a {record['@class']}: a surface, no bulk", "give a bulk crystal")
    if not all(cell.get("pbc") or [True]):
        raise BadCrystal(
            f"pbc = {cell['pbc']}: not periodic in all directions", "give a bulk crystal"
        )
    matrix = cell.get("matrix")
    edges = () if matrix else [numbers_of(cell[name]) for name in (*"abc", *ANGLES)]
    lattice = Lattice(numbers_of(matrix)) if matrix else Lattice.from_parameters(*edges)
    _check_lattice(cell, lattice, "write the structure again with structure.as_dict()")
    species = []
    for number, site in enumerate(sites, 1):
        held: dict = {}
        for item in site["species"]:
            kind = _species(item)
            held[kind] = held.get(kind, 0.0) + float(numbers_of(item["occu"]))
        label = str(site.get("label", ""))
        symbols = {str(item["element"]) for item in site["species"]}
        if Element.is_valid_symbol(label) and len(symbols) == 1 and label not in symbols:
            raise BadCrystal(
                f"site {number} holds {symbols.pop()}, but its label says {label}",
                "correct the species or the label",
            )
        species.append(at_most_one(held, f"site {number}"))
    if charge := record.get("charge"):
        warnings.warn(f"a charge of {charge} is declared, which changes nothing here", stacklevel=2)
    for number, site in enumerate(sites, 1):
        if "abc" not in site and "xyz" not in site:
            raise BadCrystal(
                f"site {number} has no position (abc or xyz)",
                "write the structure again with structure.as_dict()",
            )
    positions = np.array(
        [
            numbers_of(site["abc"])
            if "abc" in site
            else lattice.get_fractional_coords(numbers_of(site["xyz"]))
            for site in sites
        ]
    )
    others = [
        site.get("xyz", place)
        for site, place in zip(sites, positions @ lattice.matrix, strict=True)
    ]
    refuse_two_places(lattice, positions, others, "write the structure again with as_dict()")
    if not any("abc" in site for site in sites):
        refuse_mixed_lengths(lattice.matrix, positions, map(str, species))
    return Structure(lattice, species, positions)


def cartesian_structure(lattice: Lattice, species: Sequence, positions: np.ndarray) -> Structure:
    """Return the structure of Cartesian positions; refuse those in another unit than the cell's."""
    structure = Structure(lattice, species, positions, coords_are_cartesian=True)
    kinds = [site.species_string for site in structure]
    refuse_mixed_lengths(structure.lattice.matrix, structure.frac_coords, kinds)
    return structure


def refuse_two_places(lattice: Lattice, fractions: Any, cartesian: Any, remedy: str) -> None:
    """Refuse sites whose fractional and Cartesian positions are not the same place."""
    one, other = numbers_of(fractions), numbers_of(cartesian)
    if one.shape != other.shape:
        raise BadCrystal(f"{len(one)} fractional, but {len(other)} Cartesian positions", remedy)
    step = one - lattice.get_fractional_coords(other)
    apart = np.linalg.norm((step - np.rint(step)) @ lattice.matrix, axis=1)
    # infinite numbers are told by the check of the cell
    apart[~np.isfinite(apart)] = 0.0
    if (apart > SAME_PLACE_A).any():
        worst = int(apart.argmax())
        raise BadCrystal(
            f"site {worst + 1} is at {one[worst].tolist()} in fractions of the cell and at "
            f"{other[worst].tolist()} A, {apart[worst]:.3g} A apart",
            remedy,
        )


def _check_lattice(cell: dict, lattice: Lattice, remedy: str) -> None:
    """Refuse a lattice whose edges, angles or volume are not those of its vectors."""
    own = dict(
        zip(
            ("a", "b", "c", *ANGLES, "volume"),
            (*lattice.abc, *lattice.angles, lattice.volume),
            strict=True,
        )
    )
    for name, value in own.items():
        said = cell.get(name)
        if isinstance(said, int | float) and abs(said - value) > 0.01 * abs(value):
            raise BadCrystal(
                f"the lattice vectors give {name} = {value:.4f}, but {name} = {said:g} is declared",
                remedy,
            )


def _species(item: dict) -> Element | Species | Unknown:
    """Return the species of one entry of a site."""
    name = str(item["element"])
    if not Element.is_valid_symbol(name):
        return Unknown(name)
    charge = item.get("oxidation_state")
    return Element(name) if charge is None else Species(name, float(charge))


def jarvis_structure(record: dict, max_sites: int) -> Structure:
    """Return the structure of the atoms of a JARVIS entry (`jarvis.core.atoms.Atoms.to_dict`)."""
    elements, coords = record["elements"], record["coords"]
    _check_sites(len(elements), len(coords), max_sites)
    lattice = Lattice(numbers_of(record["lattice_mat"]))
    said = [*(record.get("abc") or [None] * 3), *(record.get("angles") or [None] * 3)]
    cell = dict(zip((*"abc", *ANGLES), said, strict=False))
    _check_lattice(cell, lattice, "fetch the entry again")
    positions = numbers_of(coords)
    cartesian = bool(record.get("cartesian", False))
    if not cartesian:
        check_fractions(positions)
    species = [_element(name) for name in elements]
    if cartesian:
        return cartesian_structure(lattice, species, positions)
    return Structure(lattice, species, positions)


def ase_structure(record: dict, max_sites: int) -> Structure:
    """Return the structure of a row of ASE's JSON database, or of `Atoms.todict`.

    Raises
    ------
    BadCrystal
        Where it is not periodic in all directions, or lengths do not agree.
    """
    pbc = np.broadcast_to(_array(record.get("pbc", False)), 3)
    if not pbc.all():
        raise BadCrystal(
            f"pbc = {pbc.astype(bool).tolist()}: not periodic in all directions",
            "give a bulk crystal",
        )
    names = record.get("numbers", record.get("symbols"))
    if len(both := [_array(record[key]) for key in ("numbers", "symbols") if key in record]) > 1:
        numbered = [Element.from_Z(int(number)).symbol for number in both[0]]
        if numbered != both[1].tolist():
            raise BadCrystal(
                f"numbers say {' '.join(numbered)}, but symbols say {' '.join(map(str, both[1]))}",
                "correct one of the two",
            )
    numbers, positions = _array(names), numbers_of(_array(record["positions"]))
    _check_sites(len(numbers), len(positions), max_sites)
    species = [
        Element.from_Z(int(name)) if str(name).isdigit() else _element(str(name))
        for name in numbers.tolist()
    ]
    cell = _array(record["cell"])
    if isinstance(record["cell"], dict) and "array" in record["cell"]:
        cell = _array(record["cell"]["array"])
    lattice = numbers_of(cell)
    # ASE writes a cell by its edges, or with its angles, too
    edges = {(3,): (*lattice.flat, 90, 90, 90), (6,): tuple(lattice.flat)}.get(lattice.shape)
    return cartesian_structure(
        Lattice(lattice) if edges is None else Lattice.from_parameters(*edges), species, positions
    )


def numbers_of(value: Any) -> np.ndarray:
    """Return numbers, which may be written as text, as an array; numpy took 1_5 for 15."""
    table = np.asarray(value)
    if table.dtype.kind in "US" and (bad := [word for word in table.flat if "_" in word]):
        raise BadCrystal(f"{str(bad[0])!r} is not a number", "write a plain number")
    return table.astype(np.float64)


def _array(value: Any) -> np.ndarray:
    """Return a list as an array; ASE writes arrays as [shape, type, numbers]."""
    if isinstance(value, dict) and "__ndarray__" in value:
        shape, _, numbers = value["__ndarray__"]
        return np.reshape(numbers, shape)
    return np.asarray(value.get("array") if isinstance(value, dict) else value)


def _element(name: str) -> Element | Unknown:
    return Element(name) if Element.is_valid_symbol(name) else Unknown(name)


def _check_sites(names: int, positions: int, max_sites: int) -> None:
    if names != positions:
        raise BadCrystal(f"{names} elements for {positions} positions", "fetch the entry again")
    if names > max_sites:
        raise BadCrystal(
            f"declares {names} sites, more than {max_sites}",
            "give the primitive cell, or raise structures.max_sites",
        )


def entry_suffixes(entries: Sequence) -> list[str]:
    """What is put behind a file's name to tell its crystals apart: `#mp-149`, else `#1`, `#2`.

    '' where there is only one.
    """
    if len(entries) == 1:
        return [""]
    names = [entry_name(entry) for entry in entries]
    times = Counter(names)
    return [
        f"#{name}" if name and times[name] == 1 else f"#{number}"
        for number, name in enumerate(names, start=1)
    ]


def entry_name(entry: Any) -> str:
    """The identifier of an entry, '' if it has none."""
    if not isinstance(entry, dict):
        return ""
    return next((str(entry[key]) for key in NAMES if isinstance(entry.get(key), str | int)), "")


def is_optimade(entry: Any) -> bool:
    """Whether an entry is an OPTIMADE structure."""
    attributes = entry.get("attributes") if isinstance(entry, dict) else None
    return isinstance(attributes, dict) and (
        entry.get("type") == "structures" or "lattice_vectors" in attributes
    )
