"""Tasks: what is adapted to, and how tasks are drawn.

A *task* is a support set, from which the learner adapts, and a query set, on which the adapted
learner is judged. Both are whatever the learner's loss takes: nothing here looks inside.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Parameters: TypeAlias = dict[str, Tensor]
"""Named (fast) weights of a module."""

Loss: TypeAlias = Callable[[Callable[..., Any], Any], Tensor]
"""`loss(model, data)`: a scalar tensor; `model` is called like the learner's module."""


@dataclass(frozen=True)
class Task:
    """One support set and one query set.

    Parameters
    ----------
    name
        Names the task in messages, for instance "rocksalt / bulk modulus".
    support, query
        Data in the form that the learner's loss takes.
    group
        What must not be split between training and test: a material family, an alloy's composition
        group. None where it does not matter.
    """

    name: str
    support: Any
    query: Any
    group: str | None = None


def gradients_of(value: Tensor, weights: Sequence[Tensor], **options: Any) -> list[Tensor]:
    """Return the derivative with respect to each weight, zero where it plays no part.

    Options are those of `torch.autograd.grad`.
    """
    found = torch.autograd.grad(value, weights, allow_unused=True, **options)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


class BoundModel:
    """A module called with given weights in place of its own.

    The module itself is left as it is. Buffers are bound too, as copies: `functional_call` with
    parameters alone would let BatchNorm write the running statistics of one task into the module
    that all tasks share.

    Parameters
    ----------
    module, parameters
        What is called, and with which weights.
    buffers
        Buffers to bind; the module's by default.

    Attributes
    ----------
    buffers
        This binding's own copies of the module's buffers.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: Parameters,
        buffers: Parameters | None = None,
    ) -> None:
        self.module, self.parameters = module, parameters
        source = dict(module.named_buffers()) if buffers is None else buffers
        self.buffers = {name: buffer.clone() for name, buffer in source.items()}

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Evaluate the module with the bound weights and buffers."""
        weights = {**self.parameters, **self.buffers}
        return torch.func.functional_call(self.module, weights, inputs, options)


class InnerLoop(nn.Module):
    """How a learner adapts; its parameters (rates, a prior) are meta-learned with the module's."""

    def adapt(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
    ) -> Callable[..., Any]:
        """Return what is called in place of the module after adaptation to the support."""
        raise NotImplementedError


def draw_batches(
    draw_task: Callable[[torch.Generator], Task], per_batch: int, seed: int, start: int = 0
) -> Iterator[list[Task]]:
    """Yield meta-batches of tasks without end, reproducibly.

    Batch `i` depends on `seed` and `i` only, so that a resumed run continues with the very tasks
    that an uninterrupted one would have drawn.

    Parameters
    ----------
    draw_task
        Draws one task from a generator.
    seed
        Seed of the whole sequence.
    start
        Number of the first batch to draw.
    """
    number = start
    while True:
        generator = torch.Generator().manual_seed(mix(seed, number))
        yield [draw_task(generator) for _ in range(per_batch)]
        number += 1


def split_support_query(
    items: Sequence[int], shots: int, most_queries: int, generator: torch.Generator
) -> tuple[list[int], list[int]]:
    """Return `shots` items drawn without replacement, and up to `most_queries` of the others.

    Raises
    ------
    ValueError
        Where no item would be left to query.
    """
    if len(items) <= shots:
        raise ValueError(f"{len(items)} items leave no query beside {shots} shots")
    order = torch.randperm(len(items), generator=generator).tolist()
    drawn = [items[i] for i in order]
    return drawn[:shots], drawn[shots : shots + most_queries]


def mix(seed: int, number: int) -> int:
    """Return a seed for item `number`; consecutive numbers give unrelated seeds (splitmix64)."""
    mask = (1 << 64) - 1
    value = (seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xD1B54A32D192ED03) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return (value ^ (value >> 31)) >> 1
