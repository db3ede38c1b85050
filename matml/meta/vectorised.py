"""Many tasks at once, each with its own weights: the same steps, fewer and larger operations.

Small networks on small supports are bound by the cost of starting operations, not by arithmetic.
Here `vmap`, or a module of `matml.meta.layers` by itself, runs the forward pass of all tasks
together; derivatives are then taken by autograd of the sum over tasks, outside of `vmap`, to any
order. (Taken inside, `torch.func.grad` of a `vmap` of gradients, meta-gradients through LayerNorm
and BatchNorm are silently wrong in torch 2.13.) Memory is that of all tasks that are stacked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from matml.meta.inner.closed_form import GaussianHead
from matml.meta.inner.gradient import (
    Diverged,
    GradientSteps,
)
from matml.meta.inner.head import (
    FeatureModel,
    HeadOnFeatures,
    HeadSteps,
)
from matml.meta.layers import refuse_batch_statistics, takes_stacked_weights
from matml.meta.outer import MAML, Outer, added_if_finite, with_steps
from matml.meta.tasks import BoundModel, InnerLoop, Loss, Parameters, gradients_of

Stacked: TypeAlias = dict[str, Tensor]
"""Data of several tasks: tensors of equal shapes, stacked along a leading task dimension."""

Rebuild: TypeAlias = Callable[[Stacked], Any]
"""Turns the tensors of one task into the data that the learner's loss takes."""


@dataclass(frozen=True)
class Stacking:
    """How data of several tasks become tensors with a leading task dimension, and back.

    Parameters
    ----------
    stack
        From the data of several tasks (all supports, or all queries) to stacked tensors.
    rebuild
        From the tensors of one task to data that the loss takes.
    at_once
        Tasks that are adapted together at most, which bounds the memory; by default all of a
        meta-batch.
    """

    stack: Callable[[Sequence[Any]], Stacked]
    rebuild: Rebuild
    at_once: int | None = None

    def __post_init__(self) -> None:
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once = {self.at_once}: must be at least 1, or None for all tasks")


def _stack_tensors(data: Sequence[Sequence[Tensor]]) -> Stacked:
    return {str(i): torch.stack(parts) for i, parts in enumerate(zip(*data, strict=True))}


TENSORS = Stacking(_stack_tensors, lambda stacked: tuple(stacked.values()))
"""For data that are tuples of tensors, of equal shapes in all tasks."""


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
        parts = [task[name].movedim(-1, 0) for task in tasks]
        padded = pad_sequence(parts, batch_first=True, padding_value=fill.get(name, 0))
        stacked[name] = padded.movedim(1, -1)
    return stacked


def repeat_weights(weights: Parameters, tasks: int) -> Parameters:
    """Return the weights repeated for each task, [tasks, ...]; derivatives reach the originals."""
    return {n: w.expand(tasks, *w.shape).clone() for n, w in weights.items()}


def _of_each_task(module: nn.Module, function: Callable) -> Callable:
    """Return the function of stacked tensors that does to each task what `function` does to one."""
    if takes_stacked_weights(module):
        return function
    # dropout, or a loss that draws: anew for each task
    return torch.func.vmap(function, randomness="different")


def losses_of_many(
    module: nn.Module, loss: Loss, weights: Parameters, data: Stacked, rebuild: Rebuild
) -> Tensor:
    """Return each task's loss with its own weights, [tasks]; differentiable.

    Where the module takes stacked weights (`matml.meta.layers`), `loss` is given the data of all
    tasks at once and must return one value per task.
    """

    def own(own_weights: Parameters, own_data: Stacked) -> Tensor:
        return loss(BoundModel(module, own_weights), rebuild(own_data))

    values = _of_each_task(module, own)(weights, data)
    tasks = len(next(iter(data.values())))
    if values.shape != (tasks,):
        raise ValueError(
            f"the loss of {tasks} stacked tasks has shape {list(values.shape)}: where the module "
            "is `stackable` it must return one value per task, for instance by `.mean((-2, -1))`"
        )
    return values


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
    leaves = {name: weights[name].detach().requires_grad_() for name in names}
    values = losses_of_many(module, loss, {**weights, **leaves}, supports, rebuild)
    _refuse_infinite(values, "support loss", "; lower the inner learning rate")
    gradients = gradients_of(values.sum(), list(leaves.values()))
    found = dict(zip(names, gradients, strict=True))
    return found, values.detach()


def _refuse_infinite(values: Tensor, kind: str, remedy: str = "") -> None:
    """Refuse losses [tasks] of which one is not finite, naming the first such task."""
    if not values.isfinite().all():
        number = int((~values.isfinite()).nonzero()[0])
        value = values[number].item()
        raise Diverged(f"task {number} of {len(values)}: {kind} {value}{remedy}")


