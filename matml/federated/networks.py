"""A network that laboratories train together: each takes a few steps on its own crystals.

Federated averaging (McMahan et al. 2017, arXiv:1602.05629) with AdamW in the laboratories. Its
moments are averaged as the weights are, so that few steps of many laboratories follow the path of
the pooled data; a laboratory keeps nothing from round to round, and a round that is done again
gives the same bits. Variants that the study compares are settings: moments begun anew every round,
and first-order Per-FedAvg (Fallah et al. 2020, arXiv:2002.07948), whose tasks are families.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from matml.properties.data.batches import GraphBatches
from matml.properties.networks.pretrain import mean_absolute_error

FIRST, SECOND, EPSILON = 0.9, 0.999, 1e-8
"""Decay of AdamW's moments, and what keeps its divisor from zero."""
TASKS = 2
"""Families in a step of Per-FedAvg."""


@dataclass(frozen=True)
class Rounds:
    """How laboratories train together.

    Parameters
    ----------
    rounds, local_steps, batch_size
        In each round a laboratory takes so many steps on so many of its crystals each.
    learning_rate
        Peak; it rises over the first fifth of all rounds and falls to zero along half a cosine, as
        what makes laboratories drift apart is local steps times rate.
    weight_decay
        Of matrices (AdamW).
    moments
        Average AdamW's moments, too, which makes files three times as large.
    largest_update
        Norm that a laboratory's change of the weights is clipped to.
    inner_rate
        Of the step that Per-FedAvg looks ahead along; 0: plain averaging.
    seed
        Of the initial weights and of the laboratories' draws.
    """

    rounds: int = 100
    local_steps: int = 4
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    moments: bool = True
    largest_update: float = math.inf
    inner_rate: float = 0.0
    seed: int = 0

    def rate(self, place: float) -> float:
        """Return the learning rate at a number of rounds."""
        rising = self.rounds / 5
        if place < rising:
            return self.learning_rate * place / rising
        return self.learning_rate * (1 + math.cos(math.pi * (place / rising - 1) / 4)) / 2


@dataclass(frozen=True)
class State:
    """What all laboratories begin a round from, as vectors over all weights.

    Attributes
    ----------
    round
        Rounds done.
    weights, first, second
        Weights, and AdamW's moments of gradients and of their squares.
    """

    round: int
    weights: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, network: nn.Module) -> "State":
        """Return the state before the first round."""
        weights = parameters_to_vector(network.parameters()).detach().clone()
        zero = torch.zeros_like(weights)
        return cls(0, weights, zero, zero)


@dataclass(frozen=True)
class Update:
    """What a laboratory answers: its weights and moments after its steps, and its crystals."""

    crystals: int
    weights: Tensor
    first: Tensor
    second: Tensor


def local_update(
    network: nn.Module,
    state: State,
    batches: GraphBatches,
    families: Mapping[str, np.ndarray],
    settings: Rounds,
    laboratory: str,
) -> Update:
    """Return what a laboratory makes of a round's state; its draws follow from name and round.

    Parameters
    ----------
    network
        Any of the architecture; its weights are overwritten.
    families
        Rows of the laboratory's crystals in `batches`, which has one target, by family.
    """
    weights, first, second = (t.clone() for t in (state.weights, state.first, state.second))
    if not settings.moments:
        first, second = torch.zeros_like(first), torch.zeros_like(second)
    parameters = list(network.parameters())
    decayed = torch.cat([torch.full((p.numel(),), float(p.ndim > 1)) for p in parameters])
    generator = np.random.default_rng([settings.seed, state.round, crc32(laboratory.encode())])
    rows = np.concatenate(list(families.values()))
    done = state.round * settings.local_steps if settings.moments else 0
    network.train()
    for number, own in enumerate(_draws(generator, rows, settings)):
        if settings.inner_rate:
            tasks = _family_tasks(generator, families, settings.batch_size // TASKS)
            gradient = torch.stack(
                [_ahead(network, weights, batches, *task, settings.inner_rate) for task in tasks]
            ).mean(0)
        else:
            gradient = _gradient(network, weights, batches, own)
        gradient *= min(1.0, 1.0 / max(gradient.norm().item(), 1e-12))
        first.lerp_(gradient, 1 - FIRST)
        second.lerp_(gradient.square(), 1 - SECOND)
        step = done + number + 1
        root = (second / (1 - SECOND**step)).sqrt_().add_(EPSILON)
        change = first / (1 - FIRST**step) / root + settings.weight_decay * decayed * weights
        weights -= settings.rate(state.round + number / settings.local_steps) * change
    moved = weights - state.weights
    clipped = min(1.0, settings.largest_update / max(moved.norm().item(), 1e-12))
    return Update(len(rows), state.weights + clipped * moved, first, second)


def average(state: State, updates: Sequence[Update]) -> State:
    """Return the state of the next round: means weighted by the laboratories' crystals."""
    shares = torch.tensor([float(update.crystals) for update in updates])
    shares /= shares.sum()

    def mean(name: str) -> Tensor:
        # in the order given, so that the same files give the same bits
        return sum(  # type: ignore[no-any-return]
            share * getattr(update, name) for share, update in zip(shares, updates, strict=True)
        )

    return State(state.round + 1, mean("weights"), mean("first"), mean("second"))


def train_together(
    network: nn.Module,
    batches: GraphBatches,
    laboratories: Mapping[str, Mapping[str, np.ndarray]],
    settings: Rounds,
) -> State:
    """Train `network` in place as all rounds would, in one process; returns the last state."""
    state = State.of(network)
    while state.round < settings.rounds:
        updates = [
            local_update(network, state, batches, families, settings, name)
            for name, families in sorted(laboratories.items())
        ]
        state = average(state, updates)
    vector_to_parameters(state.weights.clone(), network.parameters())
    network.eval()
    return state


def _draws(generator: np.random.Generator, rows: np.ndarray, settings: Rounds) -> list[np.ndarray]:
    """Return the rows of each local step: none twice before all were drawn."""
    wanted = settings.local_steps * settings.batch_size
    passes = [generator.permutation(rows) for _ in range(-(-wanted // len(rows)))]
    return np.split(np.concatenate(passes)[:wanted], settings.local_steps)


def _family_tasks(
    generator: np.random.Generator, families: Mapping[str, np.ndarray], size: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return supports and queries of some families, drawn by their numbers of crystals."""
    large = [rows for rows in families.values() if len(rows) > 1]
    counts = np.array([len(rows) for rows in large], float)
    tasks = []
    for pick in generator.choice(len(large), TASKS, p=counts / counts.sum()):
        order = generator.permutation(large[pick])[:size]
        tasks.append((order[: len(order) // 2], order[len(order) // 2 :]))
    return tasks


def _gradient(
    network: nn.Module, weights: Tensor, batches: GraphBatches, rows: np.ndarray
) -> Tensor:
    """Return the gradient of the mean absolute error on some crystals at some weights."""
    vector_to_parameters(weights, network.parameters())
    data = batches.batch(rows)
    loss = mean_absolute_error(network(data), data.target, torch.ones(1))
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])


def _ahead(
    network: nn.Module,
    weights: Tensor,
    batches: GraphBatches,
    support: np.ndarray,
    query: np.ndarray,
    rate: float,
) -> Tensor:
    """Return the gradient on a query at the weights after one step on its support."""
    adapted = weights - rate * _gradient(network, weights, batches, support)
    return _gradient(network, adapted, batches, query)
