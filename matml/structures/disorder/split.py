"""Split sites: positions too near to be occupied at once are one site."""

from collections.abc import Mapping, Sequence

import numpy as np
from pymatgen.optimization.neighbors import find_points_in_spheres

from matml.structures.disorder.sites import FULL, Sites, kind_of, mixture_of, occupancy, slack
from matml.structures.errors import BadCrystal

PERIODIC = np.ones(3, dtype=np.int64)
REMEDY = "correct the occupancies, or keep the positions of one alternative, with occupancy 1"


def merged(sites: Sites, lattice: np.ndarray, ratio: float) -> Sites:
    """Return sites of which those that are too near to be occupied at once became one.

    A split site is a group of partly occupied positions, each nearer to another one of the group
    than `ratio` times the sum of their radii. It becomes one site at their mean, weighted by
    occupancy, which holds what all of them hold.

    Parameters
    ----------
    lattice
        Row vectors [3, 3], angstrom.

    Raises
    ------
    BadCrystal
        Where such a group holds more than one atom, or never ends.
    """
    amounts = np.array([occupancy(sites.held(kind)) for kind in sites.kinds.tolist()])
    links = _links(sites, np.flatnonzero(amounts < 1 - FULL), lattice, ratio)
    if not links:
        return sites
    mixtures = list(sites.mixtures)
    frac_coords, kinds = sites.frac_coords.copy(), sites.kinds.copy()
    gone = set[int]()
    for first in sorted(links):
        if first in gone:
            continue
        cells = _group(first, links, sites)
        members = list(cells)
        total = amounts[members].sum()
        parts = [part for site in members for part in sites.held(int(sites.kinds[site]))]
        room = slack(share for _, share in parts)
        if total > 1 + room:
            names = " and ".join(sites.name(site) for site in members[:2])
            raise BadCrystal(
                f"disordered: {names} are too near to be occupied at once, but {len(members)} such "
                f"positions hold {total:.3g} atoms together",
                REMEDY,
            )
        shares: dict[int, float] = {}
        for z, share in parts:
            shares[z] = shares.get(z, 0.0) + (share / total if abs(total - 1) <= room else share)
        places = sites.frac_coords[members] + np.array(list(cells.values()))
        frac_coords[first] = amounts[members] @ places / total
        kinds[first] = kind_of(mixture_of(shares), mixtures)
        gone.update(members[1:])
    left = [site for site in range(len(kinds)) if site not in gone]
    return Sites(frac_coords[left], kinds[left], mixtures)


Links = dict[int, list[tuple[int, np.ndarray]]]
"""Sites with their near ones, and the cells in which these are."""


def _links(sites: Sites, partial: np.ndarray, lattice: np.ndarray, ratio: float) -> Links:
    """Return which partly occupied sites are too near to others."""
    if not len(partial):
        return {}
    radii = sites.radii_A[partial]
    cartesian = np.ascontiguousarray(sites.frac_coords[partial] @ lattice)
    found = find_points_in_spheres(
        cartesian,
        cartesian,
        r=2 * ratio * float(radii.max()),
        pbc=PERIODIC,
        lattice=np.ascontiguousarray(lattice),
        tol=1e-8,
    )
    links: Links = {}
    for a, b, cell, distance in zip(*found, strict=True):
        if distance < ratio * (radii[a] + radii[b]) and (a != b or cell.any()):
            links.setdefault(int(partial[a]), []).append((int(partial[b]), cell))
    return links


def _group(
    first: int, links: Mapping[int, Sequence[tuple[int, np.ndarray]]], sites: Sites
) -> dict[int, np.ndarray]:
    """Return the members of a group, the first one first, with the cell in which each is."""
    cells = {first: np.zeros(3)}
    queue = [first]
    while queue:
        here = queue.pop()
        for other, step in links[here]:
            cell = cells[here] + step
            if other not in cells:
                cells[other] = cell
                queue.append(other)
            elif (cells[other] != cell).any():
                raise BadCrystal(
                    f"disordered: positions like {sites.name(other)} follow one another without "
                    "end, each too near to the next to be occupied at once",
                    REMEDY,
                )
    return cells
