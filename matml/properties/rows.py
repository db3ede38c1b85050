"""Taking rows by number and summing rows by number, fast for large batches and for many small ones.

Under `torch.vmap` with numbers that differ from task to task, torch loops over tasks for
`index_select` and `index_add`, and is slow with `scatter_add`. On few rows, products with a matrix
of zeros and ones are as fast as anything, alone and for many tasks; so the number of rows decides.
"""

import torch
from torch import Tensor

FEW = 512
"""Rows up to which starting operations costs more than what they do."""


class Rows:
    """Which row each of m things belongs to.

    Parameters
    ----------
    index
        Row number of each thing, [m].
    size
        Number of rows.
    like
        Tensor whose type the things and rows have.
    """

    def __init__(self, index: Tensor, size: int, like: Tensor) -> None:
        self.index, self.size, self.ones = index, size, None
        if len(index) <= FEW:
            every = torch.arange(size, device=index.device)
            self.ones = (index[:, None] == every).to(like.dtype)

    def take(self, rows: Tensor) -> Tensor:
        """Return the row of each thing, [m, width], from all rows, [size, width]."""
        return rows.index_select(0, self.index) if self.ones is None else self.ones @ rows

    def sum(self, things: Tensor) -> Tensor:
        """Return the sum over the things of each row, [size, width], from things, [m, width]."""
        if self.ones is not None:
            return self.ones.mT @ things
        return things.new_zeros(self.size, things.shape[1]).index_add(0, self.index, things)
