"""Taking rows by number, summing rows by number, and the gated messages between them.

Data of several tasks may be stacked along a leading dimension; then rows are numbered through all
tasks, so that one operation serves them all. Sums run through things in the order of their rows,
which the `embedding_bag` of torch does many times faster than `index_add`; torch does not
differentiate it, so that the derivatives of messages, first and second, are written down here.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional


def flat(index: Tensor, size: int) -> Tensor:
    """Return row numbers [m], or [tasks, m] of `size` rows each, numbered through: [tasks m]."""
    if index.dim() == 1:
        return index
    first = torch.arange(0, len(index) * size, size, device=index.device)
    return (index + first[:, None]).flatten()


def by_row(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return an order of things in which their rows ascend, and where each row's things start.

    Parameters
    ----------
    index
        Row of each thing, [m].
    """
    counts = torch.bincount(index, minlength=size)
    if (index[1:] >= index[:-1]).all():
        order = torch.arange(len(index), device=index.device)
    elif index.device.type == "cpu":
        # numpy sorts short integers by counting, four times faster
        keys = index.numpy().astype(np.int16 if size < 2**15 else np.int64)
        order = torch.from_numpy(keys.argsort(kind="stable"))
    else:
        order = index.argsort(stable=True)
    return order, counts.cumsum(0) - counts


@dataclass(frozen=True)
class Rows:
    """Which row each of m things belongs to, and its weight in sums.

    Attributes
    ----------
    index
        Row of each thing, numbered through all tasks, [m] or [tasks m].
    weight
        Of each thing, [..., m].
    """

    index: Tensor
    weight: Tensor

    def take(self, rows: Tensor) -> Tensor:
        """Return the row of each thing, [..., m, width], from all rows, [..., size, width]."""
        width = rows.shape[-1]
        return rows.reshape(-1, width).index_select(0, self.index).view(*self.weight.shape, width)

    def sum(self, things: Tensor, size: int) -> Tensor:
        """Return weighted sums of each row's things, [..., size, width], from [..., m, width]."""
        lead, width = things.shape[:-2], things.shape[-1]
        total = things.new_zeros(lead.numel() * size, width)
        weighted = (things * self.weight[..., None]).view(-1, width)
        return total.index_add(0, self.index, weighted).view(*lead, size, width)


