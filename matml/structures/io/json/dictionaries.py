"""Crystals as libraries keep them: dictionaries of pymatgen, JARVIS and ASE."""

import re
import warnings
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

ANGLES = ("alpha", "beta", "gamma")
SAME_PLACE_A = 0.05
"""Distance of a position given twice, above the rounding of files."""
DEUTERIUM = 1.9
"""Mass in u above which hydrogen is an isotope."""
ISOTOPE_U = 2.5
"""By how much an isotope may weigh other than its element, at least."""
AS_DICT = "write the structure again with structure.as_dict()"


def pymatgen_structure(record: dict, max_sites: int) -> Structure:
    """Return the structure of `Structure.as_dict()`; no class that the file names is looked up.

    Raises
    ------
    BadCrystal
        Where it is not periodic, or its lattice, positions and labels contradict one another.
    """
    cell, sites = record["lattice"], record["sites"]
    if not (isinstance(cell, dict) and isinstance(sites, list)):
        raise BadCrystal("`lattice` is no object, or `sites` no list", AS_DICT)
    if not sites:
        raise BadCrystal("holds no sites", AS_DICT)
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
    _check_lattice(cell, lattice, AS_DICT)
    species = [_held(site, f"site {number}") for number, site in enumerate(sites, 1)]
    if charge := record.get("charge"):
        warnings.warn(f"a charge of {charge} is declared, which changes nothing here", stacklevel=2)
    for number, site in enumerate(sites, 1):
        if "abc" not in site and "xyz" not in site:
            raise BadCrystal(
                f"site {number} has no position (abc or xyz)",
                AS_DICT,
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
    refuse_two_places(lattice, positions, others, AS_DICT)
    if not any("abc" in site for site in sites):
        refuse_mixed_lengths(lattice.matrix, positions, map(str, species))
    return Structure(lattice, species, positions)


LABEL = re.compile(r"([A-Z][a-z]?)\d+")


def _held(site: Any, where: str) -> dict:
    """What one site of pymatgen's holds, with occupancies; its label and properties agree."""
    try:
        items = [(_species(x), float(numbers_of(x["occu"])), x["element"]) for x in site["species"]]
        label, properties = str(site.get("label", "")), site.get("properties") or {}
        said = properties.get("occupancy", properties.get("occ"))
    except (KeyError, TypeError, AttributeError):
        raise BadCrystal(
            f"{where} has no list `species` of objects with `element` and `occu`", AS_DICT
        ) from None
    held: dict = {}
    for kind, share, _ in items:
        held[kind] = held.get(kind, 0.0) + share
    symbols = {str(symbol) for _, _, symbol in items}
    if len(symbols) == 1:
        [symbol] = symbols
        if Element.is_valid_symbol(label) and label != symbol:
            raise BadCrystal(
                f"{where} holds {symbol}, but its label says {label}",
                "correct the species or the label",
            )
        named = LABEL.fullmatch(label)
        # a label stays where an element was replaced
        if named and Element.is_valid_symbol(named[1]) and named[1] != symbol:
            warnings.warn(f"{where} holds {symbol}, but its label is {label}", stacklevel=2)
    refuse_occupancy(said, sum(held.values()), where)
    return at_most_one(held, where)


def refuse_occupancy(said: Any, total: float, where: str) -> None:
    """Refuse a site that is declared to be partly empty, or shared, beside what it holds."""
    if isinstance(said, int | float) and not isinstance(said, bool) and abs(said - total) > 0.005:
        raise BadCrystal(
            f"{where} holds {total:g} atoms, but an occupancy of {said:g} is declared",
            "give partly occupied sites as CIF, or with their shares in `species`",
        )


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
    cell: dict[str, Any] = {}
    for key, names in (("abc", "abc"), ("angles", ANGLES)):
        if (said := record.get(key)) is not None:
            if not isinstance(said, list) or len(said) != 3:
                raise BadCrystal(f"{key} = {said!r:.60} is no list of three numbers", "correct it")
            cell |= dict(zip(names, said, strict=True))
    _check_lattice(cell, lattice, "fetch the entry again")
    positions = numbers_of(coords)
    cartesian = record.get("cartesian", False)
    if not isinstance(cartesian, bool):
        raise BadCrystal(f"cartesian = {cartesian!r:.40} is neither true nor false", "say which")
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
    masses = _array(record["masses"]) if record.get("masses") is not None else None
    species = []
    for place, name in enumerate(map(str, numbers.tolist())):
        symbol = Element.from_Z(int(name)).symbol if name.isdigit() else name
        # ASE keeps a mass of each atom or of none, and NaN where it is the element's
        mass = None if masses is None or masses[place] != masses[place] else masses[place]
        species.append(weighed(symbol, mass, f"site {place + 1}"))
    for key in ("info", "data", "key_value_pairs"):
        if isinstance(held := record.get(key), dict) and held.get("occupancy"):
            raise BadCrystal(
                f"{key} declares occupancies ({held['occupancy']!r:.60}), which are not read from "
                "here",
                "give the crystal as CIF",
            )
    cell = _array(record["cell"])
    if isinstance(record["cell"], dict) and "array" in record["cell"]:
        cell = _array(record["cell"]["array"])
    lattice = numbers_of(cell)
    # ASE writes a cell by its edges, or with its angles, too
    edges = {(3,): (*lattice.flat, 90, 90, 90), (6,): tuple(lattice.flat)}.get(lattice.shape)
    return cartesian_structure(
        Lattice(lattice) if edges is None else Lattice.from_parameters(*edges), species, positions
    )


def weighed(symbol: str, mass: Any, where: str) -> Element | Unknown:
    """Return an element, of a mass in u where one is declared; `D` for heavy hydrogen.

    Raises
    ------
    BadCrystal
        Where it weighs as no isotope of the element does.
    """
    if not Element.is_valid_symbol(symbol):
        return Unknown(symbol)
    if mass is None:
        return Element(symbol)
    weight, own = float(numbers_of(mass)), float(Element(symbol).atomic_mass)
    if symbol == "H" and DEUTERIUM < weight < own + ISOTOPE_U:
        return Element("D")
    if abs(weight - own) > max(ISOTOPE_U, 0.05 * own):
        raise BadCrystal(
            f"{where} holds {symbol} of {own:.4g} u, but a mass of {weight:g} u is declared",
            "correct the element or the mass",
        )
    return Element(symbol)


def numbers_of(value: Any) -> np.ndarray:
    """Return numbers, which may be written as text, as an array; numpy took 1_5 for 15."""
    try:
        table = np.asarray(value)
    except ValueError:
        raise BadCrystal(
            f"rows of numbers have different lengths ({value!r:.60})", "complete the rows"
        ) from None
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
