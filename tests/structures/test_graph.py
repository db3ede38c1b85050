import itertools

import builders
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.crystal import crystal_of
from matml.structures.graphs.graph import crystal_graph
from matml.structures.graphs.neighbours import nearest_neighbours
from matml.structures.settings import StructuresSection

CRYSTALS = {
    "rocksalt": builders.rocksalt,
    "caesium chloride": builders.caesium_chloride,
    "perovskite": builders.cubic_abx3,
    "spinel": builders.spinel,
    "rutile": builders.rutile,
    "wurtzite": builders.wurtzite,
    "corundum": builders.corundum,
    "ThCr2Si2": builders.chromium_silicide_pair,
    "P1": builders.triclinic,
}


def brute_force_distances(lattice, cartesian, centre, radius):
    """Every (neighbour, distance) within `radius`, by looping over images."""
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.ceil(radius / heights).astype(int) + 1
    found = []
    for image in itertools.product(*(range(-n, n + 1) for n in reach)):
        distances = np.linalg.norm(
            cartesian + np.array(image) @ lattice - cartesian[centre], axis=1
        )
        near = np.flatnonzero((distances > 1e-3) & (distances <= radius))
        found += [(int(neighbour), float(distances[neighbour])) for neighbour in near]
    return found


def cell(make):
    crystal = crystal_of(make(), StructuresSection(), [])
    return crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, crystal.orbit


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("neighbours", [1, 12, 20])
def test_neighbours_are_those_of_a_brute_force_search(name, neighbours):
    lattice, frac_coords, numbers, _ = cell(CRYSTALS[name])
    cartesian = frac_coords @ lattice
    centres = np.arange(len(numbers))
    centre, neighbour, distance = nearest_neighbours(
        lattice, cartesian, centres, neighbours, tie_tolerance=1e-4
    )
    for i in centres[:3]:
        own = centre == i
        everything = brute_force_distances(lattice, cartesian, i, distance[own].max() + 0.5)
        everything.sort(key=lambda item: item[1])
        kth = everything[neighbours - 1][1]
        wanted = [item for item in everything if item[1] <= kth + 1e-4]
        assert sorted(neighbour[own]) == sorted(n for n, _ in wanted)
        np.testing.assert_allclose(distance[own], [d for _, d in wanted], atol=1e-9)


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_shell_against_brute_force(name):
    lattice, frac_coords, numbers, orbit = cell(CRYSTALS[name])
    graph = crystal_graph(lattice, frac_coords, numbers, orbit)
    cartesian = frac_coords @ lattice
    representatives = [int(np.flatnonzero(orbit == o)[0]) for o in range(orbit.max() + 1)]
    for target, atom in enumerate(representatives):
        edges = graph.edge_target == target
        reach = graph.edge_distance[edges].max() + 1e-3
        everything = brute_force_distances(lattice, cartesian, atom, reach)
        assert graph.edge_multiplicity[edges].sum() == len(everything)
        for source, shell, multiplicity in zip(
            graph.edge_source[edges],
            graph.edge_distance[edges],
            graph.edge_multiplicity[edges],
            strict=True,
        ):
            same = [d for n, d in everything if orbit[n] == source and abs(d - shell) < 1e-3]
            assert len(same) == multiplicity
            assert np.mean(same) == pytest.approx(shell, abs=1e-9)


def aggregated(graph, rounds=3):
    """Node features after some rounds of weighted messages, in float64 (a toy network)."""
    feature = np.sin(graph.atomic_number.astype(np.float64))[:, None] * np.array([1.0, 0.3, -0.7])
    for _ in range(rounds):
        weight = np.exp(-np.outer(graph.edge_distance, [0.5, 1.0, 1.5])) + 0.1
        message = graph.edge_multiplicity[:, None] * np.tanh(feature[graph.edge_source]) * weight
        total = np.zeros_like(feature)
        np.add.at(total, graph.edge_target, message)
        feature = np.cos(feature) + 0.1 * total
    return feature


@pytest.mark.parametrize("name", CRYSTALS)
def test_reduced_graph_equals_the_full_one(name):
    lattice, frac_coords, numbers, orbit = cell(CRYSTALS[name])
    reduced = crystal_graph(lattice, frac_coords, numbers, orbit)
    full = crystal_graph(lattice, frac_coords, numbers, np.arange(len(numbers)))
    small, large = aggregated(reduced), aggregated(full)
    np.testing.assert_allclose(small[orbit], large, atol=1e-10, rtol=0)
    pooled = (reduced.node_multiplicity[:, None] * small).sum(0) / reduced.node_multiplicity.sum()
    np.testing.assert_allclose(pooled, large.mean(0), atol=1e-10, rtol=0)
    assert reduced.node_multiplicity.sum() == len(numbers)


