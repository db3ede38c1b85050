"""Many tasks adapted at once, each with its own weights (first order, for evaluation).

Small networks on small supports are bound by the cost of starting operations, not by arithmetic;
`vmap` over tasks starts each operation once for all of them. `vmap` is outermost, the order in
which normalisation layers are differentiated correctly.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from matml.meta.inner import Diverged, GradientSteps
from matml.meta.tasks import BoundModel, Loss, Parameters

Stacked: TypeAlias = dict[str, Tensor]
"""Data of several tasks: tensors of equal shapes, stacked along a leading task dimension."""

Rebuild: TypeAlias = Callable[[Stacked], Any]
"""Turns the tensors of one task into the data that the learner's loss takes."""


def stack_padded(tasks: Sequence[dict[str, Tensor]], fill: dict[str, float]) -> Stacked:
    """Stack tensors of several tasks, padded at the end of their last dimension.

    Parameters
    ----------
    tasks
        The same names in each; sizes may differ in the last dimension.
    fill
        Value of the padding per name, 0 by default; it must not change the learner's output.
    """
    stacked = {}
    for name in tasks[0]:
        longest = max(task[name].shape[-1] for task in tasks)
        stacked[name] = torch.stack(
            [
                nn.functional.pad(
                    task[name], (0, longest - task[name].shape[-1]), value=fill.get(name, 0)
                )
                for task in tasks
            ]
        )
    return stacked


def repeat_weights(weights: Parameters, tasks: int) -> Parameters:
    """Return copies of the weights for each task, [tasks, ...]."""
    return {n: w.detach().expand(tasks, *w.shape).clone() for n, w in weights.items()}


def gradients_of_many(
    module: nn.Module,
    loss: Loss,
    weights: Parameters,
    supports: Stacked,
    rebuild: Rebuild,
    names: Sequence[str],
) -> tuple[Parameters, Tensor]:
    """Return the gradient of each task's loss, and the losses, [tasks].

    Parameters
    ----------
    weights
        [tasks, ...] each.
    names
        Weights with respect to which the loss is differentiated.

    Raises
    ------
    Diverged
        Where a loss is not finite.
    """

    def task_loss(adapted: Parameters, fixed: Parameters, support: Stacked) -> Tensor:
        return loss(BoundModel(module, {**fixed, **adapted}), rebuild(support))

    adapted = {name: weights[name] for name in names}
    fixed = {name: weight for name, weight in weights.items() if name not in adapted}
    gradient = torch.func.vmap(torch.func.grad_and_value(task_loss))
    gradients, values = gradient(adapted, fixed, supports)
    if not values.isfinite().all():
        number = int((~values.isfinite()).nonzero()[0])
        raise Diverged(
            f"task {number} of {len(values)}: support loss {values[number].item()}; "
            "lower the inner learning rate"
        )
    return gradients, values


def adapt_many(
    inner: GradientSteps,
    module: nn.Module,
    loss: Loss,
    supports: Stacked,
    rebuild: Rebuild,
    *,
    start: Parameters | None = None,
) -> Parameters:
    """Return what `inner.adapt` gives for each task, stacked, [tasks, ...]."""
    tasks = len(next(iter(supports.values())))
    start = dict(module.named_parameters()) if start is None else start
    weights = repeat_weights(start, tasks)
    for _ in range(inner.steps):
        gradients, _ = gradients_of_many(module, loss, weights, supports, rebuild, inner.names)
        squares = [gradients[name].flatten(1).square().sum(1) for name in inner.names]
        norm = (torch.stack(squares).sum(0) + 1e-24).sqrt()
        scale = torch.clamp(inner.largest_gradient / norm, max=1.0)
        for name, rate in zip(inner.names, inner.rates(), strict=True):
            gradient = gradients[name]
            share = scale.reshape(-1, *[1] * (gradient.ndim - 1))
            weights[name] = weights[name] - rate.detach() * share * gradient
    return weights


def call_many(module: nn.Module, weights: Parameters, inputs: Stacked, rebuild: Rebuild) -> Tensor:
    """Return the module's output for each task with its own weights, [tasks, ...]."""

    def call(own: Parameters, data: Stacked) -> Tensor:
        return BoundModel(module, own)(rebuild(data))

    with torch.no_grad():
        return torch.func.vmap(call)(weights, inputs)
