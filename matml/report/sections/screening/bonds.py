"""Bonds and coordination polyhedra of a crystal, for its drawing.

A polyhedron stands around each cation: the anions of its first shell. Anions are the atoms of the
most electronegative element, if it is a non-metal; without one, as in an alloy, nearest neighbours
are joined and no polyhedron is drawn.
"""

from itertools import pairwise
from typing import Any

import numpy as np
from pymatgen.core import Element, Lattice, Structure
from scipy.spatial import ConvexHull, QhullError

from matml.structures.elements import ELECTRONEGATIVITY

SHELL, GAP_A = 1.35, 0.35
"""A first shell reaches to so many times its nearest distance, and ends at a gap of so much."""
FEWEST, MOST = 4, 8
"""Anions of a polyhedron; around larger cations they would hide all others, bonds too."""
LARGEST = 32
"""Sites of a cell beyond which a drawing with bonds would be a thicket."""
DIGITS = 3


def bonds_of(cif: str) -> dict[str, Any]:
    """Return the drawing's further parts, Cartesian in angstrom with a along x and b in xy.

    Returns
    -------
    dict
        `cell`, the three lattice vectors; `bonds`, pairs of places; `partner`, the anion that they
        end at ("" without one); `polyhedra`, each with its centre's `element`, `vertices` and
        `faces` (triples of vertices). Empty for a crystal that is disordered or has too many
        sites.
    """
    structure = Structure.from_str(cif, fmt="cif", frac_tolerance=0)
    if not structure.is_ordered or len(structure) > LARGEST:
        return {}
    lattice = Lattice.from_parameters(*structure.lattice.parameters, vesta=True)
    structure = Structure(lattice, structure.species, structure.frac_coords, to_unit_cell=True)
    anion = _anion(list(structure.composition.elements))
    bonds, polyhedra = [], []
    for site in structure:
        if anion is not None and site.specie == anion:
            continue
        shell = _shell(structure, site, anion)
        if anion is not None and len(shell) > MOST:
            continue
        # between like partners each bond is met from both ends
        ends = [n for n in shell if anion or tuple((n - site.coords).round(DIGITS)) > (0, 0, 0)]
        bonds += [[_place(site.coords), _place(end)] for end in ends]
        if anion is not None and len(shell) >= FEWEST and (faces := _faces(shell)):
            polyhedra.append(
                {
                    "element": site.specie.symbol,
                    "vertices": [_place(near) for near in shell],
                    "faces": faces,
                }
            )
    cell = [_place(vector) for vector in lattice.matrix]
    partner = anion.symbol if anion else ""
    return {"cell": cell, "bonds": bonds, "polyhedra": polyhedra, "partner": partner}


def _anion(elements: list[Any]) -> Element | None:
    """Return the most electronegative element, if it is a non-metal beside others."""
    most = max(elements, key=lambda element: ELECTRONEGATIVITY[element.symbol])
    nonmetal = not (most.is_metal or most.is_metalloid)
    return most if nonmetal and len(elements) > 1 else None


def _shell(structure: Structure, site: Any, anion: Element | None) -> list[np.ndarray]:
    """Return the places of a site's first shell, of the anion or of any element."""
    reach = 4.0
    while True:
        near = [n for n in structure.get_neighbors(site, reach) if anion in (None, n.specie)]
        if near and reach > SHELL * min(n.nn_distance for n in near):
            break
        reach *= 1.5
    near.sort(key=lambda n: n.nn_distance)
    first = near[0].nn_distance
    shell = [near[0].coords]
    for before, own in pairwise(near):
        if own.nn_distance > SHELL * first or own.nn_distance - before.nn_distance > GAP_A:
            break
        shell.append(own.coords)
    return shell


def _faces(places: list[np.ndarray]) -> list[list[int]]:
    """Return the triangles of the convex hull of places; none where they lie in a plane."""
    try:
        hull = ConvexHull(np.array(places))
    except QhullError:
        return []
    return hull.simplices.tolist()


def _place(coords: np.ndarray) -> list[float]:
    return [round(float(x), DIGITS) for x in coords]
