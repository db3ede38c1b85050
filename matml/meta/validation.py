"""Validation: the error that a learner will have in use, on tasks that it is not trained on."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from matml.meta.inner.gradient import Diverged
from matml.meta.outer import TaskDiverged
from matml.meta.tasks import Loss, Task

log = logging.getLogger(__name__)

MOST_NAMES = 5
"""Unsound tasks that are named; the rest is counted."""


@contextmanager
def as_in_use(module: nn.Module, inner: nn.Module) -> Iterator[None]:
    """Let dropout do nothing, and the statistics of inner steps be used and not updated."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]
    modes = [(layer, layer.training) for layer in [*layers, inner]]
    for layer, _ in modes:
        layer.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.train(training)


def validation_losses(
    module: nn.Module, loss: Loss, inner: nn.Module, tasks: Sequence[Task]
) -> list[float]:
    """Return the query loss of each task after adaptation; infinite where it is not finite."""
    found = []
    with as_in_use(module, inner):
        for task in tasks:
            try:
                model = inner.adapt(module, loss, task.support)
                with torch.no_grad():
                    value = loss(model, task.query).item()
            except Diverged as error:
                log.warning("validation task %r: %s", task.name, error)
                value = math.inf
            found.append(value if math.isfinite(value) else math.inf)
    return found


def sound_tasks(
    module: nn.Module, loss: Loss, inner: nn.Module, tasks: Sequence[Task], first: bool
) -> list[Task]:
    """Return the validation tasks that the starting point can be judged on.

    Raises
    ------
    TaskDiverged
        Where there is none.
    """
    losses = validation_losses(module, loss, inner, tasks)
    bad = [task.name for task, value in zip(tasks, losses, strict=True) if math.isinf(value)]
    if bad and len(bad) == len(tasks):
        raise TaskDiverged(
            f"validation task {bad[0]!r} and all others have no finite loss at the start: check "
            "their labels and the inner learning rate"
        )
    if bad and first:
        log.warning(
            "%d of %d validation tasks have no finite loss at the start and are left out: %s",
            len(bad),
            len(tasks),
            ", ".join(map(repr, bad[:MOST_NAMES])),
        )
    return [task for task, value in zip(tasks, losses, strict=True) if math.isfinite(value)]
