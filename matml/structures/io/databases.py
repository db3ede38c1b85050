"""Crystals as databases send them: OPTIMADE responses and Materials Project JSON, saved to disk."""

import math
import re
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
from matml.structures.io.entries import (
    DECLARED,
    amounts_of,
    at_most_one,
    declared_symmetry,
    refuse_contradiction,
)

LISTS = ("structures", "data", "response", "results")
"""Keys under which responses hold their entries."""
NAMES = ("material_id", "task_id", "jid", "id")
STRUCTURES = ("structure", "atoms", "final_structure", "output")
"""Keys under which entries hold their crystal, those of task documents included."""
OPTIMADE_FORMULAS = (
    "chemical_formula_reduced",
    "chemical_formula_descriptive",
    "chemical_formula_hill",
)
ANGLES = ("alpha", "beta", "gamma")
RATIO_TOLERANCE, MOST_LETTERS = 0.005, 26
SAME_PLACE_A = 0.05
"""Distance of a position given twice, above the rounding of files."""
HIDDEN = {
    "disorder": "sites are shared or partly occupied",
    "implicit_atoms": "atoms are not listed",
    "site_attachments": "atoms are attached to sites without positions",
    "assemblies": "sites are alternatives of one another",
    "unknown_positions": "positions of atoms are not known",
}
"""What `structure_features` of OPTIMADE (specification 1.2, section 7.2.25) say of the sites."""
DEUTERIUM = 1.9
"""Mass in u above which hydrogen is an isotope."""


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
    if value and all(isinstance(item, dict) and is_crystal(item) for item in value.values()):
        return [{**item, "id": name} for name, item in value.items()]
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
    _check_sites(len(sites), len(sites), max_sites)
    if not all(cell.get("pbc") or [True]):
        raise BadCrystal(
            f"pbc = {cell['pbc']}: not periodic in all directions", "give a bulk crystal"
        )
    matrix = cell.get("matrix")
    edges = () if matrix else [_numbers(cell[name]) for name in (*"abc", *ANGLES)]
    lattice = Lattice(_numbers(matrix)) if matrix else Lattice.from_parameters(*edges)
    _check_lattice(cell, lattice, "write the structure again with structure.as_dict()")
    species = []
    for number, site in enumerate(sites, 1):
        held: dict = {}
        for item in site["species"]:
            kind = _species(item)
            held[kind] = held.get(kind, 0.0) + float(_numbers(item["occu"]))
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
            _numbers(site["abc"])
            if "abc" in site
            else lattice.get_fractional_coords(_numbers(site["xyz"]))
            for site in sites
        ]
    )
    others = [
        site.get("xyz", place)
        for site, place in zip(sites, positions @ lattice.matrix, strict=True)
    ]
    _refuse_two_places(lattice, positions, others, "write the structure again with as_dict()")
    return Structure(lattice, species, positions)


def _refuse_two_places(lattice: Lattice, fractions: Any, cartesian: Any, remedy: str) -> None:
    """Refuse sites whose fractional and Cartesian positions are not the same place."""
    one, other = _numbers(fractions), _numbers(cartesian)
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
    lattice = Lattice(_numbers(record["lattice_mat"]))
    said = [*(record.get("abc") or [None] * 3), *(record.get("angles") or [None] * 3)]
    cell = dict(zip((*"abc", *ANGLES), said, strict=False))
    _check_lattice(cell, lattice, "fetch the entry again")
    positions = _numbers(coords)
    cartesian = bool(record.get("cartesian", False))
    if not cartesian:
        check_fractions(positions)
    return Structure(
        lattice, [_element(n) for n in elements], positions, coords_are_cartesian=cartesian
    )


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
    numbers, positions = _array(names), _numbers(_array(record["positions"]))
    _check_sites(len(numbers), len(positions), max_sites)
    species = [
        Element.from_Z(int(name)) if str(name).isdigit() else _element(str(name))
        for name in numbers.tolist()
    ]
    cell = _array(record["cell"])
    if isinstance(record["cell"], dict) and "array" in record["cell"]:
        cell = _array(record["cell"]["array"])
    lattice = _numbers(cell)
    # ASE writes a cell by its edges, or with its angles, too
    edges = {(3,): (*lattice.flat, 90, 90, 90), (6,): tuple(lattice.flat)}.get(lattice.shape)
    return Structure(
        Lattice(lattice) if edges is None else Lattice.from_parameters(*edges),
        species,
        positions,
        coords_are_cartesian=True,
    )


def _numbers(value: Any) -> np.ndarray:
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


