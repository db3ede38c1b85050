"""Learning to learn: tasks, inner loops, outer loops. Knows torch, nothing of materials."""

from matml.meta.inner import Diverged, GradientSteps
from matml.meta.outer import FOMAML, MAML, TaskDiverged, accumulate_meta_gradient
from matml.meta.tasks import BoundModel, Loss, Parameters, Task, draw_batches, split_support_query
from matml.meta.train import History, MetaTraining, meta_train

__all__ = [
    "FOMAML",
    "MAML",
    "BoundModel",
    "Diverged",
    "GradientSteps",
    "History",
    "Loss",
    "MetaTraining",
    "Parameters",
    "Task",
    "TaskDiverged",
    "accumulate_meta_gradient",
    "draw_batches",
    "meta_train",
    "split_support_query",
]
