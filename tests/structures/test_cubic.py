"""Symmetry carried over from one cubic crystal to another is that of a search of its own."""

import builders
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.config import StructuresSection
from matml.structures import symmetry
from matml.structures.crystal import crystal_of
from matml.structures.crystals import CrystalSet
from matml.structures.cubic import CubicCrystals
from matml.structures.graph import crystal_graph

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
    cubic = CubicCrystals()
    return lambda structure, settings=SETTINGS: crystal_of(structure, settings, [], cubic)


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
    np.testing.assert_allclose(distances, other_distances, atol=1e-10)


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


@pytest.mark.parametrize("seed", range(3))
def test_rounding_in_what_was_met_before_is_not_carried_over(searches, carried, seed):
    """Atoms off their places by as much as is still told without a search."""
    carried(antifluorite_halide(0.235).perturb(2e-5, seed=seed))
    other = antifluorite_halide(0.2437).perturb(2e-5, seed=seed + 10)
    found = carried(other)
    assert len(searches) == 1
    same(found, by_itself(other))


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

    fresh = CubicCrystals()
    expected = [crystal_of(structure, SETTINGS, [], fresh).frac_coords for structure in asked]
    assert len(searches) == 1  # the second is told from the first
    symmetry._search.cache_clear()
    CrystalSet.from_structures(other, carry_over=True)
    found = CrystalSet.from_structures(asked, carry_over=True).table["frac_coords"]
    for one, again in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one, np.reshape(again, (-1, 3)))
