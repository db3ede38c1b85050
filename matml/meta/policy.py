"""Policy gradients as a loss, so that the inner loops and outer rules of `matml.meta` take them.

Data are what a policy did: observations, actions and advantages of one task, or stacked over tasks.
The policy is a module that returns mean and logarithmic standard deviation of normal actions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

RIDGE = 1e-5
"""Of the baseline's regression."""


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
