"""What a database's entry or a table's row declares beside its crystal, held against that."""

import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from pymatgen.core import Structure
from pymatgen.core.periodic_table import DummySpecies

from matml.core.text.cells import number_or_nan
from matml.structures.disorder.sites import slack
from matml.structures.elements import shown
from matml.structures.errors import BadCrystal
from matml.structures.io.declared import (
    ATOMIC_MASS_CONSTANT,
    Declared,
    contradictions,
    formula_of,
    mass_u,
    other_density,
    other_ratio,
    parse_formula,
)
from matml.structures.io.minerals import KEYS, NAMES, Name, names_in
from matml.structures.io.space_groups import (
    SYSTEMS,
    number_of_hall,
    number_of_operations,
    number_of_symbol,
)

FORMULAS = (
    *("formula_pretty", "pretty_formula", "full_formula", "reduced_formula", "formula"),
    *("composition", "composition_reduced", "chemical_formula"),
)
SITES = ("nsites", "num_sites", "nat", "natoms")
ELEMENTS = ("elements", "chemsys")
ANONYMOUS = ("formula_anonymous", "anonymous_formula")
GROUPS = ("symmetry", "spacegroup", "space_group")
NUMBERS = ("space_group_it_number", "spacegroup_number", "space_group_number", "spg_number")
SYMBOLS = (
    *("space_group_symbol_hermann_mauguin", "space_group_symbol_hermann_mauguin_extended"),
    *("spacegroup_symbol", "space_group_symbol", "spg_symbol"),
)
HALLS = ("space_group_symbol_hall",)
SYSTEM = ("crystal_system", "crys")
UNITS = tuple(f"{what}unit{s}" for what in ("", "length_", "lattice_", "pos_") for s in ("", "s"))
OTHER_LENGTHS = re.compile(
    r"bohr|a\.?u\.?|a0|atomic( units?)?|(nm|pm)|(nano|pico)?met(er|re)s?", re.IGNORECASE
)
"""Units of length that are not angstrom."""
OF_A_ROW = (*FORMULAS, *GROUPS, *NUMBERS, *SYMBOLS, *HALLS, *SYSTEM, *dict(KEYS))
"""Columns of a table that are compared; of what cell a volume is nobody knows."""
DENSITIES = ("density", "density_g_cm3")
"""Such columns that may be labels, too."""
OF_AN_ENTRY = frozenset((*SITES, *ELEMENTS, *ANONYMOUS, "nelements", "volume", "density"))
"""What the entries of databases tell besides."""
NO_BULK = re.compile(r"layer|wire|tube|ribbon|molecul|cluster|slab|surface|^[012]D$", re.IGNORECASE)
"""In what JARVIS calls the dimensionality or `typ`; `2D-bulk` is a crystal of layers."""
DECLARED = "declared_symmetry"
SURFACES = ("Slab", "Interface")
"""Classes of pymatgen that are periodic in two directions in truth."""
HINT = "hint"
"""What may be the cause where the sites make no crystal."""


def check_entry(entry: Any, structure: Structure) -> None:
    """Refuse an entry whose formula, elements or number of sites are not those of its crystal.

    The symmetry that it declares is kept with the structure, to be compared where that is found.

    Raises
    ------
    BadCrystal
        Names both values.
    """
    if not isinstance(entry, dict):
        return
    for key in UNITS:
        if isinstance(entry.get(key), str) and OTHER_LENGTHS.fullmatch(entry[key].strip()):
            raise BadCrystal(
                f"{key} = {entry[key]} is declared, but lengths are read in angstrom",
                "convert lattice and positions to angstrom, or delete the unit if they are",
            )
    for key in ("dimensionality", "typ"):
        dimension = entry.get(key)
        if isinstance(dimension, str) and NO_BULK.search(dimension):
            raise BadCrystal(
                f"{key} = {dimension}: not periodic in all directions", "give a bulk crystal"
            )
    structure.properties[DECLARED] = {
        **structure.properties.get(DECLARED, {}),
        **declared_symmetry(entry),
    }
    structure.properties[NAMES] = [*structure.properties.get(NAMES, []), *names_of(entry)]
    for text in dict.fromkeys(_formulas(entry)) or [""]:
        refuse_contradiction(text, entry, structure)
    own = amounts_of(structure)
    for key in (*ELEMENTS, *ANONYMOUS, "nelements"):
        said = entry.get(key)
        names = said.split("-") if isinstance(said, str) else said
        if key in ANONYMOUS:
            # of whole numbers
            other = isinstance(said, str) and structure.is_ordered
            other = other and _ratio(map(int, _amounts(str(said)))) != _ratio(own.values())
        elif key == "nelements":
            other = isinstance(said, int) and said != len(own)
        else:
            listed = names if isinstance(names, list) else []
            plain = bool(listed) and all(isinstance(name, str) for name in listed)
            other = plain and set(listed) != own.keys()
        if other:
            raise BadCrystal(
                f"the sites hold {formula_of(own)}, but {key} = {said} is declared",
                "fetch the entry again",
            )


def _amounts(anonymous: str) -> list[str]:
    """Return the amounts of a formula such as `AB2`."""
    return [amount or "1" for _, amount in re.findall(r"([A-Z][a-z]?)(\d*)", anonymous)]


def amounts_of(structure: Structure) -> dict[str, float]:
    """Return the atoms of a cell by symbol, of disordered sites the mean; vacancies left out."""
    amounts: dict[str, float] = defaultdict(float)
    for site in structure:
        for kind, share in site.species.items():
            if not isinstance(kind, DummySpecies):
                amounts["H" if kind.symbol in ("D", "T") else kind.symbol] += share
    return amounts


