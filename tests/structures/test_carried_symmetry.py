"""Symmetry carried over from one crystal to another is that of a search of its own."""

from pathlib import Path

import builders
import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.crystal import crystal_of
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.graph import crystal_graph
from matml.structures.settings import StructuresSection
from matml.structures.symmetry import search as symmetry
from matml.structures.symmetry.carry_over import SearchedCrystals

SETTINGS = StructuresSection()


@pytest.fixture
def searches(monkeypatch):
    """Count searches."""
    symmetry._search.cache_clear()
    found = []
    whole = symmetry.spglib.get_symmetry_dataset
    counted = lambda *cell: found.append(1) or whole(*cell)  # noqa: E731
    monkeypatch.setattr(symmetry.spglib, "get_symmetry_dataset", counted)
    return found


@pytest.fixture
def carried():
    """Crystals with what is known of those before them carried over."""
    searched = SearchedCrystals()
    return lambda structure, settings=SETTINGS: crystal_of(structure, settings, [], searched)


def antifluorite_halide(x, elements=("Pt", "K", "Cl"), edge=9.7):
    """K2PtCl6, with one free coordinate, in its primitive cell."""
    structure = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(edge), elements, [[0, 0, 0], [0.25] * 3, [x, 0, 0]]
    )
    return structure.get_primitive_structure()


