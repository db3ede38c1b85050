"""The hull of the known entries against pymatgen's PhaseDiagram, on the embedded energies."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element, Structure
from pymatgen.io.vasp import Poscar

from matml.screening.score.convex_hull import KnownHull

DATA = Path(__file__).parents[2] / "data" / "crystals"

SYSTEMS = ["Ba-O-Ti", "Fe-Li-O-P", "Al-Ni", "Na-Cl", "Ca-F-K"]


@pytest.fixture(scope="module")
def known():
    table = pd.read_csv(DATA / "formation_energy.csv.gz")
    wanted = [set(system.split("-")) for system in SYSTEMS]
    rows = [
        (Poscar.from_str(text).structure, energy)
        for text, energy in zip(table["poscar"], table["formation_energy_eV_per_atom"], strict=True)
        if any(set(text.split("\n")[5].split()) <= system for system in wanted)
    ]
    assert len(rows) > 15
    return rows


@pytest.fixture(scope="module")
def hull(known):
    return KnownHull(
        [np.array(structure.atomic_numbers) for structure, _ in known],
        np.array([energy for _, energy in known]),
    )


def numbers(formula):
    return np.array(
        [Element(symbol).Z for symbol, n in Composition(formula).items() for _ in range(int(n))]
    )


@pytest.mark.parametrize(
    "formula",
    ["BaTiO3", "BaTi4O9", "LiFePO4", "LiFe2O4", "AlNi3", "Al9Ni", "Na3Cl", "KCaF3", "TiO"],
)
def test_energy_is_that_of_the_phase_diagram(known, hull, formula):
    composition = Composition(formula)
    entries = [PDEntry(Composition({e: 1}), 0.0) for e in composition]
    for structure, energy in known:
        if set(structure.composition) <= set(composition) and len(structure.composition) > 1:
            entries.append(PDEntry(structure.composition, energy * len(structure)))
    expected = PhaseDiagram(entries).get_hull_energy_per_atom(composition)
    energy, coverage = hull.energy(numbers(formula))
    assert energy == pytest.approx(expected, abs=1e-9)
    distinct = {e.composition.reduced_formula for e in entries if len(e.composition) > 1}
    assert coverage.n_entries == len(distinct)


def test_decomposition_is_named_and_adds_up(hull):
    # 2 Ba, 1 Ti, 4 O: BaTiO3 has five of the seven atoms, BaO the other two
    assert hull.decomposition(numbers("Ba2TiO4")) == "0.29 BaO + 0.71 BaTiO3"


def test_a_virtual_crystal_stands_at_its_mean_composition(hull):
    atoms, occupancy = np.array([56, 38, 22, 8, 8, 8]), np.array([0.5, 0.5, 1, 1, 1, 1])
    wanted = numbers("BaSrTi2O6")
    assert hull.energy(atoms, occupancy)[0] == pytest.approx(hull.energy(wanted)[0], abs=1e-12)
    assert hull.decomposition(atoms, occupancy) == hull.decomposition(wanted)
    mixed = KnownHull([atoms], np.array([-3.0]), [occupancy])
    assert mixed.energy(wanted)[0] == pytest.approx(-3.0, abs=1e-9)


def test_thin_cover_is_told(hull):
    energy, coverage = hull.energy(numbers("XeHo2"))
    assert energy == 0
    assert coverage.n_entries == 0
    assert set(coverage.missing) == {"Xe", "Ho", "Xe-Ho"}
    assert "Ba-O" not in hull.energy(numbers("BaO"))[1].missing


def test_an_element_and_no_entries_at_all():
    assert KnownHull([], np.zeros(0)).energy(numbers("NaCl"))[0] == 0
    salt = Structure(np.eye(3) * 4, ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    hull = KnownHull([np.array(salt.atomic_numbers)], np.array([-2.0]))
    assert hull.energy(numbers("NaCl"))[0] == pytest.approx(-2)
    assert hull.energy(numbers("Na3Cl"))[0] == pytest.approx(-1)
    assert hull.energy(numbers("Na"))[0] == 0
