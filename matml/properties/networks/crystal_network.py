"""The crystal-graph network: symmetry-reduced graphs in, one standardised value a property out.

Nodes are crystallographic orbits, weighted by their multiplicity in the read-out; edges are shells
of equal distance, weighted by the number of neighbours in them. A network that sees distances only
gives symmetry-equivalent atoms equal features, so this equals the network on the full graph.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from pymatgen.core import Element
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.data import Data

from matml.meta.layers import LayerNorm, Linear
from matml.properties.data.element_features import LARGEST_ATOMIC_NUMBER, element_features
from matml.properties.networks.segment import Rows


class ShellConvolution(nn.Module):
    """Gated message passing over shells, with a residual connection.

    The gate and filter of a crystal-graph convolution (Xie and Grossman 2018,
    10.1103/PhysRevLett.120.145301, eq. 5) act on [x_i, x_j, e_ij]; here nodes are projected first
    and gathered after, the same sum at a fraction of the cost. Messages are weighted by the
    neighbours' count and averaged over all neighbours of an atom.

    Parameters
    ----------
    width
        Node features.
    edge_width
        Edge features.
    """

    def __init__(self, width: int, edge_width: int) -> None:
        super().__init__()
        self.ends = Linear(width, 4 * width)
        self.edge = Linear(edge_width, 2 * width, bias=False)
        self.norm_in = LayerNorm(width)
        self.mix = Linear(width, width)

    def forward(self, x: Tensor, graph: "Graph") -> Tensor:
        """Return updated node features, [nodes, width], from those before."""
        if graph.ends is not None:
            return x + self.mix(self._messages(x, graph))
        ends = self.ends(self.norm_in(x)).chunk(2, -1)
        if graph.incidence is not None:
            # one product for what the centre, the neighbour and the edge bring
            parts = graph.incidence @ torch.cat([*ends, self.edge.weight.mT], -2)
        else:
            parts = self.edge(graph.edge_features)
            for rows, projected in zip((graph.centre, graph.neighbour), ends, strict=True):
                parts = parts + rows.take(projected)
        gate, core = parts.chunk(2, -1)
        return x + self.mix(graph.centre.sum(torch.sigmoid(gate) * functional.silu(core)))

    def _messages(self, x: Tensor, graph: "Graph") -> Tensor:
        """Return what comes to each node, [nodes, width], by fewer passes, without derivatives."""
        width = x.shape[-1]
        # centre's and neighbour's parts of a node in turn
        ends = self.ends(self.norm_in(x)).view(-1, 2 * width)
        parts = functional.embedding_bag(graph.ends, ends, mode="sum")
        parts += self.edge(graph.edge_features)
        open_gates = torch.sigmoid(parts)
        # silu(core) is core times its sigmoid
        core = parts[:, width:].mul_(open_gates[:, width:]).mul_(open_gates[:, :width])
        return graph.centre.sum(core)


@dataclass(frozen=True)
class Graph:
    """What a network needs of a batch before any weight comes in.

    Attributes
    ----------
    edge_features
        Gaussians of distances and of distances over radii sums, [edges, features].
    centre, neighbour
        Nodes at the ends of each edge; weights are the edge's share among its centre's neighbours.
    crystal
        Crystal of each node; weights are the orbit's share among the crystal's atoms.
    incidence
        For few edges, [edges, 2 nodes + features]: ones at centre and neighbour, edge features.
    ends
        Where no derivative is wanted, twice the centre and twice the neighbour and one, [edges, 2].
    """

    edge_features: Tensor
    centre: Rows
    neighbour: Rows
    crystal: Rows
    incidence: Tensor | None
    ends: Tensor | None = None

    def for_inference(self) -> "Graph":
        """Return the same for networks that run without derivatives, which is faster."""
        if self.edge_features.dim() != 2:
            return self
        ends = torch.stack([2 * self.centre.index, 2 * self.neighbour.index + 1], 1)
        rows = {"centre": self.centre.for_inference(), "crystal": self.crystal.for_inference()}
        return replace(self, ends=ends, **rows)


class CrystalNetwork(nn.Module):
    """Predicts standardised properties of crystals.

    Parameters
    ----------
    properties
        Number of outputs.
    width
        Node features.
    layers
        Convolutions.
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
        radius = torch.tensor(_radii(), dtype=torch.float32)
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

    def prepare(self, data: Data | dict[str, Tensor]) -> Graph:
        """Return what the network needs of a batch before any weight comes in.

        Parameters
        ----------
        data
            As `embedding` takes it; its tensors may have a leading dimension, of tasks.
        """
        radii = self.radius[data["atomic_number"]]
        neighbour, centre = data["edge_index"].unbind(-2)
        distance, weight = data["edge_distance"][..., None], data["edge_weight"]
        ratio = distance / (radii.gather(-1, neighbour) + radii.gather(-1, centre))[..., None]
        features = torch.cat(
            [_gaussians(distance, self.distances), _gaussians(ratio, self.ratios)], -1
        )
        nodes, crystals = radii.shape[-1], data["volume_per_atom"].shape[-1]
        ends = [Rows.of(end, weight, nodes) for end in (centre, neighbour)]
        crystal = Rows.of(data["batch"], data["node_weight"], crystals)
        incidence = None
        if ends[0].ones is not None:
            incidence = torch.cat([*(end.ones for end in ends), features], -1)
        return Graph(features, *ends, crystal, incidence)

    def embedding(self, data: Data) -> Tensor:
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
        x = self.embed_out(self.embed(self.element_features[data.atomic_number]))
        graph = data.graph if "graph" in data else self.prepare(data)
        for convolution in self.convolutions:
            x = convolution(x, graph)
        mean = graph.crystal.sum(x)
        # the spread over sites tells apart crystals whose mean site is the same
        spread = graph.crystal.sum((x - graph.crystal.take(mean)).square())
        volume = data.volume_per_atom.log()[..., None]
        pooled = torch.cat([mean, (spread + 1e-6).sqrt(), volume], -1)
        return self.trunk(self.pool_norm(pooled))

    def forward(self, data: Data) -> Tensor:
        """Return standardised values, [crystals, properties]."""
        return self.head(self.embedding(data))


def _gaussians(values: Tensor, centres: Tensor) -> Tensor:
    """Return Gaussians of `values` [..., 1] about evenly spaced centres, [..., centres]."""
    width = centres[1] - centres[0]
    # beyond 8 widths all is the same 1e-14: smaller ones end in subnormal numbers, which slow
    # matrix products twenty times
    return torch.exp(-0.5 * ((values - centres) / width).square().clamp(max=64.0))


def _radii() -> list[float]:
    """Return pymatgen's atomic radius per atomic number, in angstrom; index 0 is unused.

    Elements without one (the noble gases and some actinides) get the value between those of their
    neighbours in atomic number: it only sets the scale of a distance.
    """
    numbers = np.arange(LARGEST_ATOMIC_NUMBER + 1)
    radii = [np.nan, *(Element.from_Z(z).data.get("Atomic radius") for z in numbers[1:].tolist())]
    known = [z for z in numbers if isinstance(radii[z], int | float) and np.isfinite(radii[z])]
    return np.interp(numbers, known, [float(radii[z]) for z in known]).tolist()
