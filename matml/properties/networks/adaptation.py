"""How one member of the ensemble predicts a family's query from its support."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from matml.gp.residual import ResidualGP, learn_residual_gp
from matml.meta import InnerLoop, Parameters
from matml.meta.outer import with_steps
from matml.meta.vectorised import (
    Stacked,
    adapt_many,
    call_many,
    gradients_of_many,
    losses_of_many,
    repeat_weights,
)
from matml.properties.data.batches import CrystalBatch
from matml.properties.networks.crystal_network import CrystalNetwork
from matml.properties.networks.ensemble import Member
from matml.properties.networks.episodes import episode_loss, rebuild_batch, stack_batches
from matml.properties.networks.metatrain import FamilyTasks
from matml.properties.networks.pretrain import embed, predict


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
        chosen = np.concatenate(rows)
        output = predict(network, tasks.batches, chosen)[:, column]
        residuals = tasks.batches.labels(chosen)[:, column] - output
        models[column] = learn_residual_gp(
            embed(network, tasks.batches, chosen), residuals, episodes
        )
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


def meta_learned_weights(
    member: Member, method: str, supports: Sequence[CrystalBatch]
) -> Parameters:
    """Return the weights of a meta-trained network after its inner loop on each support.

    Parameters
    ----------
    supports
        Labelled batches of the same number of crystals and the same property, from
        `episodes.episode_batch`.

    Returns
    -------
    dict
        Weights with a leading dimension of the supports, [tasks, ...].
    """
    network, inner = member.meta_trained[method]
    stacked, rebuild = _prepared(supports, network)
    return adapt_many(inner, network, episode_loss, stacked, rebuild)


def fine_tuned_weights(
    network: CrystalNetwork,
    supports: Sequence[CrystalBatch],
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
    stacked, rebuild = _prepared(supports, network)
    weights = _stacked_start(network, len(supports), start)
    optimizer = torch.optim.Adam(weights.values(), lr=learning_rate, foreach=False, fused=True)
    found = {}
    for step in range(1, max(checkpoints) + 1):
        gradients, _ = gradients_of_many(
            network, episode_loss, weights, stacked, rebuild, list(weights)
        )
        for name, weight in weights.items():
            weight.grad = gradients[name]
        optimizer.step()
        if step in checkpoints:
            found[step] = {name: weight.detach().clone() for name, weight in weights.items()}
    return found


def gradient_step_weights(
    network: CrystalNetwork,
    inner: InnerLoop,
    supports: Sequence[CrystalBatch],
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
    stacked, rebuild = _prepared(supports, network)
    weights = _stacked_start(network, len(supports), start)
    found = {}
    # the loop takes its own gradients; nothing beyond them is kept of a step
    with torch.no_grad():
        steps = with_steps("gradient_step_weights", inner).descend(
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
    network: CrystalNetwork, weights: Parameters, queries: Sequence[CrystalBatch], column: int
) -> list[np.ndarray]:
    """Return standardised predictions of one property, with the weights of each task.

    Parameters
    ----------
    weights
        [tasks, ...].
    queries
        One batch per task, of any number of crystals.
    """
    output = call_many(network, weights, *_prepared(queries, network))[:, :, column]
    return [
        row[: len(query.volume_per_atom)]
        for row, query in zip(output.cpu().numpy(), queries, strict=True)
    ]


def _prepared(
    batches: Sequence[CrystalBatch], network: CrystalNetwork
) -> tuple[Stacked, Callable[[Stacked], CrystalBatch]]:
    """Return stacked tensors, and their graph, which is made once for all steps."""
    stacked = stack_batches(batches, network)
    data = rebuild_batch(stacked)
    return stacked, lambda _: data


def _stacked_start(network: CrystalNetwork, tasks: int, start: Parameters | None) -> Parameters:
    """Return copies of the weights to start from, [tasks, ...]."""
    if start is None:
        own = {name: weight.detach() for name, weight in network.named_parameters()}
        return repeat_weights(own, tasks)
    return {name: weight.detach().clone() for name, weight in start.items()}