@dataclass(frozen=True)
class Edges:
    """Edges of a graph, M in all tasks together, for messages to N nodes.

    Each node has four rows: what it brings to gate and core as an edge's centre, and as neighbour.

    Attributes
    ----------
    features
        [..., edges, features].
    ends
        Rows that add up for the gate of each edge, then those for its core, [2 M, 2].
    order, starts
        Gates and cores in the order of the rows that they come from, [4 M]; [4 N].
    centre, weight
        Node that an edge's message goes to, and the message's share there, [M].
    centre_order, centre_starts
        Edges in the order of their centres, [M]; [N].
    """

    features: Tensor
    ends: Tensor
    order: Tensor
    starts: Tensor
    centre: Tensor
    weight: Tensor
    centre_order: Tensor
    centre_starts: Tensor

    @classmethod
    def of(
        cls, features: Tensor, centre: Tensor, neighbour: Tensor, weight: Tensor, nodes: int
    ) -> "Edges":
        """Return the edges, from ends and weights [..., edges] of graphs of `nodes` nodes each."""
        rows = features.shape[:-2].numel() * nodes
        centre, neighbour, weight = flat(centre, nodes), flat(neighbour, nodes), weight.flatten()
        gates = torch.stack([4 * centre, 4 * neighbour + 2], 1)
        ends = torch.cat([gates, gates + 1])
        order, starts = by_row(ends.flatten(), 4 * rows)
        centre_order, centre_starts = by_row(centre, rows)
        return cls(features, ends, order // 2, starts, centre, weight, centre_order, centre_starts)

    def project(self, ends: Tensor, weight: Tensor) -> Tensor:
        """Return gates' and cores' inputs, [2, ..., edges, width].

        Parameters
        ----------
        ends
            What nodes bring, [..., nodes, 4 width].
        weight
            Of the edges' features, [..., 2 width, features].
        """
        width = weight.shape[-2] // 2
        parts = functional.embedding_bag(self.ends, ends.reshape(-1, width), mode="sum")
        parts = parts.view(2, *self.features.shape[:-1], width)
        for part, own in zip(parts, weight.split(width, -2), strict=True):
            if part.dim() == 2:
                part.addmm_(self.features, own.mT)
            else:
                part.baddbmm_(self.features, own.mT)
        return parts

    def collect(self, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the transpose of `project`: derivatives of `ends` and `weight` from `parts`'."""
        width = parts.shape[-1]
        ends = functional.embedding_bag(
            self.order, parts.view(-1, width), self.starts, mode="sum"
        ).view(*parts.shape[1:-2], -1, 4 * width)
        return ends, torch.cat([part.mT @ self.features for part in parts], -2)

    def sum(self, messages: Tensor) -> Tensor:
        """Return each centre's weighted sum, [..., nodes, width], from [..., edges, width]."""
        width = messages.shape[-1]
        return functional.embedding_bag(
            self.centre_order,
            messages.view(-1, width),
            self.centre_starts,
            mode="sum",
            per_sample_weights=self.weight[self.centre_order],
        ).view(*messages.shape[:-2], -1, width)

    def messages(self, ends: Tensor, weight: Tensor) -> Tensor:
        """Return what comes to each node, [..., nodes, width]; differentiable twice.

        The weighted sum over a node's edges of sigmoid(gate) silu(core), with gates and cores as
        `project` makes them.
        """
        edges, kind = self, ends.dtype
        if kind != self.features.dtype:
            # of layers in mixed precision
            edges = replace(self, features=self.features.to(kind), weight=self.weight.to(kind))
        # a weight that all tasks share serves stacked ones too
        weight = weight.to(kind).expand(*self.features.shape[:-2], -1, -1)
        return _Messages.apply(ends, weight, edges)

    def take(self, nodes: Tensor) -> Tensor:
        """Return the transpose of `sum`: [..., edges, width] from [..., nodes, width]."""
        width = nodes.shape[-1]
        own = nodes.reshape(-1, width).index_select(0, self.centre).mul_(self.weight[:, None])
        return own.view(*self.features.shape[:-1], width)


@dataclass(frozen=True)
class PlainEdges:
    """Edges of one task whose messages take torch's own operations, of any order and in `vmap`.

    Attributes
    ----------
    features
        [edges, features].
    centre, neighbour
        Nodes at the ends of each edge; the centre's weights are the messages' shares.
    """

    features: Tensor
    centre: Rows
    neighbour: Rows

    def messages(self, ends: Tensor, weight: Tensor) -> Tensor:
        """Return what comes to each node, as `Edges.messages` does."""
        by_centre, by_neighbour = ends.chunk(2, -1)
        parts = self.centre.take(by_centre) + self.neighbour.take(by_neighbour)
        gate, core = (parts + self.features @ weight.mT).chunk(2, -1)
        return self.centre.sum(torch.sigmoid(gate) * functional.silu(core), ends.shape[-2])


class _Messages(Function):
    """What `Edges.messages` returns."""

    @staticmethod
    def forward(ctx: Any, ends: Tensor, weight: Tensor, edges: Edges) -> Tensor:
        gate, core = edges.project(ends, weight)
        gate, filtered = gate.sigmoid_(), functional.silu(core)
        ctx.edges = edges
        ctx.save_for_backward(ends, weight, gate, core, filtered)
        return edges.sum(gate * filtered)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        return *_Gradients.apply(gradient, *ctx.saved_tensors, ctx.edges), None


class _Gradients(Function):
    """Derivatives of messages with respect to `ends` and `weight`."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        ends: Tensor,
        weight: Tensor,
        gate: Tensor,
        core: Tensor,
        filtered: Tensor,
        edges: Edges,
    ) -> tuple[Tensor, Tensor]:
        own = edges.take(gradient)
        parts = own.new_empty(2, *own.shape)
        by_gate, by_core = parts
        torch.mul(own, filtered, out=by_gate)
        torch.ops.aten.sigmoid_backward.grad_input(by_gate, gate, grad_input=by_gate)
        torch.mul(own, gate, out=by_core)
        torch.ops.aten.silu_backward.grad_input(by_core, core, grad_input=by_core)
        ctx.edges = edges
        ctx.save_for_backward(own, gate, core, filtered)
        return edges.collect(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_ends: Tensor, to_weight: Tensor) -> tuple[Tensor | None, ...]:
        # both gradients are linear in `own`: their product with (to_ends, to_weight) is
        # own . (derivative of the message along the inputs that these two project to)
        own, gate, core, filtered = ctx.saved_tensors
        along_gate, along_core = ctx.edges.project(to_ends, to_weight)
        # derivatives of s = sigmoid(gate input) and of u = silu(core input), t its sigmoid
        s1 = gate * (1 - gate)
        s2 = s1 * (1 - 2 * gate)
        t = core.sigmoid()
        u1 = t + filtered * (1 - t)
        u2 = t * (1 - t) * (2 + core * (1 - 2 * t))
        by_own = s1 * filtered * along_gate + gate * u1 * along_core
        parts = torch.stack(
            [
                own * (s2 * filtered * along_gate + s1 * u1 * along_core),
                own * (s1 * u1 * along_gate + gate * u2 * along_core),
            ]
        )
        return ctx.edges.sum(by_own), *ctx.edges.collect(parts), None, None, None, None
