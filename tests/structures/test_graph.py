import itertools

import builders
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from matml.structures.crystal import crystal_of
from matml.structures.graphs.graph import crystal_graph
from matml.structures.graphs.neighbours import SHARPNESS, fading_neighbours
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


def brute_force_weights(distances, neighbours, reach):
    """Weights of one centre's neighbours within reach, its radius found by bisection."""

    def weights(radius):
        return np.maximum(1 - (distances / radius) ** SHARPNESS, 0) ** 2

    low, high = distances.min(), reach
    assert weights(high).sum() > neighbours
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if weights(middle).sum() < neighbours else (low, middle)
    return weights(high)


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("neighbours", [1, 8, 20])
def test_neighbours_and_weights_are_those_of_a_brute_force_search(name, neighbours):
    lattice, frac_coords, numbers, _ = cell(CRYSTALS[name])
    cartesian = frac_coords @ lattice
    centres = np.arange(len(numbers))
    centre, neighbour, distance, weight = fading_neighbours(lattice, cartesian, centres, neighbours)
    np.testing.assert_allclose(np.bincount(centre, weight), neighbours, rtol=1e-12)
    for i in centres[:3]:
        own = centre == i
        reach = 1.3 * distance[own].max()
        everything = brute_force_distances(lattice, cartesian, i, reach)
        everything.sort(key=lambda item: item[1])
        distances = np.array([d for _, d in everything])
        wanted = brute_force_weights(distances, neighbours, reach)
        # weights of next to nothing may be 0 by rounding
        kept = own.sum()
        assert wanted[kept:].max(initial=0) < 1e-12
        assert sorted(neighbour[own]) == sorted(n for n, _ in everything[:kept])
        np.testing.assert_allclose(distance[own], distances[:kept], atol=1e-9)
        np.testing.assert_allclose(weight[own], wanted[:kept], atol=1e-10)


@pytest.mark.parametrize("name", CRYSTALS)
def test_every_shell_against_brute_force(name):
    lattice, frac_coords, numbers, orbit = cell(CRYSTALS[name])
    graph = crystal_graph(lattice, frac_coords, numbers, orbit)
    cartesian = frac_coords @ lattice
    representatives = [int(np.flatnonzero(orbit == o)[0]) for o in range(orbit.max() + 1)]
    for target, atom in enumerate(representatives):
        edges = graph.edge_target == target
        reach = 1.3 * graph.edge_distance[edges].max()
        everything = brute_force_distances(lattice, cartesian, atom, reach)
        distances = np.array([d for _, d in everything])
        weights = brute_force_weights(distances, 8, reach) / 8
        sources = orbit[[n for n, _ in everything]]
        assert graph.edge_weight[edges].sum() == pytest.approx(1, abs=1e-12)
        for source, shell, share in zip(
            graph.edge_source[edges],
            graph.edge_distance[edges],
            graph.edge_weight[edges],
            strict=True,
        ):
            same = (sources == source) & (np.abs(distances - shell) < 1e-3)
            assert weights[same].sum() == pytest.approx(share, abs=1e-10)
            assert distances[same].mean() == pytest.approx(shell, abs=1e-9)


def aggregated(graph, rounds=3):
    """Node features after some rounds of weighted messages, in float64 (a toy network)."""
    feature = np.sin(graph.atomic_number.astype(np.float64))[:, None] * np.array([1.0, 0.3, -0.7])
    for _ in range(rounds):
        weight = np.exp(-np.outer(graph.edge_distance, [0.5, 1.0, 1.5])) + 0.1
        message = graph.edge_weight[:, None] * np.tanh(feature[graph.edge_source]) * weight
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
    """Rocksalt: 6 at a/2, 12 at a/sqrt 2; CsCl: 8 at sqrt(3)/2 a, 6 at a, 12 at sqrt(2) a."""
    salt, caesium = (
        crystal_graph(*cell(make)) for make in (builders.rocksalt, builders.caesium_chloride)
    )
    for graph, counts, distances in (
        (salt, [6, 12], [2.82, 5.64 / 2**0.5]),
        (caesium, [8, 6], [4.12 * 3**0.5 / 2, 4.12]),
    ):
        own = np.flatnonzero(graph.edge_target == 0)
        near = own[graph.edge_distance[own].argsort()][:2]
        np.testing.assert_allclose(graph.edge_distance[near], distances, atol=1e-6)
        assert (graph.edge_source[near] != 0).tolist() == [True, False]
        # each shell tells the radius at which weights reach 0, and both tell the same
        fallen = 1 - (8 * graph.edge_weight[near] / counts) ** 0.5
        radius = distances / fallen ** (1 / SHARPNESS)
        assert radius[0] == pytest.approx(radius[1], rel=1e-6)


def test_shells_follow_the_tolerance():
    structure = Structure(Lattice.orthorhombic(3.0, 3.0005, 3.01), ["Po"], [[0, 0, 0]])
    arguments = structure.lattice.matrix, structure.frac_coords, np.array([84]), np.array([0])
    tight = crystal_graph(*arguments, neighbours=3, tie_tolerance=1e-4)
    loose = crystal_graph(*arguments, neighbours=3, tie_tolerance=1e-3)
    np.testing.assert_allclose(tight.edge_distance, [3.0, 3.0005, 3.01])
    np.testing.assert_allclose(loose.edge_distance, [3.00025, 3.01], atol=1e-5)
    # merged at their weighted mean: the moments stay
    for power in (0, 1):
        np.testing.assert_allclose(
            (tight.edge_weight * tight.edge_distance**power).sum(),
            (loose.edge_weight * loose.edge_distance**power).sum(),
            rtol=1e-12,
        )


def test_edges_are_sorted_by_target_source_and_distance():
    graph = crystal_graph(*cell(builders.spinel))
    order = np.lexsort((graph.edge_distance, graph.edge_source, graph.edge_target))
    assert order.tolist() == list(range(len(order)))


def test_a_needle_shaped_cell_has_all_its_neighbours():
    structure = Structure(
        Lattice.orthorhombic(2.6, 2.6, 40.0), ["Cu"] * 16, [[0, 0, i / 16] for i in range(16)]
    )
    lattice, cartesian = structure.lattice.matrix, structure.cart_coords
    centre, _, distance, weight = fading_neighbours(lattice, cartesian, np.arange(16), 30)
    own = centre == 0
    wanted = sorted(
        d for _, d in brute_force_distances(lattice, cartesian, 0, distance[own].max() + 1.0)
    )
    np.testing.assert_allclose(distance[own], wanted[: own.sum()], atol=1e-9)
    assert weight[own].sum() == pytest.approx(30, rel=1e-12)
