"""The crystal-graph network: symmetry-reduced graphs in, one standardised value a property out.

Nodes are crystallographic orbits, weighted by their multiplicity in the read-out; edges are shells
of equal distance, weighted by their neighbours' weights. A network that sees distances only gives
symmetry-equivalent atoms equal features, so this equals the network on the full graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from matml.meta.layers import LayerNorm, Linear
from matml.properties.data.batches import CrystalBatch
from matml.properties.data.element_features import atomic_radii, element_features
from matml.properties.networks.segment import Edges, PlainEdges, Rows, flat


class ShellConvolution(nn.Module):
    """Gated message passing over shells, with a residual connection.

    The gate and filter of a crystal-graph convolution (Xie and Grossman 2018,
    10.1103/PhysRevLett.120.145301, eq. 5) act on [x_i, x_j, e_ij]; here nodes are projected first
    and gathered after, the same sum at a fraction of the cost. Messages are averaged over the
    neighbours of an atom, by weights that fade out with distance.
    """

    def __init__(self, width: int, edge_width: int) -> None:
        super().__init__()
        self.ends = Linear(width, 4 * width)
        self.edge = Linear(edge_width, 2 * width, bias=False)
        self.norm_in = LayerNorm(width)
        self.mix = Linear(width, width)

    def forward(self, x: Tensor, edges: Edges | PlainEdges) -> Tensor:
        """Return updated node features, [nodes, width], from those before."""
        return x + self.mix(edges.messages(self.ends(self.norm_in(x)), self.edge.weight))


@dataclass(frozen=True)
class Graph:
    """What a network needs of a batch before any weight comes in.

    Attributes
    ----------
    edges
        Their features are Gaussians of distances and of distances over radii sums; their weights
        the edge's share among its centre's neighbours.
    crystal
        Crystal of each node; weights are the orbit's share among the crystal's atoms.
    """

    edges: Edges | PlainEdges
    crystal: Rows

    @classmethod
    def of(cls, data: Mapping[str, Tensor], features: Tensor, *, plain: bool = False) -> "Graph":
        """Return the graph of a batch and the features of its edges.

        Parameters
        ----------
        plain
            By torch's own operations, as `vmap` needs.
        """
        nodes, crystals = data["atomic_number"].shape[-1], data["volume_per_atom"].shape[-1]
        neighbour, centre = data["edge_index"].unbind(-2)
        weight = data["edge_weight"]
        edges: Edges | PlainEdges = (
            PlainEdges(features, Rows(centre, weight), Rows(neighbour, weight))
            if plain
            else Edges.of(features, centre, neighbour, weight, nodes)
        )
        return cls(edges, Rows(flat(data["batch"], crystals), data["node_weight"]))


class CrystalNetwork(nn.Module):
    """Predicts standardised properties of crystals.

    Parameters
    ----------
    properties
        Number of outputs.
    distance_features
        Gaussians on the distance and on its ratio to the sum of the atoms' radii, each.
    longest_distance
        Centre of the last Gaussian, in angstrom.
    dropout
        Dropout before the read-out's last layer, in training mode.

    Notes
    -----
    Normalisation is LayerNorm: no running statistics that adaptation could spoil. Batches of
    several tasks may be stacked along a leading dimension, together with weights of each task.
    """

    stackable = True
    element_features: Tensor
    radius: Tensor
    distances: Tensor
    ratios: Tensor

    def __init__(
        self,
        properties: int,
        *,
        width: int = 64,
        layers: int = 3,
        distance_features: int = 24,
        longest_distance: float = 7.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        features = torch.from_numpy(element_features())
        self.register_buffer("element_features", features, persistent=False)
        radius = torch.from_numpy(atomic_radii().astype(np.float32))
        self.register_buffer("radius", radius, persistent=False)
        for name, first, last in (("distances", 1.0, longest_distance), ("ratios", 0.5, 2.5)):
            self.register_buffer(
                name, torch.linspace(first, last, distance_features), persistent=False
            )
        self.embed = nn.Sequential(Linear(features.shape[1], width), nn.SiLU())
        self.embed_out = Linear(width, width)
        self.convolutions = nn.ModuleList(
            ShellConvolution(width, 2 * distance_features) for _ in range(layers)
        )
        self.pool_norm = LayerNorm(2 * width + 1)
        self.trunk = nn.Sequential(Linear(2 * width + 1, width), nn.SiLU(), nn.Dropout(dropout))
        self.head = Linear(width, properties)

    def edge_features(self, data: Mapping[str, Tensor]) -> Tensor:
        """Return Gaussians of edges' distances, and of these over radii sums, [..., edges, f]."""
        radii = self.radius[data["atomic_number"]]
        neighbour, centre = data["edge_index"].unbind(-2)
        distance = data["edge_distance"][..., None]
        ratio = distance / (radii.gather(-1, neighbour) + radii.gather(-1, centre))[..., None]
        return torch.cat([_gaussians(distance, self.distances), _gaussians(ratio, self.ratios)], -1)

    def prepare(self, data: Mapping[str, Tensor]) -> Graph:
        """Return what the network needs of a batch before any weight comes in.

        Parameters
        ----------
        data
            As `embedding` takes it; its tensors may have a leading dimension, of tasks.
        """
        return Graph.of(data, self.edge_features(data))

    def embedding(self, data: CrystalBatch) -> Tensor:
        """Return one vector per crystal, [crystals, width], independent of the cell's size.

        Parameters
        ----------
        data
            A batch with `atomic_number` [nodes], `node_weight` [nodes] (share of the orbit among
            the crystal's atoms), `batch` [nodes] (crystal of each node), `edge_index` [2, edges]
            (neighbour, centre), `edge_distance` [edges] in angstrom, `edge_weight` [edges] (share
            of the shell among the centre's neighbours), `volume_per_atom` [crystals] in cubic
            angstrom; optionally `graph`, what `prepare` gave.
        """
        # in mixed precision layers give less precise numbers, which add up in full precision
        x = self._embed(data.atomic_number).to(data.volume_per_atom.dtype)
        graph = data.graph if "graph" in data else self.prepare(data)
        for convolution in self.convolutions:
            x = convolution(x, graph.edges)
        crystals = data.volume_per_atom.shape[-1]
        mean = graph.crystal.sum(x, crystals)
        # the spread over sites tells apart crystals whose mean site is the same
        spread = graph.crystal.sum((x - graph.crystal.take(mean)).square(), crystals)
        volume = data.volume_per_atom.log()[..., None]
        pooled = torch.cat([mean, (spread + 1e-6).sqrt(), volume], -1)
        return self.trunk(self.pool_norm(pooled))

    def _embed(self, atomic_number: Tensor) -> Tensor:
        """Return the first features of nodes, [nodes, width], of [nodes] numbers."""
        features = self.element_features
        if self.embed_out.weight.dim() == 2 and atomic_number.shape[-1] > len(features):
            # each element once, and not each node
            table = self.embed_out(self.embed(features))
            rows = table.index_select(0, atomic_number.flatten())
            return rows.view(*atomic_number.shape, -1)
        return self.embed_out(self.embed(features[atomic_number]))

    def forward(self, data: CrystalBatch) -> Tensor:
        """Return standardised values, [crystals, properties]."""
        return self.head(self.embedding(data))


def _gaussians(values: Tensor, centres: Tensor) -> Tensor:
    """Return Gaussians of `values` [..., 1] about evenly spaced centres, [..., centres]."""
    width = centres[1] - centres[0]
    # beyond 8 widths all is the same 1e-14: smaller ones end in subnormal numbers, which slow
    # matrix products twenty times
    return torch.exp(-0.5 * ((values - centres) / width).square().clamp(max=64.0))
