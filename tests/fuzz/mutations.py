"""Files written in several dialects, and spoilt at random: lines, words and characters."""

import json
import random
import re
import warnings
from collections.abc import Callable

import numpy as np
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter

ODD = ["", ".", "?", "nan", "1e20", "-1", "1_5", "0,5", "x", "Qq", "inf", "999999999", "data_", ";"]


def cif_of(structure: Structure, *, symmetric: bool = True) -> str:
    """A CIF with everything that a CIF may declare: formula, Z, volume, multiplicities, density."""
    with warnings.catch_warnings():
        # pymatgen's search of symmetry uses an interface of spglib that is going away
        warnings.simplefilter("ignore", DeprecationWarning)
        text = str(CifWriter(structure, symprec=0.01 if symmetric else None))
    return text + f"_exptl_crystal_density_diffrn {float(structure.density):.4f}\n"


def by_symbol(text: str) -> str:
    """The same without its list of operations."""
    return re.sub(
        r"loop_\n _symmetry_equiv_pos_site_id\n _symmetry_equiv_pos_as_xyz\n(?:  \d+  '.*'\n)+",
        "",
        text,
    )


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


DIALECTS: dict[str, tuple[str, Callable[[Structure], str]]] = {
    "CIF by operations": ("cif", cif_of),
    "CIF by symbol": ("cif", lambda structure: by_symbol(cif_of(structure))),
    "CIF in P1": ("cif", lambda structure: cif_of(structure, symmetric=False)),
    "POSCAR": ("poscar", poscar_of),
    "POSCAR, Cartesian": ("poscar", lambda s: poscar_of(s, cartesian=True, scale=1.7)),
    "POSCAR, volume": ("poscar", lambda s: poscar_of(s, cartesian=True, scale=-1.0)),
    "extended XYZ": ("xyz", xyz_of),
    "pymatgen JSON": ("json", json_of),
    "OPTIMADE": ("json", optimade_of),
}


def spoil(text: str, rng: random.Random) -> str:
    """Return a text with one thing wrong, as bad luck has it."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    kind = rng.choice(
        ["drop", "double", "blank", "cut", "swap", "digit", "character", "word", "join", "repeat"]
    )
    if kind == "drop":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    elif kind == "blank":
        lines[at] = ""
    elif kind == "cut":
        text = "\n".join(lines)
        return text[: rng.randrange(len(text))]
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif kind == "digit":
        return _at_random(text, r"\d", lambda _: rng.choice("0123456789"), rng)
    elif kind == "character":
        place = rng.randrange(len(text))
        return text[:place] + rng.choice(["", "x", "0", "'", ";", "\0", "é"]) + text[place + 1 :]
    elif kind == "word":
        return _at_random(text, r"\S+", lambda _: rng.choice(ODD), rng)
    elif kind == "join":
        lines[at : at + 2] = [" ".join(lines[at : at + 2])]
    else:
        return text + text
    return "\n".join(lines)


def _at_random(text: str, pattern: str, change: Callable[[str], str], rng: random.Random) -> str:
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = rng.choice(found)
    return text[: one.start()] + change(one.group()) + text[one.end() :]
