"""Learning to learn: tasks, inner loops, outer loops. Knows torch, nothing of materials."""

from matml.meta.crossfit import CrossFit, Leak, deal
from matml.meta.heads import GaussianHead, gaussian_loss
from matml.meta.inner import Diverged, GradientSteps, HeadSteps
from matml.meta.norms import FrozenStatistics, StepStatistics, TaskStatistics, Transductive
from matml.meta.outer import (
    FOMAML,
    MAML,
    ImplicitMAML,
    MAMLPlusPlus,
    Reptile,
    TaskDiverged,
    accumulate_meta_gradient,
)
from matml.meta.parallel import TENSORS, Stacking
from matml.meta.posterior import MaximumAPosteriori
from matml.meta.tasks import BoundModel, Loss, Parameters, Task, draw_batches, split_support_query
from matml.meta.train import History, MetaTraining, meta_train

__all__ = [
    "FOMAML",
    "MAML",
    "TENSORS",
    "BoundModel",
    "CrossFit",
    "Diverged",
    "FrozenStatistics",
    "GaussianHead",
    "GradientSteps",
    "HeadSteps",
    "History",
    "ImplicitMAML",
    "Leak",
    "Loss",
    "MAMLPlusPlus",
    "MaximumAPosteriori",
    "MetaTraining",
    "Parameters",
    "Reptile",
    "Stacking",
    "StepStatistics",
    "Task",
    "TaskDiverged",
    "TaskStatistics",
    "Transductive",
    "accumulate_meta_gradient",
    "deal",
    "draw_batches",
    "gaussian_loss",
    "meta_train",
    "split_support_query",
]