def rearranged(structure, seed):
    """The same crystal about another origin, its atoms in another order."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(structure))
    shift = generator.choice([0, 0.25, 0.5, 0.1], 3)
    return Structure(
        structure.lattice,
        [structure[i].specie for i in order],
        [structure.frac_coords[i] + shift for i in order],
    )


def by_itself(structure):
    """The crystal by a search of its own."""
    return crystal_of(structure, SETTINGS, [])


def shells(crystal):
    graph = crystal_graph(
        crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, crystal.orbit
    )
    numbers = graph.atomic_number
    rows = zip(
        numbers[graph.edge_target],
        graph.edge_distance.round(3),
        numbers[graph.edge_source],
        graph.edge_multiplicity,
        graph.node_multiplicity[graph.edge_target],
        strict=True,
    )
    return sorted(rows), np.sort(graph.edge_distance)


def same(one, other):
    for name in ("prototype", "family", "common_name", "space_group_number", "formula", "n_sites"):
        assert getattr(one, name) == getattr(other, name)
    (rows, distances), (other_rows, other_distances) = shells(one), shells(other)
    assert rows == other_rows
    np.testing.assert_allclose(distances, other_distances, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("x", [0.21, 0.2437, 0.26])
def test_a_free_coordinate_and_another_arrangement(searches, carried, x, seed):
    carried(antifluorite_halide(0.235))
    other = rearranged(antifluorite_halide(x, ("Sn", "Cs", "Br"), 10.8), seed)
    found = carried(other)
    assert len(searches) == 1
    same(found, by_itself(other))
    assert len(searches) == 2


@pytest.mark.parametrize(
    "structure",
    [
        builders.rocksalt(),
        builders.rocksalt().get_primitive_structure(),
        builders.cubic_abx3(),
        builders.spinel(),
        builders.caesium_chloride(),
        builders.half_heusler(),
    ],
    ids=["rocksalt", "primitive rocksalt", "perovskite", "spinel", "CsCl", "half-Heusler"],
)
def test_prototypes_whatever_is_known_of_them(carried, structure):
    carried(structure)
    for seed in range(3):
        other = rearranged(structure, seed)
        same(carried(other), by_itself(other))


def test_a_distorted_crystal_is_searched(searches, carried):
    carried(antifluorite_halide(0.235))
    strained = antifluorite_halide(0.235).apply_strain([0, 0, 0.02], inplace=False)
    moved = antifluorite_halide(0.235)
    moved.translate_sites([3], [0.03, 0.0, 0.0])
    for other in (strained, moved):
        before = len(searches)
        found = carried(other)
        assert len(searches) > before
        assert found.space_group_number < 225
        same(found, by_itself(other))


def test_a_finer_tolerance_has_its_own_crystals(searches, carried):
    carried(antifluorite_halide(0.235))
    fine = SETTINGS.model_copy(update={"family_symprec_A": 0.001, "symprec_A": 0.001})
    carried(antifluorite_halide(0.24), fine)
    assert len(searches) == 2


def test_a_call_does_not_depend_on_those_before_it(searches):
    def placed(structure, seed):
        """Positions off by less than what is carried over allows."""
        return structure.copy().perturb(2e-5, seed=seed)

    asked = [placed(antifluorite_halide(x), i) for i, x in enumerate((0.235, 0.244))]
    other = [placed(antifluorite_halide(0.24), 9)]

    fresh = SearchedCrystals()
    expected = [crystal_of(structure, SETTINGS, [], fresh).frac_coords for structure in asked]
    assert len(searches) == 1  # the second is told from the first
    symmetry._search.cache_clear()
    CrystalSet.from_structures(other, carry_over=True)
    found = CrystalSet.from_structures(asked, carry_over=True).table["frac_coords"]
    for one, again in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, np.reshape(again, (-1, 3)))


def uniaxial(group, a, ratio, sites, elements):
    """A tetragonal, trigonal or hexagonal crystal in its primitive cell."""
    lattice = Lattice.tetragonal if group < 143 else Lattice.hexagonal
    cell = lattice(a, a * ratio)
    return Structure.from_spacegroup(group, cell, elements, sites).get_primitive_structure()


# space group, two pairs of axial ratio and free coordinate, sites by the coordinate
UNIAXIAL = {
    "ThCr2Si2": (139, (2.4, 0.37), (2.6, 0.385), lambda z: [[0, 0, 0], [0, 0.5, 0.25], [0, 0, z]]),
    "rutile": (136, (0.64, 0.305), (0.69, 0.31), lambda x: [[0, 0, 0], [x, x, 0]]),
    "matlockite": (
        *(129, (1.72, 0.2), (1.84, 0.22)),
        lambda z: [[0, 0.5, z], [0, 0, 0], [0, 0.5, z + 0.45]],
    ),
    "chalcopyrite": (
        *(122, (1.9, 0.23), (1.94, 0.26)),
        lambda x: [[0, 0, 0], [0, 0, 0.5], [x, 0.25, 0.125]],
    ),
    "CdI2": (164, (1.55, 0.24), (1.7, 0.26), lambda z: [[0, 0, 0], [1 / 3, 2 / 3, z]]),
    "wurtzite": (
        *(186, (1.6, 0.37), (1.64, 0.38)),
        lambda z: [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, z]],
    ),
    "ZrNiAl": (
        *(189, (0.52, 0.25), (0.56, 0.255)),
        lambda x: [[x + 0.34, 0, 0.5], [x, 0, 0], [1 / 3, 2 / 3, 0]],
    ),
    "NaFeO2": (166, (5.2, 0.24), (5.6, 0.235), lambda z: [[0, 0, 0], [0, 0, 0.5], [0, 0, z]]),
    "quartz": (
        *(154, (1.1, 0.47), (1.12, 0.46)),
        lambda x: [[x, 0, 2 / 3], [x - 0.06, 0.27, 0.78]],
    ),
}


@pytest.mark.parametrize("name", UNIAXIAL)
def test_another_axial_ratio_free_coordinate_and_arrangement(searches, carried, name):
    group, (ratio, free), (other_ratio, other_free), sites = UNIAXIAL[name]
    first, second = ["Zr", "Cu", "S"], ["Hf", "Ag", "Se"]
    count = len(sites(free))
    carried(uniaxial(group, 5.0, ratio, sites(free), first[-count:]))
    assert len(searches) == 1
    other = uniaxial(group, 5.3, other_ratio, sites(other_free), second[-count:])
    found = carried(other)
    assert len(searches) == 1
    assert found.space_group_number == group
    same(found, by_itself(other))
    same(carried(rearranged(other, 1)), by_itself(other))


def polar_perovskite(shift, ratio=1.06):
    """PbTiO3, titanium off its centre; with no shift it has a mirror plane more."""
    cell = Lattice.tetragonal(3.9, 3.9 * ratio)
    places = [[0, 0, 0], [0.5, 0.5, 0.5 + shift], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(cell, ["Pb", "Ti", "O", "O", "O"], places)


def doubled(shift):
    """Two cells of L1_0 in one, copper off its place; with no shift one cell repeats."""
    places = [[0, 0, 0], [0, 0, 0.5], [0.5, 0.5, 0.25 + shift], [0.5, 0.5, 0.75 - shift]]
    return Structure(Lattice.tetragonal(2.8, 7.4), ["Au", "Au", "Cu", "Cu"], places)


@pytest.mark.parametrize(
    ("known", "asked", "group"),
    [
        (polar_perovskite(0.05), polar_perovskite(0.0), 123),
        (polar_perovskite(0.05), polar_perovskite(0.008), 123),
        (polar_perovskite(0.0), polar_perovskite(0.0, 1.0), 221),
        (polar_perovskite(0.0), polar_perovskite(0.0, 1.01), 221),
        (doubled(0.04), doubled(0.0), 123),
    ],
    ids=["centred", "nearly centred", "cubic", "nearly cubic", "translation"],
)
def test_a_crystal_with_more_symmetry_than_the_known_one_is_searched(
    searches, carried, known, asked, group
):
    below = carried(known)
    found = carried(asked)
    assert len(searches) >= 2
    alone = by_itself(asked)
    assert (found.prototype, found.n_sites) == (alone.prototype, alone.n_sites)
    assert (below.prototype, below.n_sites) != (found.prototype, found.n_sites)
    # as far as the search at 0.1 A tells; what is built of it may keep the lower symmetry
    assert alone.space_group_number == group


def test_real_crystals_are_what_a_search_of_their_own_finds(searches):
    path = Path(__file__).parents[2] / "data" / "crystals" / "elastic.csv.gz"
    poscars = pd.read_csv(path)["poscar"].iloc[::3]
    structures = [Structure.from_str(text, fmt="poscar") for text in poscars]
    told = CrystalSet.from_structures(structures, carry_over=True)
    some = len(searches)
    symmetry._search.cache_clear()
    alone = CrystalSet.from_structures(structures)
    assert some < 0.8 * (len(searches) - some)
    for name in ("prototype", "family", "common_name", "space_group_number", "n_sites"):
        assert told.table[name].tolist() == alone.table[name].tolist()
    for index in range(len(structures)):
        one, other = (np.sort(s.graphs.subset([index]).edge_distance) for s in (told, alone))
        np.testing.assert_allclose(one, other, atol=2e-4)
