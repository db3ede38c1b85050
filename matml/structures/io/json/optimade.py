"""Crystals of OPTIMADE responses (specification 1.2, and 1.3 where a provider has it)."""

import math
import re
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import Element

from matml.structures.errors import BadCrystal
from matml.structures.io.entries import (
    DECLARED,
    amounts_of,
    at_most_one,
    declared_symmetry,
    refuse_contradiction,
)
from matml.structures.io.json.dictionaries import (
    cartesian_structure,
    numbers_of,
    refuse_two_places,
    weighed,
)

OPTIMADE_FORMULAS = (
    "chemical_formula_reduced",
    "chemical_formula_descriptive",
    "chemical_formula_hill",
)
POSITIONS = ("cartesian_site_positions", "fractional_site_positions")
SPANS = (None, "unit_cell", "molecular_unit_cell")
"""Values of `site_coordinate_span` (specification 1.3) with all atoms of the cell listed."""
RATIO_TOLERANCE, MOST_LETTERS = 0.005, 26
HIDDEN = {
    "disorder": "sites are shared or partly occupied",
    "implicit_atoms": "atoms are not listed",
    "site_attachments": "atoms are attached to sites without positions",
    "assemblies": "sites are alternatives of one another",
    "unknown_positions": "positions of atoms are not known",
}
"""What `structure_features` of OPTIMADE (specification 1.2, section 7.2.25) say of the sites."""


def optimade_structure(entry: dict, max_sites: int) -> Structure:
    """The structure of an OPTIMADE entry (specification 1.2, section 7.2, Structures Entries).

    Raises
    ------
    BadCrystal
        Where a needed property was not in the response, or lengths do not agree.
    """
    attributes = entry["attributes"]
    places = next((key for key in POSITIONS if attributes.get(key) is not None), POSITIONS[0])
    needed = ("lattice_vectors", places, "species_at_sites", "species")
    for key in needed:
        if attributes.get(key) is None:
            raise BadCrystal(
                f"the OPTIMADE entry has no {key}",
                f"ask for it: response_fields={','.join(needed)}",
            )
    vectors = attributes["lattice_vectors"]
    if np.shape(vectors) != (3, 3) or any(x is None for row in vectors for x in row):
        raise BadCrystal("not periodic in all three directions", "give a bulk crystal")
    positions, names = attributes[places], attributes["species_at_sites"]
    if len(names) != len(positions):
        raise BadCrystal(
            f"{len(names)} species_at_sites for {len(positions)} {places}",
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
    make = cartesian_structure if places == POSITIONS[0] else Structure
    structure = make(
        Lattice(numbers_of(vectors)), [known[name] for name in names], numbers_of(positions)
    )
    if structure.is_ordered and "disorder" in (attributes.get("structure_features") or []):
        raise BadCrystal(
            "structure_features name disorder, but every site holds one element alone",
            "fetch the entry again",
        )
    fractions = attributes.get(POSITIONS[1])
    if fractions is not None and places != POSITIONS[1]:
        refuse_two_places(structure.lattice, fractions, positions, "fetch the entry again")
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
        named = types is not None and list(types) != [1, 1, 1]
        said = f"dimension_types {types}" if named else f"nperiodic_dimensions {periodic}"
        raise BadCrystal(f"{said}: not periodic in all three directions", "give a bulk crystal")
    span = attributes.get("site_coordinate_span")
    if span not in SPANS:
        raise BadCrystal(
            f"site_coordinate_span is {span}: the sites are not those of a whole cell",
            "ask the provider for all sites of the unit cell",
        )
    letters, sites = attributes.get("wyckoff_positions"), attributes["species_at_sites"]
    if letters is not None and len(letters) != len(sites):
        raise BadCrystal(
            f"{len(letters)} wyckoff_positions for {len(sites)} species_at_sites",
            "fetch the entry again",
        )
    features = [name for name in attributes.get("structure_features") or [] if name in HIDDEN]
    if attributes.get("assemblies"):
        features.append("assemblies")
    for item in attributes["species"]:
        counts = item.get("nattached") or [1] * len(item.get("attached") or [])
        if any(int(n) for n in counts):
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
        name = str(item.get("name"))
        if (
            len(masses) == 1
            and name != symbol
            and all(map(Element.is_valid_symbol, (name, symbol)))
        ):
            raise BadCrystal(
                f"the species {name!r} holds {symbol}, another element", "fetch the entry again"
            )
        species = weighed(symbol, mass, f"the species {name!r}")
        found[species] = found.get(species, 0.0) + float(numbers_of(share))
    return at_most_one(found, f"species {item['name']!r}")
