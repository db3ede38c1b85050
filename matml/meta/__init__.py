"""Learning to learn: tasks, inner loops, outer loops. Knows torch, nothing of materials."""

from matml.core.folds import deal
from matml.meta.batch_norm import FrozenStatistics, StepStatistics, TaskStatistics, Transductive
from matml.meta.crossfit import CrossFit, Leak
from matml.meta.inner.closed_form import GaussianHead, gaussian_loss
from matml.meta.inner.gradient import (
    Diverged,
    GradientSteps,
)
from matml.meta.inner.head import (
    HeadSteps,
)
from matml.meta.inner.map import MaximumAPosteriori
from matml.meta.outer import (
    FOMAML,
    MAML,
    ImplicitMAML,
    MAMLPlusPlus,
    Reptile,
    TaskDiverged,
    accumulate_meta_gradient,
)
from matml.meta.tasks import (
    BoundModel,
    InnerLoop,
    Loss,
    Parameters,
    Task,
    draw_batches,
    split_support_query,
)
from matml.meta.train import History, MetaTraining, meta_train
from matml.meta.vectorised import TENSORS, Stacking

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
    "InnerLoop",
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
