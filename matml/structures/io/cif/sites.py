"""The sites that a CIF block lists: element, place and occupancy, as labels and types tell."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core.periodic_table import Element

from matml.structures.disorder.sites import FULL
from matml.structures.elements import Unknown
from matml.structures.errors import BadCrystal
from matml.structures.io.cif.tags import (
    BONDED,
    MULTIPLICITY,
    SYMMETRY_ORDER,
    UNKNOWN,
    entry,
    finite_number,
    listed_types,
    oxidation_numbers,
)
from matml.structures.io.declared import (
    FARTHEST_UNCONFIRMED,
    Declared,
)

NONMETALS = {"C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "Te", "I"}
VACANCY = re.compile(r"x|vac|vacancy|void|dum|dummy", re.IGNORECASE)
GROUPS = {"OH", "OW", "WAT", "HOH", "H2O", "NH", "CH", "ME", "ET", "PH"}
"""Labels that stand for a group with hydrogens, where no type symbol says what they are."""
HYDROXYL = re.compile(r"(O[\W_\d]*[HW]|H\d*O|HOH|W(AT)?)[\W_\d]*[A-Z]?", re.IGNORECASE)
"""Labels of oxygen that stand for hydroxyl or water."""
SAME_SITE_A = 0.1
"""Images of one site nearer than this are one atom, whose coordinates have too few digits."""
FARTHEST_CELLS = 1e6
"""Fractional coordinates beyond are refused: no digits are left within the cell."""


@dataclass(frozen=True)
class Site:
    """One row of the loop of atom sites.

    `order` is that of its site symmetry, `charge` its oxidation number, NaN where none is given.
    """

    name: str
    species: Element | Unknown
    position: np.ndarray
    occupancy: float
    multiplicity: int | None
    wyckoff: str
    order: int | None = None
    charge: float = math.nan


def listed_sites(
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
    numbers = oxidation_numbers(block)
    multiplicities = next((block[tag] for tag in MULTIPLICITY if tag in block), [])
    for row, name in enumerate(names):
        flag = entry(block, "_atom_site_calc_flag", row).lower()
        if flag == "dum":
            notes.append(f"site {name} is a dummy (calc_flag dum) and was left out")
            continue
        written = entry(block, "_atom_site_occupancy", row)
        occupancy = _occupancy(written, name)
        kind = types[row] if types and types[row] not in UNKNOWN else name
        if written and occupancy < 1 and VACANCY.fullmatch(kind.rstrip("0123456789")):
            notes.append(f"site {name} stands for a vacancy and was left out")
            continue
        if types and types[row] not in UNKNOWN:
            if not (hydrogens or declared.formula):
                _refuse_hydroxyl(name, types[row])
            species = _of_type(types[row], name, declared, notes, full=occupancy == 1)
        else:
            species = _of_label(name, declared, hydrogens, notes)
        _check_position(positions[row], name, declared)
        if not written and "_atom_site_occupancy" in block:
            notes.append(f"site {name} has no occupancy ('.' or '?'), read as 1")
        if occupancy == 0:
            if declared.formula is None:
                raise BadCrystal(
                    f"site {name} has occupancy 0, and no formula tells whether it is empty",
                    "delete the row if it is, correct the occupancy, or add _chemical_formula_sum",
                )
            notes.append(f"site {name} has occupancy 0 and was left out, as in the formula")
            continue
        position = re.fullmatch(r"(\d*)([a-zA-Z])", entry(block, "_atom_site_wyckoff_symbol", row))
        wyckoff = position[2] if position else ""
        times = multiplicities[row] if multiplicities else position[1] if position else ""
        found.append(
            Site(
                name,
                species,
                positions[row],
                occupancy,
                _count(times),
                wyckoff,
                _count(entry(block, SYMMETRY_ORDER, row)),
                numbers.get(kind, math.nan),
            )
        )
    if not found:
        raise BadCrystal("the CIF lists no atoms (_atom_site_…)", "add the loop of atom sites")
    if not declared.formula:
        _compare_types(listed_types(block), found)
    heavy = re.search(r"(?<![A-Za-z])[DT](?![a-z])", declared.formula_text)
    if heavy and hydrogens and not any(getattr(s.species, "name", "") in ("D", "T") for s in found):
        notes.append(
            f"the formula {declared.formula_text!r} counts {heavy[0]}, the sites hold H: isotopes "
            "are not distinguished"
        )
    return found


def _refuse_hydroxyl(name: str, kind: str) -> None:
    """Refuse a site of oxygen whose label says hydroxyl or water, where no hydrogens are listed."""
    if re.match(r"O(?![a-z])", kind) and HYDROXYL.fullmatch(name):
        raise BadCrystal(
            f"site {name} is of type {kind}, but its label stands for hydroxyl or water, and no "
            "hydrogens are listed",
            "give the positions of all hydrogens; or, if there are none, add _chemical_formula_sum",
        )


def _compare_types(types: dict[str, str], sites: Sequence[Site]) -> None:
    """Refuse sites of other elements than the loop of atom types, which no formula settles."""
    own = {"H" if site.species.symbol in ("D", "T") else site.species.symbol for site in sites}
    if not types or types.keys() == own:
        return
    more = " and ".join(types[symbol] for symbol in types if symbol not in own)
    raise BadCrystal(
        f"the sites hold {', '.join(sorted(own))}, but _atom_type_symbol lists "
        f"{', '.join(types.values())}",
        (f"give the sites of {more}, or delete it from that loop" if more else "correct that loop")
        + "; or add _chemical_formula_sum",
    )


def _count(text: str) -> int | None:
    return int(text) if text.isdigit() and int(text) else None


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
                    else finite_number(
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
    """Refuse hydrogens that are counted but not listed, and alternatives that are always there."""
    for row, name in enumerate(names):
        attached = entry(block, "_atom_site_attached_hydrogens", row)
        if attached and attached not in ("0", "0.0"):
            raise BadCrystal(
                f"site {name} has attached hydrogens ({attached}) that are not listed as sites",
                "give the positions of all hydrogens",
            )
    # without assemblies, groups of one name may be of several places: the least of each counts
    least: dict[str, dict[str, float]] = {}
    for row, name in enumerate(names):
        group = entry(block, "_atom_site_disorder_group", row)
        if group:
            assembly = entry(block, "_atom_site_disorder_assembly", row)
            groups = least.setdefault(assembly, {})
            share = _occupancy(entry(block, "_atom_site_occupancy", row), name)
            groups[group] = min(groups.get(group, share), share)
    for groups in least.values():
        # a negative group has its alternative by symmetry
        shares = [share * (2 if group[0] == "-" else 1) for group, share in groups.items()]
        if sum(shares) > 1 + FULL and (len(groups) > 1 or next(iter(groups))[0] == "-"):
            said = " and ".join(f"{name} ({share:g})" for name, share in sorted(groups.items()))
            raise BadCrystal(
                f"disordered: the disorder groups {said} are alternatives of one another, but "
                f"their occupancies sum to {sum(shares):.3g}",
                "give each alternative its occupancy, or an ordered model: keep the sites of one "
                "group",
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
    value = finite_number(text, f"the occupancy of site {name}")
    if not 0 <= value <= 1.0 + FULL:
        raise BadCrystal(f"the occupancy of site {name} is {text}", "give occupancies from 0 to 1")
    return min(value, 1.0)


def _of_type(
    kind: str, name: str, declared: Declared, notes: list[str], *, full: bool
) -> Element | Unknown:
    """Return the element of a type symbol such as `Na`, `Fe3+`, `O2-`, `7Li`.

    `full` says whether the site is fully occupied.
    """
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
    # of one letter, many name a place: A, B, K, V, W, Y
    if other is None and full and not declared.formula and symbol in NONMETALS:
        other = re.match(r"[CFHINOPS](?![A-Za-z])", name)
    if other and other[0] != symbol and Element.is_valid_symbol(other[0]):
        said = f"site {name} is of type {kind}, but its label says {other[0]}"
        formula = declared.formula or {}
        # the label of a shared site may name the other of its elements
        if symbol not in formula or (full and other[0] in formula):
            both = other[0] in formula and symbol not in formula
            raise BadCrystal(
                said + (f", and so does the formula '{declared.formula_text}'" if both else ""),
                "correct the label or the type symbol",
            )
        notes.append(f"{said}; read as {symbol}, as in the formula")
    if found[1]:
        notes.append(f"site {name}, {kind}: isotopes are not distinguished, read as {symbol}")
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
    # `D1` is deuterium, `Du1` is nothing
    valid = (two, one) if len(word) == 1 or one not in ("D", "T") else (two,)
    choices = [symbol for symbol in dict.fromkeys(valid) if Element.is_valid_symbol(symbol)]
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
