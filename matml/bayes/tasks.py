"""Many small regressions as one value: the idea that all learners of this library share.

A *task* is an alloy, a specimen, a patient: its own few parameters and its own few observations.
Tasks are padded to one length and solved together, since evaluating many costs hardly more than
evaluating one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

Columns: TypeAlias = Mapping[str, Tensor]
"""What was observed, by name, each [B, N], or [B, N, D] with D numbers an observation.

B tasks, N observations (padded).
"""

Pointwise: TypeAlias = Callable[[Tensor, Columns], Tensor]
"""`function(z [..., P], columns [...]) -> [...]`, each observation by itself.

Each observation comes with its own copy of its task's parameters and depends on nothing else: one
backward pass then gives all Jacobians of all tasks. Where every column holds one number an
observation the leading shapes of parameters and columns may differ and broadcast; where one holds
several they are equal, so that parameters and columns can be joined or indexed by each other.
"""

BLOCK = 500_000
"""Values that are computed at once: they stay in the processor's cache."""


@dataclass(frozen=True)
class Tasks:
    """B regressions with N observations each, float64.

    Attributes
    ----------
    residual
        Prediction minus measurement, pointwise.
    columns
        What the residual takes besides the parameters.
    mask
        1 for an observation, 0 for padding, [B, N].
    known_variance
        Variance of each observation besides the noise that all share, [B, N].

    Examples
    --------
    >>> x = torch.tensor([[0.0, 1.0, 2.0]])
    >>> lines = Tasks.of(lambda z, c: z[..., 0] + z[..., 1] * c["x"] - c["y"], {"x": x, "y": 3 * x})
    >>> lines.linearise(torch.tensor([[0.0, 2.0]]))[0]
    tensor([[ 0., -1., -2.]])
    """

    residual: Pointwise
    columns: Columns
    mask: Tensor
    known_variance: Tensor

    @staticmethod
    def of(
        residual: Pointwise,
        columns: Columns,
        mask: Tensor | None = None,
        known_variance: Tensor | None = None,
    ) -> "Tasks":
        """Return tasks; without a mask nothing is padding, without a variance none is known."""
        if mask is None:
            first = next(iter(columns.values()))
            mask = torch.ones(first.shape[:2], dtype=first.dtype)
        none = torch.zeros_like(mask)
        return Tasks(residual, columns, mask, none if known_variance is None else known_variance)

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, rows: Tensor | slice) -> "Tasks":
        """Return some tasks, also repeatedly, by their numbers."""
        return self._indexed(rows)

    def counts(self) -> list[int]:
        """Return the number of observations of each task."""
        return [int(count) for count in self.mask.sum(1)]

    def pick(self, rows: Tensor, picks: Tensor) -> "Tasks":
        """Return tasks of picked observations.

        Parameters
        ----------
        rows
            Task that each new one is made of, [T].
        picks
            Numbers of its observations, [T, K].
        """
        return self._indexed((rows[:, None], picks))

    def masked(self, mask: Tensor) -> "Tasks":
        """Return the tasks with another mask [B, N]."""
        return replace(self, mask=mask)

    def repeat(self, count: int) -> "Tasks":
        """Return `count` blocks of the tasks."""
        return self[torch.arange(len(self)).repeat(count)]

    def weights(self, noise: float) -> Tensor:
        """Return inverse variances of the observations [B, N], zero for padding."""
        return self.mask / (noise**2 + self.known_variance)

    def linearise(self, position: Tensor, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return residuals [B, N] and Jacobians [B, N, P] at [B, P], of all or some tasks."""
        tasks = self if rows is None else self[rows]
        return linearise(tasks.residual, position, tasks.columns)

    def blocks(self, function: Pointwise, points: Tensor) -> Iterator[Tensor]:
        """Yield a pointwise function [B, s, N] at [B, S, P], a block of S at a time."""
        # one vector for all observations of a point, to broadcast: what depends on the parameters
        # alone is computed once
        columns = {name: column[:, None] for name, column in self.columns.items()}
        several = any(column.ndim > 2 for column in self.columns.values())
        values = max(column.numel() for column in (self.mask, *self.columns.values()))
        for part in points[:, :, None].split(max(1, BLOCK // values), dim=1):
            if not several:
                yield function(part, columns)
                continue
            count, observations = part.shape[1], self.mask.shape[1]
            own = {
                name: column.expand(-1, count, *column.shape[2:])
                for name, column in columns.items()
            }
            yield function(part.expand(-1, -1, observations, -1), own)

    def _indexed(self, index: Tensor | slice | tuple[Tensor, Tensor]) -> "Tasks":
        return replace(
            self,
            columns={name: column[index] for name, column in self.columns.items()},
            mask=self.mask[index],
            known_variance=self.known_variance[index],
        )


def linearise(function: Pointwise, position: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Return a pointwise function [B, N] and its Jacobian [B, N, P] at positions [B, P]."""
    observations = next(iter(columns.values())).shape[1]
    copies = position.detach()[:, None, :].repeat(1, observations, 1).requires_grad_()
    with torch.enable_grad():
        value = function(copies, columns)
        (jacobian,) = torch.autograd.grad(value.sum(), copies)
    # a constant slope comes as one number in all places, which nothing can be written to
    return value.detach(), jacobian.contiguous()
