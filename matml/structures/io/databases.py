"""Crystals as databases send them: OPTIMADE responses and Materials Project JSON, saved to disk."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.core.periodic_table import Element

from matml.structures.elements import Unknown
from matml.structures.errors import BadCrystal

LISTS = ("structures", "data", "response", "results")
"""Keys under which responses hold their entries."""
NAMES = ("material_id", "task_id", "id")


def entries_of(value: Any) -> list:
    """The entries of a response: its list, a single entry, or a bare list or structure."""
    if isinstance(value, dict) and "lattice" not in value:
        for key in LISTS:
            if isinstance(value.get(key), list | dict):
                found = value[key]
                return found if isinstance(found, list) else [found]
    return value if isinstance(value, list) else [value]


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
    known = {item["name"]: _occupants(item) for item in attributes["species"]}
    if unknown := sorted({name for name in names if name not in known}):
        raise BadCrystal(f"species {unknown[0]!r} is not described", "fetch the entry again")
    return Structure(
        Lattice(np.asarray(vectors, dtype=np.float64)),
        [known[name] for name in names],
        np.asarray(positions, dtype=np.float64),
        coords_are_cartesian=True,
    )


def _occupants(item: dict) -> dict:
    """Elements of one species, or unknown names such as `vacancy`, with their concentrations."""
    found: dict = {}
    for symbol, share in zip(item["chemical_symbols"], item["concentration"], strict=True):
        species = Element(symbol) if Element.is_valid_symbol(symbol) else Unknown(symbol)
        found[species] = found.get(species, 0.0) + float(share)
    return found
