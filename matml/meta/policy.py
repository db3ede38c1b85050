"""Policy gradients as a loss, so that the inner loops and outer rules of `matml.meta` take them.

Data are what a policy did: observations, actions and advantages of one task, or stacked over tasks.
The policy is a module that returns mean and logarithmic standard deviation of normal actions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from matml.core.parallel import heartbeat
from matml.meta.inner.gradient import Diverged, GradientSteps
from matml.meta.outer import MAML
from matml.meta.tasks import Parameters
from matml.meta.vectorised import (
    TENSORS,
    Stacked,
    accumulate_meta_gradient_many,
    adapt_many,
    gradients_of_many,
    repeat_weights,
)

RIDGE = 1e-5
"""Of the baseline's regression."""
LATER = 0.5
"""Part of the first inner step's rate for later ones, as in the appendix of the MAML paper."""


class World(Protocol):
    """Tasks, in which paths are walked."""

    def __len__(self) -> int:
        """Return the number of tasks."""

    def walk(
        self, policy: nn.Module, weights: Parameters, generator: torch.Generator
    ) -> tuple[Stacked, Tensor]:
        """Let each task's own weights [tasks, ...] act; return what they did, and mean returns.

        What they did is that of `stacked_paths`.
        """


def log_probability(
    model: Callable[[Tensor], Any], observations: Tensor, actions: Tensor
) -> Tensor:
    """Return the logarithm of the density of actions [..., n, a] under a policy, [..., n]."""
    mean, log_spread = model(observations)
    scaled = (actions - mean) * torch.exp(-log_spread)
    return (-0.5 * scaled.square() - log_spread - 0.5 * math.log(2 * math.pi)).sum(-1)


def policy_loss(model: Callable[[Tensor], Any], data: Sequence[Tensor]) -> Tensor:
    """Return minus the surrogate return of (observations, actions, advantages), [...].

    Its gradient is that of REINFORCE. Written with the ratio exp(log p - log p held constant), its
    second derivative has the term by which a policy changes what it will meet, too (Foerster et
    al. 2018, arXiv:1802.05098; per step as Rothfuss et al. 2019, arXiv:1810.06784, section 4): the
    derivative of log p alone is right to first order only.
    """
    observations, actions, advantages = data
    log_p = log_probability(model, observations, actions)
    return -(torch.exp(log_p - log_p.detach()) * advantages).mean(-1)


def advantages_of(
    observations: Tensor, rewards: Tensor, alive: Tensor, discount: float = 0.99
) -> Tensor:
    """Return normalised advantages over a linear baseline of each task, [tasks, paths, steps].

    The baseline is a ridge regression of the discounted returns on observations, their squares
    and powers of time (Duan et al. 2016, arXiv:1604.06778, appendix).

    Parameters
    ----------
    observations, rewards
        [tasks, paths, steps, o] and [tasks, paths, steps].
    alive
        Whether a path had not ended before a step; what comes after counts nothing.
    """
    steps = rewards.shape[-1]
    returns, ahead = torch.empty_like(rewards), torch.zeros_like(rewards[..., 0])
    for step in reversed(range(steps)):
        ahead = rewards[..., step] + discount * ahead
        returns[..., step] = ahead
    time = torch.linspace(0, 1, steps, dtype=rewards.dtype, device=rewards.device)
    powers = torch.stack([time**power for power in range(4)], -1)
    features = torch.cat(
        [observations, observations.square(), powers.expand(*rewards.shape, 4)], -1
    )
    seen = alive.to(rewards.dtype)
    # squares of places far off and powers of time are too unlike for single precision
    rows = (features * seen[..., None]).flatten(1, 2).double()
    values = (returns * seen).flatten(1, 2).double()
    gram = rows.mT @ rows
    gram.diagonal(dim1=-2, dim2=-1).add_(RIDGE)
    weights = torch.linalg.solve(gram, rows.mT @ values[..., None]).to(features.dtype)
    above = (returns - (features @ weights[:, None])[..., 0]) * seen
    count = seen.sum((1, 2), keepdim=True)
    mean = above.sum((1, 2), keepdim=True) / count
    spread = ((above - mean).square() * seen).sum((1, 2), keepdim=True).div(count).sqrt()
    return (above - mean) / (spread + 1e-8) * seen


