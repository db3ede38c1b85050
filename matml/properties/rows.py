"""Taking rows by number and summing rows by number, fast for large batches and for many small ones.

Under `torch.vmap` with numbers that differ from task to task, torch loops over tasks for
`index_select` and `index_add`, but not for `gather` and `scatter_add`; alone and on many rows the
first two are a fifth faster. So the number of rows decides.
"""

from torch import Tensor

FEW = 1024
"""Rows up to which starting operations costs more than what they do."""


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """Return the rows of `x` [n, width] that `index` [m] names, [m, width]."""
    if len(index) > FEW:
        return x.index_select(0, index)
    return x.gather(0, _across(index, x))


def sum_rows(x: Tensor, index: Tensor, size: int) -> Tensor:
    """Return sums of the rows of `x` [m, width] with equal `index` [m], [size, width]."""
    total = x.new_zeros(size, x.shape[1])
    if len(index) > FEW:
        return total.index_add(0, index, x)
    return total.scatter_add(0, _across(index, x), x)


def _across(index: Tensor, x: Tensor) -> Tensor:
    """Return row numbers for every column, [m, width]."""
    return index[:, None].expand(-1, x.shape[1])
