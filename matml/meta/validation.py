"""Validation: the error that a learner will have in use, on tasks that it is not trained on."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from matml.meta.inner.gradient import Diverged
from matml.meta.outer import MAML, TaskDiverged
from matml.meta.tasks import InnerLoop, Loss, Task
from matml.meta.vectorised import Stacked, Stacking, query_losses_of_many

log = logging.getLogger(__name__)

MOST_NAMES = 5
"""Unsound tasks that are named; the rest is counted."""


@contextmanager
def as_in_use(module: nn.Module, inner: InnerLoop) -> Iterator[None]:
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


@dataclass(frozen=True)
class ValidationTasks:
    """Fixed tasks on which the learner is judged, adapted to together where they can be stacked.

    Attributes
    ----------
    tasks
        In the order of their losses.
    stacking
        How tasks are stacked, and its supports and queries, some tasks each.
    """

    tasks: Sequence[Task]
    stacking: Stacking | None = None
    stacks: Sequence[tuple[Stacked, Stacked]] = ()

    @classmethod
    def of(cls, tasks: Sequence[Task], stacking: Stacking | None = None) -> "ValidationTasks":
        """Return the tasks; one by one without a stacking, or where their shapes differ."""
        if stacking is None or not tasks:
            return cls(tasks)
        most = stacking.at_once or len(tasks)
        parts = [tasks[first : first + most] for first in range(0, len(tasks), most)]
        try:
            stacks = [
                (stacking.stack([t.support for t in part]), stacking.stack([t.query for t in part]))
                for part in parts
            ]
        except RuntimeError:
            return cls(tasks)
        return cls(tasks, stacking, stacks)

    def losses(self, module: nn.Module, loss: Loss, inner: InnerLoop) -> list[float]:
        """Return the query loss of each task after adaptation; infinite where it is not finite."""
        with as_in_use(module, inner):
            found = self._together(module, loss, inner)
            if found is None:
                found = [_loss_of(module, loss, inner, task) for task in self.tasks]
        return [value if math.isfinite(value) else math.inf for value in found]

    def _together(self, module: nn.Module, loss: Loss, inner: InnerLoop) -> list[float] | None:
        """Return the losses of stacked tasks; None where they are to be taken one by one."""
        if self.stacking is None:
            return None
        found: list[float] = []
        try:
            for supports, queries in self.stacks:
                with torch.no_grad():
                    found += query_losses_of_many(
                        module,
                        loss,
                        inner,
                        MAML(second_order=False),
                        supports,
                        queries,
                        self.stacking.rebuild,
                    ).tolist()
        except Diverged:
            # one by one tells which, and keeps the others
            return None
        return found


def _loss_of(module: nn.Module, loss: Loss, inner: InnerLoop, task: Task) -> float:
    """Return a task's query loss after adaptation; infinite where its inner loop diverges."""
    try:
        model = inner.adapt(module, loss, task.support)
        with torch.no_grad():
            return loss(model, task.query).item()
    except Diverged as error:
        log.warning("validation task %r: %s", task.name, error)
        return math.inf


def sound_tasks(
    module: nn.Module, loss: Loss, inner: InnerLoop, validation: ValidationTasks, first: bool
) -> ValidationTasks:
    """Return the validation tasks that the starting point can be judged on.

    Raises
    ------
    TaskDiverged
        Where there is none.
    """
    tasks, losses = validation.tasks, validation.losses(module, loss, inner)
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
    if not bad:
        return validation
    sound = [task for task, value in zip(tasks, losses, strict=True) if math.isfinite(value)]
    return ValidationTasks.of(sound, validation.stacking)