def stacked_paths(
    seen: list[Tensor],
    actions: list[Tensor],
    rewards: list[Tensor],
    alive: list[Tensor],
    discount: float = 0.99,
) -> tuple[Stacked, Tensor]:
    """Return the data of `policy_loss` of all tasks, and each one's mean return over paths.

    Each is a list over steps of [tasks, paths, ...].
    """
    observations, done, paid, on = (torch.stack(x, 2) for x in (seen, actions, rewards, alive))
    gained = advantages_of(observations, paid, on, discount)
    data = observations.flatten(1, 2), done.flatten(1, 2), gained.flatten(1, 2)
    return {str(i): part for i, part in enumerate(data)}, paid.sum(2).mean(1)


def weights_of_each(policy: nn.Module, tasks: int) -> Parameters:
    """Return a policy's weights, once for each task, as constants."""
    weights = repeat_weights(dict(policy.named_parameters()), tasks)
    return {name: weight.detach() for name, weight in weights.items()}


def train_policy(
    policy: nn.Module,
    draw: Callable[[torch.Generator], World],
    generator: torch.Generator,
    *,
    rate: float | None,
    second_order: bool,
    batches: int,
    learning_rate: float,
    title: str,
) -> None:
    """Train a policy over drawn tasks, by MAML with one inner step or in the ordinary way.

    Parameters
    ----------
    rate
        Of the inner step; None for the ordinary way.
    learning_rate
        Of Adam, at the start of half a cosine.
    """
    inner = GradientSteps(policy, steps=int(rate is not None), learning_rate=rate or 1.0)
    rule = MAML(second_order=second_order)
    optimiser = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, batches)
    told = {"batch": 0, "return": math.nan}
    with heartbeat(
        lambda: f"{title}: batch {told['batch']} of {batches}, return {told['return']:.3g}"
    ):
        for batch in range(batches):
            world = draw(generator)
            start = weights_of_each(policy, len(world))
            supports, _ = world.walk(policy, start, generator)
            adapted = adapt_many(inner, policy, policy_loss, supports, TENSORS.rebuild)
            queries, gained = world.walk(policy, adapted, generator)
            optimiser.zero_grad()
            accumulate_meta_gradient_many(
                policy, policy_loss, inner, rule, supports, queries, TENSORS.rebuild
            )
            optimiser.step()
            schedule.step()
            told |= {"batch": batch + 1, "return": gained.mean().item()}


def returns_by_steps(
    policy: nn.Module, world: World, steps: int, generator: torch.Generator, rate: float
) -> Tensor:
    """Return the mean returns after 0, 1, …, `steps` policy-gradient steps, [steps + 1, tasks]."""
    weights = weights_of_each(policy, len(world))
    found = []
    for step in range(steps + 1):
        data, gained = world.walk(policy, weights, generator)
        found.append(gained)
        names, own = list(weights), rate * (LATER if step else 1)
        slope, _ = gradients_of_many(policy, policy_loss, weights, data, TENSORS.rebuild, names)
        weights = {name: weights[name] - own * slope[name] for name in names}
    return torch.stack(found)


def best_rate(
    policy: nn.Module, world: World, steps: int, seed: int, rates: Sequence[float]
) -> float:
    """Return the step size with the highest returns after any of the steps."""

    def gained(rate: float) -> float:
        generator = torch.Generator().manual_seed(seed)
        try:
            found = returns_by_steps(policy, world, steps, generator, rate)
        except Diverged:
            return -math.inf
        return float(found[1:].mean())

    return max(rates, key=gained)
