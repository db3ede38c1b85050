"""Crystals written as files, in the dialects that programs write."""

import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial

import gemmi
import numpy as np
import spglib
from pymatgen.core import Structure
from pymatgen.core.periodic_table import Element
from pymatgen.io.cif import CifWriter

SYMPREC_A = 0.01
"""Of the search for symmetry, in cells of 15 cubic angstrom per atom."""


class Impossible(Exception):
    """A crystal that a dialect cannot express; says why."""


@contextmanager
def spglib_as_it_was() -> Iterator[None]:
    """Let pass that spglib is going to tell its failures in another way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def cif_of(structure: Structure, *, symmetric: bool = True) -> str:
    """A CIF with everything that a CIF may declare: formula, Z, volume, multiplicities, density."""
    with spglib_as_it_was():
        symprec = 0.01 if symmetric else None
        # by default five degrees, which makes tetragonal crystals cubic
        text = str(CifWriter(structure, symprec=symprec, angle_tolerance=-1.0))
    number = int(text.split("_symmetry_Int_Tables_number")[1].split()[0])
    group = gemmi.find_spacegroup_by_number(number)
    if len(re.findall(r"(?m)^ +\d+  '.*'$", text)) != len(list(group.operations())):
        # searched for with another tolerance
        raise Impossible("pymatgen lists operations of another space group than it names")
    return text + f"_exptl_crystal_density_diffrn {float(structure.density):.4f}\n"


def cif_by_symbol(structure: Structure) -> str:
    """The same by its symbol alone, where that tells the origin."""
    text = cif_of(structure)
    number = int(text.split("_symmetry_Int_Tables_number")[1].split()[0])
    if any(one.choice[:1] == "2" for one in settings_of(number)):
        raise Impossible("the symbol does not tell the origin")
    return by_symbol(text)


def by_symbol(text: str) -> str:
    """The same without its list of operations."""
    return re.sub(
        r"loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n(?:  \d+  '.*'\n)+",
        "",
        text,
    )


@cache
def settings_of(number: int) -> list[spglib.SpaceGroupType]:
    """The settings of a space group in the International Tables, the standard one first."""
    return [one for one in _settings() if one.number == number]


@cache
def _settings() -> list[spglib.SpaceGroupType]:
    with spglib_as_it_was():
        return [spglib.get_spacegroup_type(hall_number) for hall_number in range(1, 531)]


@cache
def operations_of(hall: str) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Rotations, translations and triplets of a Hall symbol."""
    operations = list(gemmi.symops_from_hall(hall))
    rotations = np.array([op.rot for op in operations], float) / gemmi.Op.DEN
    translations = np.array([op.tran for op in operations], float) / gemmi.Op.DEN
    return rotations, translations, [op.triplet() for op in operations]


@lru_cache(maxsize=10_000)
def number_of(numbers: tuple[int, ...], lattice: bytes, places: bytes, precision: float) -> int:
    """Number of the space group, searched for once for all dialects of a crystal."""
    cell = np.frombuffer(lattice).reshape(3, 3), np.frombuffer(places).reshape(-1, 3), numbers
    return spglib.get_symmetry_dataset(cell, precision).number


def cif_in_setting(structure: Structure, choose: Callable, say: str) -> str:
    """A CIF of the asymmetric unit in a setting of the space group.

    Parameters
    ----------
    choose
        One of the settings of a space group, or `Impossible`.
    say
        How its symmetry is told: `hall`, `symbol` or `operations`.
    """
    given = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    key = given[2], given[0].tobytes(), given[1].tobytes()
    precision = SYMPREC_A * (structure.volume / 15.0 / len(structure)) ** (1 / 3)
    with spglib_as_it_was():
        entry = choose(settings_of(number_of(*key, precision)))
        found = spglib.get_symmetry_dataset(given, precision, hall_number=entry.hall_number)
    lattice, positions, numbers = found.std_lattice, found.std_positions, found.std_types
    # spglib writes = for the double prime of the International Tables
    hall = entry.hall_symbol.replace("=", '"')
    rotations, translations, triplets = operations_of(hall)
    left, rows = np.ones(len(numbers), bool), []
    for atom in range(len(numbers)):
        if not left[atom]:
            continue
        images = rotations @ positions[atom] + translations
        apart = positions[:, None] - images
        near = np.linalg.norm((apart - apart.round()) @ lattice, axis=-1).min(1) < 0.05
        orbit = near & (numbers == numbers[atom])
        left &= ~orbit
        symbol = Element.from_Z(int(numbers[atom])).symbol
        place = " ".join(f"{x:.6f}" for x in positions[atom])
        rows.append(f"{symbol}{len(rows)} {symbol} {orbit.sum()} {place} 1")
    edges = np.linalg.norm(lattice, axis=1)
    units = lattice / edges[:, None]
    cosines = [units[1] @ units[2], units[0] @ units[2], units[0] @ units[1]]
    composition = structure.composition
    units_per_cell = len(numbers) * composition.get_reduced_composition_and_factor()[1]
    symbol = entry.international.split(" = ")[-1].replace("_", "")
    symbol += f" :{entry.choice[0]}" if entry.choice[:1] in ("1", "2", "H", "R") else ""
    told = {
        "hall": [f"_space_group_name_Hall {gemmi.cif.quote(hall)}"],
        "symbol": [f"_space_group_name_H-M_alt '{symbol}'"],
        "operations": [
            "loop_",
            "_space_group_symop_operation_xyz",
            *(f"'{triplet}'" for triplet in triplets),
        ],
    }
    return "\n".join(
        [
            "data_crystal",
            *(f"_cell_length_{n} {x:.6f}" for n, x in zip("abc", edges, strict=True)),
            *(
                f"_cell_angle_{n} {np.degrees(np.arccos(x)):.6f}"
                for n, x in zip(("alpha", "beta", "gamma"), cosines, strict=True)
            ),
            f"_cell_volume {abs(np.linalg.det(lattice)):.4f}",
            f"_chemical_formula_sum '{composition.reduced_composition.formula}'",
            f"_cell_formula_units_Z {units_per_cell / len(structure):.0f}",
            *told[say],
            "loop_",
            "_atom_site_label",
            "_atom_site_type_symbol",
            "_atom_site_site_symmetry_multiplicity",
            "_atom_site_fract_x",
            "_atom_site_fract_y",
            "_atom_site_fract_z",
            "_atom_site_occupancy",
            *rows,
            "",
        ]
    )


