"""The network sees what it should, and only that."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from pymatgen.core import Element, Lattice, Structure

from matml.properties.data.batches import GraphBatches
from matml.properties.data.element_features import element_features, feature_names
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.segment import Edges
from matml.structures.crystals import CrystalSet
from matml.structures.graphs.graph import crystal_graph
from matml.structures.graphs.store import GraphStore


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    return CrystalNetwork(2, width=16, layers=3).double().eval()


def outputs(network, crystals):
    data = GraphBatches(crystals, dtype=np.float64).batch(np.arange(len(crystals)))
    with torch.no_grad():
        return network(data).numpy()


def test_pytorch_geometric_takes_the_same_crystals(crystals, network):
    from torch_geometric.nn import SimpleConv

    batch = GraphBatches(crystals, dtype=np.float64).batch(np.arange(6))
    data = batch.to_data()
    assert data.validate()
    with torch.no_grad():
        torch.testing.assert_close(network(data), network(batch))
    # a sum over neighbours, edge by edge
    atoms = data.atomic_number[:, None].double()
    summed = torch.zeros_like(atoms)
    for (neighbour, centre), weight in zip(batch.edge_index.T, batch.edge_weight, strict=True):
        summed[centre] += weight * atoms[neighbour]
    torch.testing.assert_close(SimpleConv("add")(atoms, data.edge_index, data.edge_weight), summed)


def exact(crystals, orbits, cells=(1, 1, 1)):
    """The same crystals, or supercells, with graphs in float64, reduced by the given orbits."""
    graphs = []
    for i, orbit in enumerate(orbits):
        structure = crystals.structure(i) * cells
        cell = structure.lattice.matrix, structure.frac_coords
        graphs.append(crystal_graph(*cell, np.array(structure.atomic_numbers), orbit))
    store = GraphStore.from_graphs(crystals.graphs.ids, graphs, crystals.graphs.settings)
    doubles = {
        name: np.concatenate([getattr(graph, name) for graph in graphs])
        for name in ("edge_distance", "edge_weight")
    }
    return CrystalSet(crystals.table, replace(store, **doubles))


def test_reduced_graph_gives_the_outputs_of_the_full_one_and_of_supercells(crystals, network):
    chosen = crystals.subset(np.arange(0, len(crystals), 9))
    orbits = [np.asarray(orbit) for orbit in chosen.table["orbit"]]
    reduced = exact(chosen, orbits)
    full = exact(chosen, [np.arange(len(orbit)) for orbit in orbits])
    assert len(full.graphs.edge_source) > 1.3 * len(reduced.graphs.edge_source)
    np.testing.assert_allclose(outputs(network, full), outputs(network, reduced), atol=1e-10)
    large = exact(chosen, [np.arange(6 * len(orbit)) for orbit in orbits], (1, 2, 3))
    np.testing.assert_allclose(outputs(network, large), outputs(network, reduced), atol=1e-10)


def test_a_supercell_has_the_values_of_its_primitive_cell(network):
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    once = CrystalSet.from_structures([salt])
    twice = CrystalSet.from_structures([salt * (2, 1, 1)])
    np.testing.assert_allclose(outputs(network, once), outputs(network, twice), atol=1e-6)


def test_distance_and_element_both_matter(network):
    def salt(edge, cation):
        return Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(edge), [cation, "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )

    made = CrystalSet.from_structures([salt(5.64, "Na"), salt(5.8, "Na"), salt(5.64, "K")])
    values = outputs(network, made)
    assert np.abs(values[1] - values[0]).max() > 1e-3
    assert np.abs(values[2] - values[0]).max() > 1e-3


def test_batching_does_not_mix_crystals(crystals, network):
    rows = np.array([4, 100, 31])
    together = outputs(network, crystals.subset(rows))
    alone = [outputs(network, crystals.subset([row]))[0] for row in rows]
    np.testing.assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("order", ["as built", "edges shuffled", "nodes shuffled"])
@pytest.mark.parametrize("size", [1, 5, 120])
def test_the_order_of_nodes_and_edges_does_not_matter(crystals, network, size, order):
    data = GraphBatches(crystals, dtype=np.float64).batch(np.arange(size))
    expected = network(data)
    generator = torch.Generator().manual_seed(0)
    if order == "edges shuffled":
        moved = torch.randperm(data.edge_index.shape[1], generator=generator)
        data.edge_index = data.edge_index[:, moved]
        data.edge_distance, data.edge_weight = data.edge_distance[moved], data.edge_weight[moved]
    if order == "nodes shuffled":
        moved = torch.randperm(len(data.batch), generator=generator)
        for name in ("atomic_number", "node_weight", "batch"):
            data[name] = data[name][moved]
        data.edge_index = moved.argsort()[data.edge_index]
    with torch.no_grad():
        found = network(data)
    np.testing.assert_allclose(found.numpy(), expected.detach().numpy(), rtol=1e-10, atol=1e-12)


def random_edges(lead, nodes, edges, features):
    """Edges of one graph, or of as many as `lead` says, and a function for random tensors."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    ends = torch.randint(0, nodes - 1, (2, *lead, edges), generator=generator)
    return Edges.of(normal(*lead, edges, features), *ends, normal(*lead, edges), nodes), normal