def optimade_structure(entry: dict, max_sites: int) -> Structure:
    """The structure of an OPTIMADE entry (specification 1.2, section 7.2, Structures Entries).

    Raises
    ------
    BadCrystal
        Where a needed property was not in the response, or lengths do not agree.
    """
    attributes = entry["attributes"]
    needed = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")
    for key in needed:
        if attributes.get(key) is None:
            raise BadCrystal(
                f"the OPTIMADE entry has no {key}",
                f"ask for it: response_fields={','.join(needed)}",
            )
    vectors = attributes["lattice_vectors"]
    if np.shape(vectors) != (3, 3) or any(x is None for row in vectors for x in row):
        raise BadCrystal("not periodic in all three directions", "give a bulk crystal")
    positions, names = attributes["cartesian_site_positions"], attributes["species_at_sites"]
    if len(names) != len(positions):
        raise BadCrystal(
            f"{len(names)} species_at_sites for {len(positions)} cartesian_site_positions",
            "fetch the entry again",
        )
    if len(names) > max_sites:
        raise BadCrystal(
            f"declares {len(names)} sites, more than {max_sites}",
            "give the primitive cell, or raise structures.max_sites",
        )
    _check_optimade(attributes)
    known = {item["name"]: _occupants(item) for item in attributes["species"]}
    if unknown := sorted({name for name in names if name not in known}):
        raise BadCrystal(f"species {unknown[0]!r} is not described", "fetch the entry again")
    structure = Structure(
        Lattice(_numbers(vectors)),
        [known[name] for name in names],
        _numbers(positions),
        coords_are_cartesian=True,
    )
    if (fractions := attributes.get("fractional_site_positions")) is not None:
        _refuse_two_places(structure.lattice, fractions, positions, "fetch the entry again")
    for key in OPTIMADE_FORMULAS:
        refuse_contradiction(str(attributes.get(key) or ""), attributes, structure)
    _check_elements(attributes, structure)
    structure.properties[DECLARED] = declared_symmetry(attributes)
    return structure


def _check_elements(attributes: dict, structure: Structure) -> None:
    """Refuse an OPTIMADE entry whose elements, their number or ratios are not those of its sites.

    OPTIMADE specification 1.2, sections 7.2.1 to 7.2.3 and 7.2.7.
    """
    amounts = amounts_of(structure)
    symbols, total = sorted(amounts), sum(amounts.values())
    ratios = [amounts[symbol] / total for symbol in symbols]
    own: dict[str, Any] = {"nelements": len(symbols), "elements": symbols}
    if structure.is_ordered:
        counts = sorted(map(round, amounts.values()), reverse=True)
        letters = "".join(
            f"{chr(ord('A') + place)}{n // math.gcd(*counts)}" for place, n in enumerate(counts)
        )
        own["chemical_formula_anonymous"] = re.sub(r"(?<=[A-Z])1(?!\d)", "", letters)
    for key, value in own.items():
        said = attributes.get(key)
        if said is not None and said != value and len(symbols) <= MOST_LETTERS:
            raise BadCrystal(
                f"the sites give {key} = {value}, but {said} is declared", "fetch the entry again"
            )
    said = attributes.get("elements_ratios")
    if said is not None and not (
        len(said) == len(ratios) and np.allclose(said, ratios, atol=RATIO_TOLERANCE)
    ):
        raise BadCrystal(
            f"the sites give elements_ratios = {np.round(ratios, 3).tolist()}, but {said} is "
            "declared",
            "fetch the entry again",
        )


def _check_optimade(attributes: dict) -> None:
    """Refuse what the lists of sites do not show: fewer periodic directions, atoms not listed."""
    types, periodic = attributes.get("dimension_types"), attributes.get("nperiodic_dimensions")
    if (types is not None and list(types) != [1, 1, 1]) or periodic not in (None, 3):
        said = (
            f"dimension_types {types}" if types is not None else f"{periodic} periodic dimensions"
        )
        raise BadCrystal(f"{said}: not periodic in all three directions", "give a bulk crystal")
    features = [name for name in attributes.get("structure_features") or [] if name in HIDDEN]
    if attributes.get("assemblies"):
        features.append("assemblies")
    for item in attributes["species"]:
        if any(int(n) for n in item.get("nattached") or []) or item.get("attached"):
            features.append("site_attachments")
    # an entry that is disordered shows it on its sites, which are checked later
    hidden = [name for name in features if name != "disorder"]
    if hidden:
        raise BadCrystal(
            f"structure_features name {hidden[0]}: {HIDDEN[hidden[0]]}",
            "give an ordered model with every atom on a site of its own",
        )


def _occupants(item: dict) -> dict:
    """Elements of one species, or unknown names such as `vacancy`, with their concentrations."""
    found: dict = {}
    masses = item.get("mass") or [None] * len(item["chemical_symbols"])
    for symbol, share, mass in zip(
        item["chemical_symbols"], item["concentration"], masses, strict=True
    ):
        if symbol == "H" and mass is not None and float(mass) > DEUTERIUM:
            symbol = "D"
        species = Element(symbol) if Element.is_valid_symbol(symbol) else Unknown(symbol)
        found[species] = found.get(species, 0.0) + float(_numbers(share))
    return at_most_one(found, f"species {item['name']!r}")