def of_choice(entries: Sequence, choice: str) -> spglib.SpaceGroupType:
    """The setting of an origin (`1`, `2`) or of axes (`H`, `R`)."""
    for entry in entries:
        if entry.choice == choice:
            return entry
    kind = "choice of axes" if choice in "HR" else "choice of origin"
    raise Impossible(f"space group without a {kind}")


def last_setting(entries: Sequence) -> spglib.SpaceGroupType:
    """The setting that is the farthest from the standard one."""
    if len(entries) == 1:
        raise Impossible("space group of one setting")
    return entries[-1]


def poscar_of(structure: Structure, *, cartesian: bool = False, scale: float = 1.0) -> str:
    """A POSCAR with names behind its positions; a negative scale is minus the volume."""
    groups: dict[str, list] = {}
    for site in structure:
        groups.setdefault(site.specie.symbol, []).append(site)
    factor = np.cbrt(structure.volume / 3.0) if scale < 0 else scale
    head = f"{-structure.volume:.10f}" if scale < 0 else f"{scale:.10f}"
    matrix = structure.lattice.matrix / factor
    lines = [structure.formula, head, *(" ".join(f"{x:.12f}" for x in row) for row in matrix)]
    lines += [" ".join(groups), " ".join(str(len(sites)) for sites in groups.values())]
    lines.append("Cartesian" if cartesian else "Direct")
    for symbol, sites in groups.items():
        for site in sites:
            place = site.coords / factor if cartesian else site.frac_coords
            lines.append(" ".join(f"{x:.12f}" for x in place) + f" {symbol}")
    return "\n".join(lines) + "\n"


def xyz_of(structure: Structure) -> str:
    """Extended XYZ as ASE writes it."""
    cell = " ".join(f"{x:.10f}" for x in structure.lattice.matrix.ravel())
    rows = [f"{s.specie.symbol} " + " ".join(f"{x:.10f}" for x in s.coords) for s in structure]
    head = f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T"'
    return "\n".join([str(len(structure)), head, *rows]) + "\n"


def optimade_of(structure: Structure) -> str:
    """An OPTIMADE response of one entry."""
    symbols = sorted({site.specie.symbol for site in structure})
    reduced = structure.composition.get_reduced_composition_and_factor()[0]
    amounts = {symbol: round(reduced[symbol]) for symbol in symbols}
    attributes = {
        "lattice_vectors": structure.lattice.matrix.tolist(),
        "cartesian_site_positions": structure.cart_coords.tolist(),
        "species_at_sites": [site.specie.symbol for site in structure],
        "species": [{"name": s, "chemical_symbols": [s], "concentration": [1.0]} for s in symbols],
        "nsites": len(structure),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "structure_features": [],
        "chemical_formula_reduced": "".join(
            f"{symbol}{amount if amount > 1 else ''}" for symbol, amount in amounts.items()
        ),
    }
    entry = {"id": "x", "type": "structures", "attributes": attributes}
    return json.dumps({"data": [entry]}, indent=1)


def json_of(structure: Structure) -> str:
    """`Structure.as_dict()` as JSON."""
    return json.dumps(structure.as_dict(), indent=1)


def standard(entries: Sequence) -> spglib.SpaceGroupType:
    """The first setting of a space group."""
    return entries[0]


def _chosen(choice: str) -> Callable:
    return partial(of_choice, choice=choice)


DIALECTS: dict[str, tuple[str, Callable[[Structure], str]]] = {
    "CIF by operations": ("cif", cif_of),
    "CIF by symbol": ("cif", cif_by_symbol),
    "CIF in P1": ("cif", lambda structure: cif_of(structure, symmetric=False)),
    "CIF by Hall symbol": ("cif", partial(cif_in_setting, choose=standard, say="hall")),
    "CIF, another setting by Hall symbol": (
        "cif",
        partial(cif_in_setting, choose=last_setting, say="hall"),
    ),
    "CIF, another setting by symbol": (
        "cif",
        partial(cif_in_setting, choose=last_setting, say="symbol"),
    ),
    "CIF, another setting by operations": (
        "cif",
        partial(cif_in_setting, choose=last_setting, say="operations"),
    ),
    "CIF, origin 1": ("cif", partial(cif_in_setting, choose=_chosen("1"), say="symbol")),
    "CIF, origin 2": ("cif", partial(cif_in_setting, choose=_chosen("2"), say="symbol")),
    "CIF, hexagonal axes": ("cif", partial(cif_in_setting, choose=_chosen("H"), say="symbol")),
    "CIF, rhombohedral axes": ("cif", partial(cif_in_setting, choose=_chosen("R"), say="symbol")),
    "POSCAR": ("poscar", poscar_of),
    "POSCAR, Cartesian": ("poscar", lambda s: poscar_of(s, cartesian=True, scale=1.7)),
    "POSCAR, volume": ("poscar", lambda s: poscar_of(s, cartesian=True, scale=-1.0)),
    "extended XYZ": ("xyz", xyz_of),
    "pymatgen JSON": ("json", json_of),
    "OPTIMADE": ("json", optimade_of),
}
