"""How one member of the ensemble predicts a family's query from its support."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch_geometric.data import Data

from matml.gp.residual import ResidualGP, learn_residual_gp
from matml.meta import GradientSteps, Parameters
from matml.meta.vectorised import (
    Stacked,
    adapt_many,
    call_many,
    gradients_of_many,
    losses_of_many,
    repeat_weights,
    stack_padded,
)
from matml.properties.networks.crystal_network import CrystalNetwork, Graph
from matml.properties.networks.ensemble import Member
from matml.properties.networks.metatrain import FamilyTasks, episode_loss
from matml.properties.networks.pretrain import embed, predict
from matml.properties.networks.segment import Rows


def learn_residual_gps(
    network: CrystalNetwork,
    tasks: FamilyTasks,
    properties: int,
    *,
    per_family: int = 6,
    seed: int = 0,
) -> dict[int, ResidualGP]:
    """Return one residual model per property, learned on families that the network has not seen.

    Parameters
    ----------
    tasks
        (family, property) pairs of the member's own fold.
    """
    generator = np.random.default_rng(seed)
    models = {}
    for column in range(properties):
        rows, episodes, start = [], [], 0
        for _, task_column, members in tasks.members:
            if task_column != column:
                continue
            for draw in range(per_family):
                k = min(tasks.shots[draw % len(tasks.shots)], len(members) // 2)
                order = generator.permutation(len(members)) + start
                episodes.append((order[:k], order[k : k + tasks.most_queries]))
            rows.append(members)
            start += len(members)
        if not rows:
            continue
        rows = np.concatenate(rows)
        output = predict(network, tasks.batches, rows)[:, column]
        residuals = tasks.batches.targets[rows, column] - output
        models[column] = learn_residual_gp(embed(network, tasks.batches, rows), residuals, episodes)
    return models


def residual_gp_correction(
    member: Member,
    column: int,
    support: np.ndarray,
    residuals: np.ndarray,
    query: np.ndarray,
) -> np.ndarray:
    """Return what the Gaussian process on support residuals adds to the query's predictions, [m].

    Parameters
    ----------
    support, query
        Embeddings, [k, width] and [m, width].
    residuals
        Standardised labels less the network's predictions, [k].
    """
    if column not in member.residual_gp or len(residuals) == 0:
        return np.zeros(len(query))
    return member.residual_gp[column].correct(support, residuals, query)[0]


def meta_learned_weights(member: Member, method: str, supports: Sequence[Data]) -> Parameters:
    """Return the weights of a meta-trained network after its inner loop on each support.

    Parameters
    ----------
    supports
        Labelled batches of the same number of crystals and the same property, from
        `metatrain.episode_batch`.

    Returns
    -------
    dict
        Weights with a leading dimension of the supports, [tasks, ...].
    """
    network, inner = member.meta_trained[method]
    stacked, rebuild = stack_batches(supports, network), rebuild_batch(supports[0].column)
    return adapt_many(inner, network, episode_loss, stacked, rebuild)


def fine_tuned_weights(
    network: CrystalNetwork,
    supports: Sequence[Data],
    *,
    learning_rate: float,
    checkpoints: Sequence[int],
    start: Parameters | None = None,
) -> dict[int, Parameters]:
    """Return the weights after each number of Adam steps on each support, [tasks, ...].

    What a user would do with a pre-trained network; all weights move. Adam acts entry by entry, so
    stacked weights go the way that each would go alone.

    Parameters
    ----------
    start
        Weights to start from, [tasks, ...]; the network's own by default.
    """
    stacked, rebuild = stack_batches(supports, network), rebuild_batch(supports[0].column)
    weights = _stacked_start(network, len(supports), start)
    optimizer = torch.optim.Adam(weights.values(), lr=learning_rate, foreach=False, fused=True)
    found = {}
    for step in range(1, max(checkpoints) + 1):
        gradients, _ = gradients_of_many(
            network, episode_loss, weights, stacked, rebuild, list(weights)
        )
        for name, weight in weights.items():
            # the fused step goes through memory in the order of the weight
            weight.grad = gradients[name].contiguous()
        optimizer.step()
        if step in checkpoints:
            found[step] = {name: weight.detach().clone() for name, weight in weights.items()}
    return found


def gradient_step_weights(
    network: CrystalNetwork,
    inner: GradientSteps,
    supports: Sequence[Data],
    *,
    checkpoints: Sequence[int],
    start: Parameters | None = None,
) -> dict[int, Parameters]:
    """Return the weights after each number of an inner loop's steps on each support, [tasks, ...].

    The counterpart of `fine_tuned_weights`; the loop is run on beyond its own number of steps
    where that is asked for.

    Parameters
    ----------
    start
        Weights to start from, [tasks, ...]; the network's own by default.
    """
    stacked, rebuild = stack_batches(supports, network), rebuild_batch(supports[0].column)
    weights = _stacked_start(network, len(supports), start)
    found = {}
    # the loop takes its own gradients; nothing beyond them is kept of a step
    with torch.no_grad():
        steps = inner.descend(
            lambda own, step: losses_of_many(network, episode_loss, own, stacked, rebuild),
            weights,
            False,
            max(checkpoints),
        )
        for step, moved in enumerate(steps, start=1):
            if step in checkpoints:
                found[step] = {name: weight.detach() for name, weight in moved.items()}
    return found


def predict_many(
    network: CrystalNetwork, weights: Parameters, queries: Sequence[Data], column: int
) -> list[np.ndarray]:
    """Return standardised predictions of one property, with the weights of each task.

    Parameters
    ----------
    weights
        [tasks, ...].
    queries
        One batch per task, of any number of crystals.
    """
    output = call_many(network, weights, stack_batches(queries, network), rebuild_batch(column))
    output = output[:, :, column].cpu().numpy()
    return [row[: len(query.volume_per_atom)] for row, query in zip(output, queries, strict=True)]


def _stacked_start(network: CrystalNetwork, tasks: int, start: Parameters | None) -> Parameters:
    """Return copies of the weights to start from, [tasks, ...]."""
    if start is None:
        own = {name: weight.detach() for name, weight in network.named_parameters()}
        return repeat_weights(own, tasks)
    return {name: weight.detach().clone() for name, weight in start.items()}


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
ROWS = ("centre", "neighbour", "crystal")
# padding nodes and edges have no weight; what else they hold must only be finite
FILL = {"atomic_number": 1, "edge_distance": 3.0, "volume_per_atom": 10.0}


def stack_batches(batches: Sequence[Data], network: CrystalNetwork) -> Stacked:
    """Return the tensors of several batches, padded and stacked.

    What the network prepares of a graph before any weight comes in is made here, once and not in
    every step of an inner loop; what is of it has a point in its name.
    """
    fields = [name for name in FIELDS if name in batches[0]]
    stacked = stack_padded([{name: data[name] for name in fields} for data in batches], FILL)
    graph = network.prepare(stacked)
    stacked["graph.edge_features"] = graph.edge_features
    # where they are too many for matrices, their numbers do
    if graph.incidence is not None:
        stacked["graph.incidence"] = graph.incidence
    for name in ROWS:
        rows = getattr(graph, name)
        if rows.ones is not None:
            stacked[f"{name}.ones"], stacked[f"{name}.weighted"] = rows.ones, rows.weighted
    return stacked


def rebuild_batch(column: int) -> Callable[[Stacked], Data]:
    """Return the function from the tensors of one task, or of stacked tasks, to a batch."""

    def rebuild(tensors: Stacked) -> Data:
        plain = {name: tensor for name, tensor in tensors.items() if "." not in name}
        neighbour, centre = plain["edge_index"].unbind(-2)
        nodes, crystals = (plain[n].shape[-1] for n in ("atomic_number", "volume_per_atom"))
        things = {
            "centre": (centre, plain["edge_weight"], nodes),
            "neighbour": (neighbour, plain["edge_weight"], nodes),
            "crystal": (plain["batch"], plain["node_weight"], crystals),
        }
        rows = [
            Rows(*things[name], *(tensors.get(f"{name}.{part}") for part in ("ones", "weighted")))
            for name in ROWS
        ]
        graph = Graph(tensors["graph.edge_features"], *rows, tensors.get("graph.incidence"))
        return Data(**plain, graph=graph, column=column)

    return rebuild