def at_most_one(held: dict, where: str) -> dict:
    """Return what a site holds; occupancies that are a little over 1 are rounded ones."""
    total = sum(held.values())
    if total > 1 + slack(held.values()):
        listed = " ".join(f"{shown(kind)}{share:g}" for kind, share in held.items())
        raise BadCrystal(
            f"{where} holds {listed}, {total:.4g} atoms in all",
            "correct the occupancies of the site: they sum to 1 at most",
        )
    return {kind: share / total for kind, share in held.items()} if total > 1 else held


def _ratio(amounts: Iterable[float]) -> list[int]:
    """Return whole amounts in the smallest whole numbers, sorted."""
    whole = sorted(map(round, amounts))
    return [n // math.gcd(*whole) for n in whole]


def _formulas(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the formulas of an entry as text."""
    for value in map(entry.get, FORMULAS):
        if isinstance(value, dict):
            yield " ".join(f"{symbol}{amount}" for symbol, amount in value.items())
        elif isinstance(value, str):
            yield value


def declared_symmetry(entry: Mapping[str, Any]) -> dict[str, Collection[int]]:
    """Return what an entry declares of its symmetry, in words, with the space groups it may be.

    Raises
    ------
    BadCrystal
        Where it contradicts itself.
    """
    nested = [entry[key] for key in GROUPS if isinstance(entry.get(key), dict)]
    plain = [entry[key] for key in GROUPS if isinstance(entry.get(key), str | int | float)]

    def values(keys: Sequence[str], inside: Sequence[str]) -> Iterator[str]:
        for held, names in ((entry, keys), *((each, (*keys, *inside)) for each in nested)):
            found = map(held.get, names)
            yield from (str(x).strip() for x in found if isinstance(x, str | int | float))

    declared: dict[str, Collection[int]] = {}
    for text in (*values(NUMBERS, ("number",)), *map(str, plain)):
        # a table may hold it as 225.0
        number = int(re.sub(r"\.0*$", "", text)) if re.fullmatch(r"\d{1,3}(\.0*)?", text) else 0
        if 1 <= number <= 230:
            declared[f"space group {number}"] = {number}
    for text in (*values(SYMBOLS, ("symbol",)), *map(str, plain)):
        if number := number_of_symbol(text):
            declared[f"space group {text}"] = {number}
    for text in values(HALLS, ("hall",)):
        if number := number_of_hall(text):
            declared[f"Hall symbol {text}"] = {number}
    operations = entry.get("space_group_symmetry_operations_xyz")
    if operations and (number := number_of_operations(tuple(map(str, operations)))):
        declared["the list of symmetry operations"] = {number}
    for text in values(SYSTEM, ()):
        if numbers := SYSTEMS.get(text.lower()):
            declared[f"the crystal system {text}"] = numbers
    for (one, may), (other, might) in combinations(declared.items(), 2):
        if set(may).isdisjoint(might):
            raise BadCrystal(
                f"{one} and {other} are declared, which contradict one another",
                "correct one of them",
            )
    return declared


def names_of(entry: Mapping[str, Any]) -> list[Name]:
    """Return the names of minerals and structure types that an entry or a row holds."""
    return names_in(entry, KEYS, confirmed=any(map(parse_formula, _formulas(entry))))


def other_formula(row: Mapping[str, Any], formula: str) -> tuple[str, str] | None:
    """Return reason and remedy where a row of a table has another formula than its crystal."""
    for text in _formulas(row):
        if text == formula:
            continue
        said, amounts = parse_formula(text), parse_formula(formula)
        if said and amounts and other_ratio(said, text, amounts):
            reason = f"the formula {text!r} is declared, but the crystal is {formula}"
            return reason, "correct the formula, or name the crystal that it belongs to"
    return None


def other_crystal(row: Mapping[str, Any], formula: str, atom_A3: float) -> tuple[str, str] | None:
    """Return reason and remedy where a row of a table declares another crystal than its own.

    Parameters
    ----------
    formula, atom_A3
        Of the crystal, and its volume per atom.
    """
    if (wrong := other_formula(row, formula)) or not (amounts := parse_formula(formula)):
        return wrong
    density = mass_u(amounts) / sum(amounts.values()) * ATOMIC_MASS_CONSTANT / atom_A3
    for name in DENSITIES:
        said = number_or_nan(str(row.get(name, "")))
        if other_density(said, density):
            return (
                f"{name} = {said:g} is declared, but the crystal has {density:.3f} g/cm^3",
                "correct it, or name the crystal that it belongs to",
            )
    return None


def refuse_contradiction(text: str, entry: Mapping[str, Any], structure: Structure) -> None:
    """Refuse an entry that declares another formula, number of sites, volume or density.

    Raises
    ------
    BadCrystal
        Names both values.
    """
    if structure.is_ordered and any(isinstance(site.specie, DummySpecies) for site in structure):
        return  # which its own check tells
    # numbers may be written as text
    held = [
        next(filter(None, map(entry.get, SITES)), ""),
        entry.get("volume"),
        entry.get("density"),
    ]
    said = [str(value or "") for value in held]
    sites, volume, density = (float(x) if re.fullmatch(r"[\d.]*\d", x) else None for x in said)
    declared = Declared(
        formula=parse_formula(text) if text else None,
        formula_text=text,
        atoms=round(sites) if sites is not None and structure.is_ordered else None,
        volume_A3=volume,
        density_g_cm3=density,
    )
    if sites is not None and not structure.is_ordered and round(sites) != len(structure):
        raise BadCrystal(
            f"{len(structure)} sites, but {sites:g} are declared", "fetch the entry again"
        )
    if wrong := contradictions(declared, amounts_of(structure), structure.lattice.matrix):
        raise BadCrystal(wrong[0], "fetch the entry again, or give a complete structure")