@pytest.mark.parametrize("name", ["rocksalt", "perovskite", "spinel", "corundum"])
@pytest.mark.parametrize("seed", [0, 1])
def test_distorted_cells_simply_reduce_less(name, seed):
    structure = CRYSTALS[name]().get_primitive_structure() * (1, 1, 2)
    generator = np.random.default_rng(seed)
    moved = Structure(
        Lattice(structure.lattice.matrix * (1 + 0.03 * generator.standard_normal((3, 3)))),
        structure.species,
        structure.frac_coords + 0.02 * generator.standard_normal((len(structure), 3)),
    )
    lattice, frac_coords, numbers, orbit = cell(lambda: moved)
    assert len(np.unique(orbit)) == len(numbers) == len(structure)
    reduced = aggregated(crystal_graph(lattice, frac_coords, numbers, orbit))
    full = aggregated(crystal_graph(lattice, frac_coords, numbers, np.arange(len(numbers))))
    np.testing.assert_allclose(reduced[orbit], full, atol=1e-10, rtol=0)


def test_known_shells():
    """Rocksalt: 6 at a/2, 12 at a/sqrt 2; CsCl: 8 at sqrt(3)/2 a, 6 at a."""
    salt = crystal_graph(*cell(builders.rocksalt))
    assert salt.edge_multiplicity.tolist() == [6, 12, 6, 12]
    np.testing.assert_allclose(salt.edge_distance[:2], [2.82, 5.64 / 2**0.5], atol=1e-6)
    assert (salt.edge_source != salt.edge_target).tolist() == [True, False, True, False]
    caesium = crystal_graph(*cell(builders.caesium_chloride))
    assert caesium.edge_multiplicity.tolist() == [8, 6, 8, 6]
    np.testing.assert_allclose(caesium.edge_distance[:2], [4.12 * 3**0.5 / 2, 4.12], atol=1e-6)


@pytest.mark.parametrize("neighbours", [1, 5, 6, 7, 18])
def test_ties_are_kept_whole(neighbours):
    graph = crystal_graph(*cell(builders.rocksalt), neighbours=neighbours)
    shells = [6, 12, 8]
    wanted = 0
    while wanted < neighbours:
        wanted += shells.pop(0)
    assert graph.edge_multiplicity[graph.edge_target == 0].sum() == wanted


def test_ties_follow_the_tolerance():
    structure = Structure(Lattice.orthorhombic(3.0, 3.0005, 3.01), ["Po"], [[0, 0, 0]])
    arguments = structure.lattice.matrix, structure.frac_coords, np.array([84]), np.array([0])
    tight = crystal_graph(*arguments, neighbours=1, tie_tolerance=1e-4)
    loose = crystal_graph(*arguments, neighbours=1, tie_tolerance=1e-3)
    assert tight.edge_multiplicity.tolist() == [2]
    assert loose.edge_multiplicity.tolist() == [4]
    assert loose.edge_distance[0] == pytest.approx(3.00025)


def test_edges_are_sorted_by_target_and_distance():
    graph = crystal_graph(*cell(builders.spinel))
    order = np.lexsort((graph.edge_distance, graph.edge_target))
    assert order.tolist() == list(range(len(order)))


def test_a_needle_shaped_cell_has_all_its_neighbours():
    structure = Structure(
        Lattice.orthorhombic(2.6, 2.6, 40.0), ["Cu"] * 16, [[0, 0, i / 16] for i in range(16)]
    )
    lattice, cartesian = structure.lattice.matrix, structure.cart_coords
    centre, _, distance = nearest_neighbours(lattice, cartesian, np.arange(16), 30, 1e-4)
    own = centre == 0
    wanted = sorted(
        d for _, d in brute_force_distances(lattice, cartesian, 0, distance[own].max() + 1.0)
    )
    assert own.sum() >= 30
    np.testing.assert_allclose(distance[own], wanted[: own.sum()], atol=1e-9)
    assert wanted[own.sum()] - distance[own][-1] > 1e-4
