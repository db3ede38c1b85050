"""Cross-fitting: adaptation is learned on groups of tasks that the backbone has not seen.

A backbone that was pre-trained on a family predicts it without any support, so that meta-training
there teaches nothing about adapting, or worse. Groups (material families, alloy compositions) are
dealt into folds; a backbone is pre-trained without one fold and meta-trained on that fold, once per
fold, and the results are averaged or chosen from. Tasks carry their group, and `meta_train` refuses
one whose group its backbone has seen.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from matml.meta.tasks import Task


class Leak(ValueError):
    """A task belongs to a group that it must not belong to."""


@dataclass(frozen=True)
class CrossFit:
    """Which groups the backbone of a fold has seen, and on which it learns to adapt.

    Parameters
    ----------
    folds
        Fold of each group.

    Examples
    --------
    >>> plan = CrossFit({"spinel": 0, "perovskite": 1, "rutile": 1})
    >>> plan.seen(1), plan.unseen(1)
    (['spinel'], ['perovskite', 'rutile'])
    """

    folds: Mapping[str, int]

    def __len__(self) -> int:
        """Number of folds."""
        return 1 + max(self.folds.values())

    def seen(self, fold: int) -> list[str]:
        """Return the groups that the backbone of a fold is pre-trained on."""
        return [group for group, own in self.folds.items() if own != fold]

    def unseen(self, fold: int) -> list[str]:
        """Return the groups that the backbone of a fold is meta-trained on."""
        return [group for group, own in self.folds.items() if own == fold]


def refuse_seen(task: Task, seen: Collection[str], by: str) -> Task:
    """Return the task, unless its group was seen.

    Parameters
    ----------
    by
        Who has seen the groups, for the message.

    Raises
    ------
    Leak
        Names the task, its group and who has seen it.
    """
    if task.group is not None and task.group in seen:
        raise Leak(
            f"task {task.name!r} is of group {task.group!r}, which {by} has seen: draw tasks of "
            "other groups (see `matml.meta.crossfit`)"
        )
    return task
