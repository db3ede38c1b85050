"""Outer rules: what of the adaptation is differentiated to improve the starting point.

An outer rule turns one task into a query loss, and adds its gradient to the learner's (and the
inner loop's) parameters. Tasks are taken one by one, so that memory is that of one task.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from matml.meta.inner import Diverged, GradientSteps
from matml.meta.tasks import BoundModel, Loss, Task


class TaskDiverged(ArithmeticError):
    """Adaptation or query loss of a named task is not finite."""


@dataclass(frozen=True)
class MAML:
    """Model-agnostic meta-learning (Finn et al. 2017, arXiv:1703.03400, algorithm 1).

    Parameters
    ----------
    second_order
        Differentiate through the inner gradients: the exact gradient of the query loss after
        adaptation. Without it (FOMAML, section 5.2 of the same paper) inner gradients are
        constants.
    """

    second_order: bool = True

    def query_loss(self, module: nn.Module, loss: Loss, inner: GradientSteps, task: Task) -> Tensor:
        """Return the query loss of the adapted weights, differentiable as the rule says."""
        fast = inner.adapt(module, loss, task.support, differentiable=self.second_order)
        return loss(BoundModel(module, fast), task.query)


def FOMAML() -> MAML:
    """Return first-order MAML."""
    return MAML(second_order=False)


def accumulate_meta_gradient(
    module: nn.Module,
    loss: Loss,
    inner: GradientSteps,
    outer: MAML,
    tasks: Sequence[Task],
) -> list[float]:
    """Add the mean meta-gradient over `tasks` to `.grad`; returns the query loss of each task.

    Raises
    ------
    TaskDiverged
        Where a task's inner loop or query loss is not finite; names the task.
    """
    losses = []
    for task in tasks:
        try:
            value = outer.query_loss(module, loss, inner, task)
        except Diverged as error:
            raise TaskDiverged(f"task {task.name!r}: {error}") from error
        if not value.isfinite():
            raise TaskDiverged(f"task {task.name!r}: query loss is {value.item()} after adaptation")
        (value / len(tasks)).backward()
        losses.append(value.item())
    return losses
