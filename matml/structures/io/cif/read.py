"""One block of a CIF to a crystal: every fact that it declares is held against what was read.

gemmi parses the file (COMCIFS' grammar) and knows the space groups; what a site, an operation or
a formula means, and what to do where two of them disagree, is decided here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.disorder.sites import slack
from matml.structures.elements import unbalanced
from matml.structures.errors import BadCrystal
from matml.structures.io.cif.bonds import Bond, listed_bonds, other_bond
from matml.structures.io.cif.misspelt import passed_over
from matml.structures.io.cif.occupancies import weighted
from matml.structures.io.cif.sites import SAME_SITE_A, Site, listed_sites
from matml.structures.io.cif.tags import (
    EDGES,
    SYSTEM,
    UNKNOWN,
    declared_facts,
    lattice_of,
    values_by_tag,
)
from matml.structures.io.declared import Declared, check_fractions, contradictions, parse_formula
from matml.structures.io.entries import DECLARED, HINT, declared_symmetry
from matml.structures.io.minerals import NAMES, TAGS, names_in
from matml.structures.io.space_groups import (
    Operations,
    declared_operations,
    has_other_origin,
    keep_metric,
)
from matml.structures.symmetry.mixed_lengths import refuse_mixed_lengths

MODULATED = ("_cell_modulation_dimension", "_space_group_ssg_name", "_cell_subsystems_number")
SAME_ATOM_A = 0.02
"""Atoms of one element, of different rows, nearer than this are one atom given twice."""
LARGEST_SPACE_GROUP = 192  # general positions of Fm-3m
MOST_AT_ONE_PLACE = 64
"""Positions of rows within `SAME_ATOM_A` of one another, beyond which a file is absurd."""


@dataclass(frozen=True)
class Reading:
    """A cell filled by one of the declared symmetries, and what contradicts it."""

    operations: Operations
    species: list[dict]
    positions: np.ndarray
    contradictions: list[str]
    notes: list[str]
    charges: Sequence[float] = ()


def read_cif(text: str, max_sites: int) -> tuple[Structure, list[str]]:
    """Return the crystal of one block, and notes on how it was read.

    Raises
    ------
    BadCrystal
        Where the block cannot be read, or declares what contradicts its sites.
    """
    block = values_by_tag(text)
    if not all(block.get(tag) for tag in EDGES):
        raise BadCrystal(
            "no CIF data block with a cell (_cell_length_a)", "give a complete CIF file"
        )
    notes: list[str] = []
    if any(block.get(tag, ["0"])[0] not in (*UNKNOWN, "0") for tag in MODULATED):
        raise BadCrystal(
            "the structure is modulated: its sites are an average", "give a commensurate supercell"
        )
    lattice, angles = lattice_of(block)
    declared = declared_facts(block, notes)
    _check_size(block, declared, max_sites)
    sites = listed_sites(block, declared, lattice, notes)
    operations = declared_operations(block, angles, notes)
    if not operations:
        operations = [_no_symmetry(declared)]
    # a row of the largest group makes 192 atoms at most
    if len(sites) * max(map(len, operations)) > LARGEST_SPACE_GROUP * max_sites:
        raise _too_many(len(sites) * max(map(len, operations)), max_sites)
    bonds = listed_bonds(block)
    reading = _choose([_fill(sites, one, lattice, declared, bonds) for one in operations], declared)
    if len(reading.operations) == 1:
        # a formula confirms nothing that no operation moves
        places = np.array([site.position for site in sites])
        check_fractions(places)
        if "_atom_site_cartn_x" in block and "_atom_site_fract_x" not in block:
            refuse_mixed_lengths(lattice, places, [str(site.species) for site in sites])
    if len(reading.species) > max_sites:
        raise _too_many(len(reading.species), max_sites)
    structure = Structure(Lattice(lattice), reading.species, reading.positions)
    own = {kind.symbol for content in reading.species for kind in content}
    for text in block.get("_chemical_formula_analytical", []):
        # an analysis finds traces and water, too
        if more := " and ".join(sorted((parse_formula(text) or {}).keys() - own)):
            notes.append(f"the analytical formula {text!r} has {more}, of which there is no site")
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
    if not declared.tells_amount and has_other_origin(reading.operations):
        structure.properties[HINT] = "are the coordinates by the other origin of its space group?"
    structure.properties[NAMES] = names_in(block, TAGS, confirmed=declared.formula is not None)
    notes += [*reading.notes, *passed_over(block), unbalanced(reading.charges)]
    return structure, list(filter(None, notes))


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


def _fill(
    sites: Sequence[Site],
    operations: Operations,
    lattice: np.ndarray,
    declared: Declared,
    bonds: Sequence[Bond],
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
    equivalent = [_images(site, operations, lattice, notes) for site in sites]
    # SHELXL-97 calls the order of the site symmetry its multiplicity
    full = [one for one in zip(sites, equivalent, strict=True) if one[0].occupancy == 1]
    orders = any(site.multiplicity != len(images) for site, images in full) and all(
        (site.multiplicity or 0) * len(images) == len(operations) for site, images in full
    )
    for number, (site, images) in enumerate(zip(sites, equivalent, strict=True)):
        said = (("multiplicity", site.multiplicity), ("site-symmetry order", site.order))
        for name, value in (("site-symmetry order", site.multiplicity),) if orders else said:
            if value is None:
                continue
            many = value if name == "multiplicity" else len(operations) / value
            if site.occupancy < 1 and many != len(images):
                # positions about a special one, of which one is occupied at a time
                apart = _images(site, operations, lattice, [], SAME_ATOM_A)
                images = apart if len(apart) == many else images
            if many != len(images):
                wrong.append(
                    f"site {site.name} has {len(images)} positions in the cell, but a {name} of "
                    f"{value} is declared"
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
    found = contradictions(declared, amounts, lattice)
    if found or not (declared.formula or declared.density_g_cm3):
        totals = np.array([sum(content.values()) for content in species])
        counts = np.array([len(equivalent[owners[place]]) for place in kept])
        if of_full_sites := weighted(totals, counts, len(operations)):
            found = ["; ".join([of_full_sites, *found[:1]])]
    wrong += found
    names = [site.name for site in sites]
    if not wrong and (other := other_bond(bonds, names, np.array(owners), positions, lattice)):
        wrong.append(other)
    charges = [s.charge * s.occupancy * len(x) for s, x in zip(sites, equivalent, strict=True)]
    return Reading(operations, species, positions[kept], wrong, notes, charges)


def _images(
    site: Site,
    operations: Operations,
    lattice: np.ndarray,
    notes: list[str],
    reach: float = SAME_SITE_A,
) -> np.ndarray:
    """Return the positions equivalent to a site, [multiplicity, 3].

    Operations that leave it where it is, within `reach`, are its site symmetry: it is put at
    the mean of its images under them, exactly on its special position.
    """
    images = operations.rotations @ site.position + operations.translations
    step = images - site.position
    step -= np.rint(step)
    near = np.linalg.norm(step @ lattice, axis=1) < reach
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
    # the search divides the cell into cubes of this edge
    reach = max(SAME_ATOM_A, 0.004 * float(np.abs(lattice).max()))
    centre, other, _, distance = find_points_in_spheres(
        cartesian, cartesian, r=reach, pbc=np.ones(3, np.int64), lattice=lattice, tol=1e-8
    )
    onto = np.arange(len(positions))
    for a, b, apart in zip(centre, other, distance, strict=True):
        if b < a and apart <= SAME_ATOM_A:
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
        if total > 1 + slack(content[place].values()):
            shares = content[place].items()
            listed = ", ".join(f"{kind.symbol} {share:g}" for kind, share in shares)
            raise BadCrystal(
                f"overlapping atoms: one position holds {listed}, {total:g} atoms in all",
                _remedy("overlapping"),
            )
        if total > 1:  # by rounding
            content[place] = {kind: share / total for kind, share in content[place].items()}
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
        confirmed = declared.formula is not None or re.search(
            "multiplicity|site-symmetry", refused[0].contradictions[0]
        )
        if not confirmed:
            raise BadCrystal("; ".join(refused[0].contradictions), _remedy(""))
    note = (
        f"read by {first.operations.origin}, since by {refused[0].operations.origin} "
        f"{refused[0].contradictions[0]}"
    )
    return replace(first, notes=[*first.notes, note])


def _remedy(reason: str) -> str:
    if "volume" in reason:
        return "check the edges and angles of the cell for a mistyped digit"
    if "proportional" in reason:
        return (
            "give 1 to positions that are full; if the occupancies are right as they are, give the "
            "formula that they make (_chemical_formula_sum)"
        )
    if "equal formula units" in reason:
        return "check that all atoms are listed; correct Z, or add _chemical_formula_sum"
    if "proportional" not in reason and "kg/m^3" in reason:
        return "give the density in g/cm^3 (Mg/m^3): divide it by 1000"
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
