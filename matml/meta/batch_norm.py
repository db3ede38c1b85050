"""Which statistics a BatchNorm layer uses while a task is adapted to, and on its query.

LayerNorm, GroupNorm and RMSNorm have no running statistics and need none of this. For BatchNorm a
task has two passes to decide about: the support passes of the inner loop, and the query pass after
it. A policy answers both; none of them ever writes into the module, so that nothing leaks from a
query to its support or from one task to the next.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from matml.meta.layers import batch_norms
from matml.meta.tasks import BoundModel, Parameters

Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""Mean and variance [channels] of each BatchNorm layer, by the layer's name."""


@contextmanager
def normalised_with(module: nn.Module, given: Statistics | None) -> Iterator[Statistics]:
    """Let every BatchNorm layer of `module` use given statistics, or else those of its batch.

    Parameters
    ----------
    given
        Statistics per layer; None for the batch's own.

    Yields
    ------
    dict
        Filled by each call of the module: statistics of what the layers saw, differentiable.
    """
    seen: Statistics = {}

    def hook(name: str):
        def replace(layer: _BatchNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            (x,) = inputs
            if name in seen:
                raise ValueError(
                    f"BatchNorm layer {name!r} is called twice in one evaluation, with statistics "
                    "that differ: use one layer per call where a policy treats it"
                )
            over = [0, *range(2, x.dim())]
            if given is None:
                mean, variance = x.mean(over), x.var(over, unbiased=False)
            else:
                mean, variance = given[name]
            seen[name] = (mean, variance)
            shape = [1, -1] + [1] * (x.dim() - 2)
            y = (x - mean.view(shape)) * (variance.view(shape) + layer.eps).rsqrt()
            if layer.weight is not None:
                y = y * layer.weight.view(shape) + layer.bias.view(shape)
            return y

        return replace

    handles, modes = [], []
    for name, layer in batch_norms(module).items():
        # in evaluation mode the layer's own result, thrown away, updates no running statistics
        # and takes batches of one
        modes.append((layer, layer.training))
        layer.training = layer.running_mean is None
        handles.append(layer.register_forward_hook(hook(name)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
        for layer, training in modes:
            layer.training = training


def _running(module: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return running mean and variance of each BatchNorm layer; a layer without is refused."""
    found = []
    for name, layer in batch_norms(module).items():
        if layer.running_mean is None or layer.running_var is None:
            raise ValueError(
                f"BatchNorm layer {name!r} tracks no running statistics: take TaskStatistics or "
                "Transductive"
            )
        found.append((layer.running_mean, layer.running_var))
    return found


class NormalisedModel(BoundModel):
    """A bound module whose BatchNorm layers use given statistics, whatever its mode says.

    Parameters
    ----------
    statistics
        Per layer; None for those of the batch.
    observe
        Called after each evaluation with what the layers saw.
    """

    def __init__(
        self,
        module: nn.Module,
        parameters: Parameters,
        statistics: Statistics | None,
        observe: Callable[[Statistics], None],
    ) -> None:
        super().__init__(module, parameters)
        self.statistics, self.observe = statistics, observe

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Evaluate the module with the bound weights, buffers and statistics."""
        with normalised_with(self.module, self.statistics) as seen:
            output = super().__call__(*inputs, **options)
        self.observe(seen)
        return output


class BatchNormPolicy(nn.Module):
    """What statistics BatchNorm layers use on support and query; base and common verbs.

    Subclasses answer two questions, each with statistics per layer, or None for those of the batch
    that is being normalised.
    """

    def on_support(self, step: int) -> Statistics | None:
        """Return the statistics for the support pass of inner step `step` (from 0)."""
        raise NotImplementedError

    def on_query(self, step: int, support: Statistics | None) -> Statistics | None:
        """Return the statistics for the query after `step` steps.

        Parameters
        ----------
        support
            Statistics of the support under the adapted weights, where `needs_support`.
        """
        raise NotImplementedError

    needs_support = False

    def learn(self, step: int, seen: Statistics) -> None:
        """Take note of what the layers saw in a training pass at a step; by default nothing."""

    def support_model(self, module: nn.Module, weights: Parameters, step: int) -> BoundModel:
        """Return the module as it is called on the support in inner step `step` (from 0)."""
        return NormalisedModel(
            module, weights, self.on_support(step), lambda seen: self.learn(step, seen)
        )

    def query_model(
        self,
        module: nn.Module,
        weights: Parameters,
        step: int,
        pass_support: Callable[[BoundModel], object],
        learn: bool,
    ) -> BoundModel:
        """Return the module as it is called on the query after `step` steps.

        Parameters
        ----------
        pass_support
            Runs a model over the support, where the support's statistics are needed.
        learn
            Whether to take note of what the layers see on the query.
        """
        support: Statistics = {}
        if self.needs_support:
            pass_support(NormalisedModel(module, weights, None, support.update))

        def observe(seen: Statistics) -> None:
            if learn:
                self.learn(step, seen)

        return NormalisedModel(module, weights, self.on_query(step, support), observe)


class FrozenStatistics(BatchNormPolicy):
    """Running statistics of the pre-trained module, for support and query alike."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = list(batch_norms(module))
        for number, (mean, variance) in enumerate(_running(module)):
            self.register_buffer(f"mean_{number}", mean.clone())
            self.register_buffer(f"variance_{number}", variance.clone())

    def _all(self) -> Statistics:
        return {
            name: (getattr(self, f"mean_{number}"), getattr(self, f"variance_{number}"))
            for number, name in enumerate(self.names)
        }

    def on_support(self, step: int) -> Statistics:
        """Return the running statistics."""
        return self._all()

    def on_query(self, step: int, support: Statistics | None) -> Statistics:
        """Return the running statistics."""
        return self._all()


class Transductive(BatchNormPolicy):
    """Each batch its own statistics, the query too: a prediction depends on the whole query."""

    def on_support(self, step: int) -> None:
        """Return None: the support's own."""

    def on_query(self, step: int, support: Statistics | None) -> None:
        """Return None: the query's own."""


class TaskStatistics(BatchNormPolicy):
    """The support's statistics for the support and, under the adapted weights, for the query.

    Inductive: one query point's prediction does not depend on the others. The statistics are
    differentiated through.
    """

    needs_support = True

    def on_support(self, step: int) -> None:
        """Return None: the support's own."""

    def on_query(self, step: int, support: Statistics | None) -> Statistics | None:
        """Return the statistics of the support."""
        return support


class StepStatistics(BatchNormPolicy):
    """Running statistics of each inner step (MAML++, Antoniou et al. 2019, arXiv:1810.09502, 2.4).

    While the policy is in training mode, batches are normalised with their own statistics and the
    running ones of the step follow: of the support at steps 0, 1, ..., of training queries after
    the last step. In evaluation mode the running ones are used and never change, so that nothing
    of a new task's query reaches its support.

    Parameters
    ----------
    module
        Its running statistics are the start at every step.
    momentum
        Weight of the newest batch.
    """

    def __init__(self, module: nn.Module, steps: int, momentum: float = 0.1) -> None:
        super().__init__()
        self.names, self.momentum, self.steps = list(batch_norms(module)), momentum, steps
        for number, (mean, variance) in enumerate(_running(module)):
            self.register_buffer(f"mean_{number}", mean.repeat(steps + 1, 1))
            self.register_buffer(f"variance_{number}", variance.repeat(steps + 1, 1))

    def _at(self, step: int) -> Statistics | None:
        if step > self.steps:
            raise ValueError(
                f"StepStatistics was made for {self.steps} inner steps and is asked for step "
                f"{step}: give it the inner loop's number of steps"
            )
        if self.training:
            return None
        return {
            # clones: a later update must not change what a graph has kept
            name: (
                getattr(self, f"mean_{number}")[step].clone(),
                getattr(self, f"variance_{number}")[step].clone(),
            )
            for number, name in enumerate(self.names)
        }

    def on_support(self, step: int) -> Statistics | None:
        """Return the step's running statistics, in training mode the support's own."""
        return self._at(step)

    def on_query(self, step: int, support: Statistics | None) -> Statistics | None:
        """Return the last step's running statistics, in training mode the query's own."""
        return self._at(step)

    @torch.no_grad()
    def learn(self, step: int, seen: Statistics) -> None:
        """Let the running statistics of a step follow, in training mode."""
        if not self.training:
            return
        for number, name in enumerate(self.names):
            for kind, value in zip(("mean", "variance"), seen[name], strict=True):
                row = getattr(self, f"{kind}_{number}")[step]
                row.lerp_(value.detach(), self.momentum)
