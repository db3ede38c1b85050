"""How one member of the ensemble predicts a family's query from its support."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch_geometric.data import Data

from matml.meta import BoundModel, Parameters
from matml.properties.gp import ResidualGP, learn_residual_gp
from matml.properties.members import Member
from matml.properties.metatrain import FamilyTasks, episode_loss
from matml.properties.network import CrystalNetwork
from matml.properties.pretrain import embed, predict


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


def meta_learned_weights(member: Member, method: str, support: Data | None) -> Parameters:
    """Return the weights of a meta-trained network after its inner loop on the support."""
    network, inner = member.meta_trained[method]
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    if support is None:
        return weights
    for weight in weights.values():
        weight.requires_grad_()
    adapted = inner.adapt(network, episode_loss, support, start=weights)
    return {name: weight.detach() for name, weight in adapted.items()}


def fine_tuned_weights(
    network: CrystalNetwork,
    support: Data,
    *,
    learning_rate: float,
    checkpoints: Sequence[int],
) -> dict[int, Parameters]:
    """Return the weights after each number of Adam steps on the support.

    What a user would do with a pre-trained network; all weights move.
    """
    tuned = copy.deepcopy(network).eval()
    optimizer = torch.optim.Adam(tuned.parameters(), lr=learning_rate, fused=True)
    found = {}
    for step in range(1, max(checkpoints) + 1):
        optimizer.zero_grad()
        episode_loss(tuned, support).backward()
        optimizer.step()
        if step in checkpoints:
            found[step] = {n: w.detach().clone() for n, w in tuned.named_parameters()}
    return found


def predict_with(
    network: CrystalNetwork, weights: Parameters, data: Data, column: int
) -> np.ndarray:
    """Return standardised predictions of one property with other weights, [crystals]."""
    with torch.no_grad():
        return BoundModel(network, weights)(data)[:, column].cpu().numpy()


def fine_tuning_name(learning_rate: float, steps: int) -> str:
    """Return the name of a variant of fine-tuning, as in tables of predictions."""
    return f"fine_tuned rate={learning_rate:g} steps={steps}"


def fine_tuning_settings(name: str) -> tuple[float, int]:
    """Return learning rate and steps of a variant's name."""
    _, rate, steps = name.split(" ")
    return float(rate.removeprefix("rate=")), int(steps.removeprefix("steps="))