def adapt_many(
    inner: InnerLoop,
    module: nn.Module,
    loss: Loss,
    supports: Stacked,
    rebuild: Rebuild,
    *,
    start: Parameters | None = None,
    differentiable: bool = False,
) -> Parameters:
    """Return the weights that `inner.adapt` gives for each task, stacked, [tasks, ...].

    Raises
    ------
    TypeError
        Where the inner loop takes no gradient steps.
    ValueError
        Where the inner loop has a BatchNorm policy: its statistics are kept task by task.
    """
    refuse_batch_statistics(module)
    inner = with_steps("adapt_many", inner)
    if inner.batch_norm is not None:
        raise ValueError("a BatchNorm policy needs tasks one by one: use `inner.adapt`")
    tasks = len(next(iter(supports.values())))
    start = dict(module.named_parameters()) if start is None else start
    with torch.enable_grad():
        weights = _descend(inner, module, loss, supports, rebuild, start, tasks, differentiable)
    return weights if differentiable else {n: w.detach() for n, w in weights.items()}


def call_many(module: nn.Module, weights: Parameters, inputs: Stacked, rebuild: Rebuild) -> Tensor:
    """Return the module's output for each task with its own weights, [tasks, ...]."""

    def call(own: Parameters, data: Stacked) -> Tensor:
        return BoundModel(module, own)(rebuild(data))

    with torch.no_grad():
        return _of_each_task(module, call)(weights, inputs)


def query_losses_of_many(
    module: nn.Module,
    loss: Loss,
    inner: InnerLoop,
    outer: Outer,
    supports: Stacked,
    queries: Stacked,
    rebuild: Rebuild,
) -> Tensor:
    """Return the query loss of each task after adaptation, [tasks], differentiable as `outer` says.

    Equals `outer.query_loss` task by task.

    Raises
    ------
    TypeError
        For a rule or an inner loop that takes tasks one by one only.
    """
    refuse_batch_statistics(module)
    if not isinstance(outer, MAML) or outer.step_weights is not None:
        raise TypeError(f"{outer!r} takes tasks one by one")
    if isinstance(inner, GaussianHead):

        def one(support: Stacked, query: Stacked) -> Tensor:
            data, exact = rebuild(support), outer.second_order
            return loss(inner.adapt(module, loss, data, differentiable=exact), rebuild(query))

        return torch.func.vmap(one, randomness="different")(supports, queries)
    if not isinstance(inner, GradientSteps) or inner.batch_norm is not None:
        raise TypeError(f"{type(inner).__name__} takes tasks one by one")
    tasks = len(next(iter(supports.values())))
    start: Parameters = dict(module.named_parameters())
    weights = _descend(inner, module, loss, supports, rebuild, start, tasks, outer.second_order)
    return losses_of_many(module, loss, weights, queries, rebuild)


def accumulate_meta_gradient_many(
    module: nn.Module,
    loss: Loss,
    inner: InnerLoop,
    outer: Outer,
    supports: Stacked,
    queries: Stacked,
    rebuild: Rebuild,
    *,
    mean: bool = True,
) -> list[float]:
    """Add the mean meta-gradient over stacked tasks to `.grad`; returns each query loss.

    Equals `accumulate_meta_gradient` on the same tasks; parameters as of `query_losses_of_many`,
    and `mean`: False for the sum over tasks.

    Raises
    ------
    Diverged
        Where an inner loop or a query loss is not finite; tells the task's number.
    """
    values = query_losses_of_many(module, loss, inner, outer, supports, queries, rebuild)
    _refuse_infinite(values, "query loss")
    with added_if_finite(module, inner):
        (values.mean() if mean else values.sum()).backward()
    return values.detach().tolist()


def _descend(
    inner: GradientSteps,
    module: nn.Module,
    loss: Loss,
    supports: Stacked,
    rebuild: Rebuild,
    start: Parameters,
    tasks: int,
    differentiable: bool,
) -> Parameters:
    """Return the stacked weights after all inner steps."""
    weights = repeat_weights(start, tasks)
    evaluate = _support_losses(inner, module, loss, supports, rebuild, weights, differentiable)
    for moved in inner.descend(evaluate, weights, differentiable, inner.steps):
        weights = moved
    return weights


def _support_losses(
    inner: GradientSteps,
    module: nn.Module,
    loss: Loss,
    supports: Stacked,
    rebuild: Rebuild,
    start: Parameters,
    differentiable: bool,
) -> Callable[[Parameters, int], Tensor]:
    """Return the function from stacked weights to support losses, [tasks]."""
    if not isinstance(inner, HeadSteps):
        return lambda weights, step: losses_of_many(module, loss, weights, supports, rebuild)

    def features(own: Parameters, data: Stacked) -> tuple[Tensor, ...]:
        model = FeatureModel(module, inner.head, own)
        loss(model, rebuild(data))
        return tuple(model.features)

    def on_features(own: Parameters, kept: tuple[Tensor, ...], data: Stacked) -> Tensor:
        return loss(HeadOnFeatures(module, inner.head, own, list(kept)), rebuild(data))

    of_each = partial(_of_each_task, module)
    with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
        kept = of_each(features)(start, supports)
    names = inner.names

    def evaluate(weights: Parameters, step: int) -> Tensor:
        heads = {name: weights[name] for name in names}
        return of_each(on_features)(heads, kept, supports)

    return evaluate
