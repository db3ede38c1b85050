"""Taking rows by number and summing rows by number, fast for large batches and for many small ones.

Under `torch.vmap` with numbers that differ from task to task, torch loops over tasks for
`index_select` and `index_add`, and is slow with `scatter_add`. On few rows, products with a sparse
matrix held in full are as fast as anything, alone and for many tasks: the number of rows decides.
Where no derivative is wanted, sums of things in the order of their rows are ten times faster with
`embedding_bag`.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

FEW = 512
"""Rows up to which starting operations costs more than what they do."""


@dataclass(frozen=True)
class Rows:
    """Which row each of m things belongs to, and its weight in sums.

    Attributes
    ----------
    index, weight
        Row number and weight of each thing, [..., m].
    size
        Number of rows.
    ones, weighted
        For few things, matrices [..., m, size] of ones and of weights; else None.
    order, starts
        `arange(m)` and where each row's things start, where no derivative is wanted and the things
        stand in the order of their rows; else None.
    """

    index: Tensor
    weight: Tensor
    size: int
    ones: Tensor | None = None
    weighted: Tensor | None = None
    order: Tensor | None = None
    starts: Tensor | None = None

    @classmethod
    def of(cls, index: Tensor, weight: Tensor, size: int) -> "Rows":
        """Return the rows, with matrices where the things are few."""
        if index.shape[-1] > FEW:
            return cls(index, weight, size)
        belongs = index[..., None] == torch.arange(size, device=index.device)
        ones = belongs.to(weight.dtype)
        return cls(index, weight, size, ones, ones * weight[..., None])

    def for_inference(self) -> "Rows":
        """Return the same rows for sums without derivatives."""
        if self.index.dim() != 1 or (self.index[1:] < self.index[:-1]).any():
            return self
        counts = torch.bincount(self.index, minlength=self.size)
        order = torch.arange(len(self.index), device=self.index.device)
        return replace(self, order=order, starts=counts.cumsum(0) - counts)

    def take(self, rows: Tensor) -> Tensor:
        """Return the row of each thing, [..., m, width], from all rows, [..., size, width]."""
        if self.ones is not None:
            return self.ones @ rows
        if self.index.dim() == 1:
            return rows.index_select(0, self.index)
        return rows.gather(-2, self._across(rows))

    def sum(self, things: Tensor) -> Tensor:
        """Return weighted sums of each row's things, [..., size, width], from [..., m, width]."""
        if self.starts is not None:
            return functional.embedding_bag(
                self.order, things, self.starts, mode="sum", per_sample_weights=self.weight
            )
        if self.weighted is not None:
            return self.weighted.mT @ things
        total = things.new_zeros(*things.shape[:-2], self.size, things.shape[-1])
        things = things * self.weight[..., None]
        if self.index.dim() == 1:
            return total.index_add(0, self.index, things)
        return total.scatter_add(-2, self._across(things), things)

    def _across(self, like: Tensor) -> Tensor:
        """Return row numbers for every column, [..., m, width]."""
        return self.index[..., None].expand(*self.index.shape, like.shape[-1])
