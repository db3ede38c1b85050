"""Lengths in another unit than angstrom: named where no crystal is so wide or so tight."""

from collections import Counter
from pathlib import Path

import builders
import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.check import check_geometry
from matml.structures.crystal import crystal_of
from matml.structures.disorder.sites import Sites
from matml.structures.errors import BadCrystal
from matml.structures.io.poscar import read_poscar
from matml.structures.settings import StructuresSection

DATA = Path(__file__).parents[2] / "data" / "crystals"
SETTINGS = StructuresSection()
ANGSTROM_IN_BOHR = 1.889726


@pytest.fixture(scope="module")
def cells():
    """All embedded crystals: lattice, fractional positions and atomic numbers."""
    names = ("formation_energy", "elastic", "dielectric")
    texts = pd.concat([pd.read_csv(DATA / f"{name}.csv.gz")["poscar"] for name in names])
    return [read_poscar(text, 1000)[:3] for text in texts]


def told(cell, factor):
    """What is said of a crystal whose lengths are multiplied; nothing where it is taken."""
    lattice, places, numbers = cell
    lattice = np.ascontiguousarray(lattice * factor)
    try:
        sites = Sites(places, numbers)
        check_geometry(lattice, np.ascontiguousarray(places @ lattice), sites, SETTINGS)
    except BadCrystal as bad:
        return bad
    return None


def test_no_embedded_crystal_is_accused(cells):
    assert not [cell for cell in cells if told(cell, 1.0)]


@pytest.mark.parametrize(
    ("factor", "remedy", "named", "refused"),
    [
        (ANGSTROM_IN_BOHR, "in bohr? multiply them by 0.529177", 0.96, 0.96),
        (1 / ANGSTROM_IN_BOHR, "taken for bohr? multiply its lengths by 1.889726", 0.92, 0.96),
        (0.1, "in nanometres? multiply them by 10", 0.99, 1.0),
        (10, "taken for nanometres? divide its lengths by 10", 0.99, 1.0),
        (100, "in picometres? divide them by 100", 0.99, 1.0),
    ],
)
def test_another_unit_is_refused_by_name(cells, factor, remedy, named, refused):
    some = cells[::8]
    found = [told(cell, factor) for cell in some]
    others = Counter(bad.remedy for bad in found if bad and " lengths" in bad.remedy)
    assert others.total() >= named * len(some)
    assert all(remedy in said for said in others)
    assert sum(bad is not None for bad in found) >= refused * len(some)


def test_both_distances_are_told():
    salt = builders.rocksalt()
    salt.scale_lattice(salt.volume * ANGSTROM_IN_BOHR**3)
    with pytest.raises(BadCrystal, match=r"Na .* and Cl .* are 5\.329 A apart, 1\.99 tim"):
        crystal_of(salt, SETTINGS, [])


def test_single_small_atoms_have_a_distance_too():
    with pytest.raises(
        BadCrystal, match=r"F \(site 1\) and F \(site 1\), are 5\.000 A apart, 4\.39"
    ):
        crystal_of(Structure(Lattice.cubic(5), ["F"], [[0, 0, 0]]), SETTINGS, [])


@pytest.mark.parametrize(
    "structure",
    [
        # noble gases and molecules need no bonds between them; strained and porous crystals
        Structure(Lattice.cubic(5.3), ["Ar"], [[0, 0, 0]]),
        Structure(Lattice.cubic(6), ["H", "H"], [[0, 0, 0], [0.123, 0, 0]]),
        Structure(Lattice.cubic(7), ["Si", "O"], [[0, 0, 0], [0.23, 0, 0]]),
        builders.rocksalt(a=5.64 * 1.1),
        builders.rocksalt(a=5.64 * 0.8),
        builders.cubic_abx3(a=3.905 * 1.1),
    ],
)
def test_what_may_be_is_taken(structure):
    assert crystal_of(structure, SETTINGS, []).n_sites