@pytest.mark.parametrize("lead", [(), (3,)])
def test_messages_are_the_sums_that_they_say(lead):
    nodes, width = 4, 3
    edges, normal = random_edges(lead, nodes, 6, 2)
    ends, weight = normal(*lead, nodes, 4 * width), normal(*lead, 2 * width, 2)
    found = edges.messages(ends, weight)
    tasks = range(lead[0]) if lead else [...]
    expected = torch.zeros_like(found)
    centre = (edges.centre % nodes).view(*lead, -1)
    neighbour = (edges.ends[: len(edges.centre), 1] // 4 % nodes).view(*lead, -1)
    share = edges.weight.view(*lead, -1)
    for task in tasks:
        for edge in range(6):
            own = ends[task].view(nodes, 2, 2 * width)
            i, j = centre[task][edge], neighbour[task][edge]
            gate, core = (own[i, 0] + own[j, 1] + weight[task] @ edges.features[task][edge]).chunk(
                2
            )
            message = torch.sigmoid(gate) * torch.nn.functional.silu(core)
            expected[task][i] += share[task][edge] * message
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    # the last node has no edge
    assert (found[..., -1, :] == 0).all()


@pytest.mark.parametrize("lead", [(), (2,)])
def test_first_and_second_derivatives_of_messages_are_those_of_differences(lead):
    edges, normal = random_edges(lead, 4, 5, 2)
    inputs = (normal(*lead, 4, 8).requires_grad_(), normal(*lead, 4, 2).requires_grad_())
    assert torch.autograd.gradcheck(edges.messages, inputs)
    assert torch.autograd.gradgradcheck(edges.messages, inputs)


def test_second_derivatives_reach_the_weights(crystals, network):
    data = GraphBatches(crystals).batch(np.arange(5))
    small = CrystalNetwork(1, width=8, layers=2)
    weights = list(small.parameters())
    first = torch.autograd.grad(small(data).square().sum(), weights, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
    assert all(torch.isfinite(g).all() for g in second)
    assert sum(g.abs().sum() for g in second) > 0


def test_element_features_are_complete_and_standardised():
    features = element_features()
    assert features.shape == (95, len(feature_names()))
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[1:].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(features[1:].std(0), 1, atol=1e-5)
    electronegativity = features[:, feature_names().index("electronegativity")]
    assert electronegativity.argmax() == Element("F").Z
    # iron: [Ar] 3d6 4s2
    raw = features[26, feature_names().index("valence_d")]
    column = features[1:, feature_names().index("valence_d")]
    assert (column < raw).sum() > (column > raw).sum()


def test_reads_labels_and_leaves_gaps(crystals, targets):
    data = GraphBatches(crystals, targets).batch([0, 5])
    np.testing.assert_array_equal(data.target.numpy(), targets[[0, 5]])
    assert np.isnan(targets).any()


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5])
def test_pretraining_of_very_few_steps_has_a_schedule(crystals, targets, epochs):
    from matml.properties.networks.pretrain import Pretraining, pretrain

    torch.manual_seed(0)
    network = CrystalNetwork(targets.shape[1], width=16, layers=2)
    own = Pretraining(weights=(1.0,) * targets.shape[1], epochs=epochs, batch_size=8)
    before = [weight.detach().clone() for weight in network.parameters()]
    pretrain(network, GraphBatches(crystals, targets), range(8), own)
    assert all(torch.isfinite(weight).all() for weight in network.parameters())
    assert any((a != b).any() for a, b in zip(before, network.parameters(), strict=True))
