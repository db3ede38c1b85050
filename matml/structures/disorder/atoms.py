"""The atoms of a virtual crystal as tables list them: the occupants of a site one by one."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from matml.structures.disorder.sites import FULL, Sites, kind_of, mixture_of


class Atoms(NamedTuple):
    """The atoms of a cell, the occupants of a shared site one after the other.

    Attributes
    ----------
    site
        Place of each in the list of sites, [atoms].
    numbers, occupancy, orbit
        Atomic number, share of the cells in which it is there, and symmetry orbit: the occupants of
        one site are of different orbits. [atoms].
    """

    site: np.ndarray
    numbers: np.ndarray
    occupancy: np.ndarray
    orbit: np.ndarray


def listed(sites: Sites, orbit: np.ndarray) -> Atoms:
    """Return the atoms of sites on some orbits, [sites]."""
    kinds = sites.kinds
    if not sites.mixtures:
        return Atoms(np.arange(len(kinds)), kinds, np.ones(len(kinds)), orbit)
    orbits: dict[tuple[int, int], int] = {}
    rows = [
        (site, z, share, orbits.setdefault((own, z), len(orbits)))
        for site, (kind, own) in enumerate(zip(kinds.tolist(), orbit.tolist(), strict=True))
        for z, share in sites.held(kind)
    ]
    return Atoms(*map(np.array, zip(*rows, strict=True)))


def amounts(numbers: np.ndarray, occupancy: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the elements of some atoms, rising, and how many there are of each, on average."""
    elements, place = np.unique(np.asarray(numbers), return_inverse=True)
    return elements, np.bincount(place, weights=occupancy)


def first_of_sites(frac_coords: np.ndarray) -> np.ndarray:
    """Return which listed atoms, at [atoms, 3], are the first of their site, [sites]."""
    return np.flatnonzero(np.append(True, (frac_coords[1:] != frac_coords[:-1]).any(1)))


def occupancies(table: pd.DataFrame) -> Iterator[np.ndarray]:
    """Yield the occupancies of each crystal of a table like `structures.parquet`, [atoms]."""
    # a table made by hand, of ordered crystals, has none
    shares = table["occupancy"] if "occupancy" in table else [None] * len(table)
    for own, numbers in zip(shares, table["atomic_numbers"], strict=True):
        yield np.asarray(own) if np.ndim(own) else np.ones(len(numbers))


def are_disordered(table: pd.DataFrame) -> np.ndarray:
    """Return which crystals of such a table are disordered, [crystals]."""
    if "disordered" not in table:
        return np.zeros(len(table), bool)
    return table["disordered"].fillna(False).to_numpy(bool)


def are_partly_empty(table: pd.DataFrame) -> np.ndarray:
    """Return which crystals of such a table have sites that are not always occupied, [crystals]."""
    found = []
    for flat, shares in zip(table["frac_coords"], occupancies(table), strict=True):
        coords = np.reshape(flat, (-1, 3))
        least = (
            1.0 if (shares == 1).all() else np.add.reduceat(shares, first_of_sites(coords)).min()
        )
        found.append(least < 1 - FULL)
    return np.array(found, bool)


def sites_of(table: pd.DataFrame) -> Iterator[Sites]:
    """Yield the sites of each crystal of such a table; kinds are alike over all of it."""
    mixtures: list = []
    columns = table["frac_coords"], table["atomic_numbers"], occupancies(table)
    for flat, numbers, shares in zip(*columns, strict=True):
        coords, numbers = np.reshape(flat, (-1, 3)), np.asarray(numbers)
        if (shares == 1).all():
            yield Sites(coords, numbers)
            continue
        first = first_of_sites(coords)
        held = zip(np.split(numbers, first[1:]), np.split(shares, first[1:]), strict=True)
        kinds = [
            # as they were when the crystal was read
            kind_of(mixture_of(dict(zip(z.tolist(), x.tolist(), strict=True)), 0.0), mixtures)
            for z, x in held
        ]
        yield Sites(coords[first], np.array(kinds), mixtures)


def fractions(table: pd.DataFrame, elements: int = 119) -> np.ndarray:
    """Return the atomic fractions of each crystal of such a table, [crystals, elements]."""
    rows = [
        np.bincount(numbers, weights=shares, minlength=elements) / shares.sum()
        for numbers, shares in zip(table["atomic_numbers"], occupancies(table), strict=True)
    ]
    return np.array(rows).reshape(-1, elements)
