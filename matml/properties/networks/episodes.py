"""Few-shot episodes as batches: one property's labels, the loss, and several tasks as one stack."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from matml.meta import Stacking
from matml.meta.vectorised import Stacked, stack_padded
from matml.properties.data.batches import CrystalBatch, GraphBatches
from matml.properties.networks.crystal_network import CrystalNetwork, Graph

FIELDS = (
    "atomic_number",
    "node_weight",
    "batch",
    "edge_index",
    "edge_distance",
    "edge_weight",
    "volume_per_atom",
    "label",
)
# padding nodes and edges have no weight; what else they hold must only be finite
FILL = {"atomic_number": 1, "edge_distance": 3.0, "volume_per_atom": 10.0}


def episode_batch(
    batches: GraphBatches, rows: Sequence[int] | np.ndarray, column: int
) -> CrystalBatch:
    """Return the batch of some crystals, labelled with one property."""
    data = batches.batch(np.asarray(rows, dtype=int))
    data.column = column
    data.label = data.target[:, column]
    return data


def episode_loss(model: Callable[..., Tensor], data: CrystalBatch) -> Tensor:
    """Return the Huber loss of one property of a batch of one family, or of each of several.

    Quadratic below half a standard deviation, so that the inner loop has a curvature to use, and
    robust above. `data.column` says which output is the property's; `data.label` holds its
    standardised values [crystals], in stacks `data.label_share` each one's share in the mean.
    """
    output, column = model(data), data.column
    if isinstance(column, Tensor):
        output = output.gather(-1, column[..., None, None].expand(*output.shape[:-1], 1))[..., 0]
    else:
        output = output[..., column]
    each = functional.huber_loss(output, data.label, reduction="none", delta=0.5)
    return (each * data.label_share).sum(-1) if "label_share" in data else each.mean(-1)


def stack_batches(batches: Sequence[CrystalBatch], network: CrystalNetwork) -> Stacked:
    """Return the tensors of several batches, padded and stacked, [tasks, ...].

    What the network makes of edges before any weight comes in is made here, once and not in every
    step of an inner loop.
    """
    given = [name for name in FIELDS if name in batches[0]]
    tasks = [{name: data[name] for name in given} for data in batches]
    if "label" in given:
        for task in tasks:
            task["label_share"] = torch.full_like(task["label"], 1 / len(task["label"]))
    stacked = stack_padded(tasks, FILL)
    stacked["edge_features"] = network.edge_features(stacked)
    if "column" in batches[0]:
        columns = [int(data.column) for data in batches]
        stacked["column"] = torch.tensor(columns, device=stacked["batch"].device)
    return stacked


def rebuild_batch(stacked: Stacked) -> CrystalBatch:
    """Return the batch of stacked tasks; or of one of them, which is how `vmap` asks for it."""
    fields: dict[str, Any] = dict(stacked)
    features = fields.pop("edge_features")
    graph = Graph.of(stacked, features, plain=features.dim() == 2)
    return CrystalBatch(**fields, graph=graph)


def stacking(network: CrystalNetwork) -> Stacking:
    """Return how episodes of a network are adapted to together, a few at once."""
    return Stacking(lambda batches: stack_batches(batches, network), rebuild_batch, at_once=8)
