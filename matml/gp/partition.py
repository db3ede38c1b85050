"""A Gaussian process on many rows: in blocks of neighbours, and through a few rows everywhere.

The partially independent conditional approximation (Snelson and Ghahramani 2007, "Local and global
sparse Gaussian process approximations", section 3). Crystals of one block have the covariance that
the kernel says; crystals of two blocks what of it goes through the *inducing* rows. That is a
Gaussian process as well, so that labels of a family condition it as exactly as any other. With one
block, or with all rows inducing, it is the process itself. Time and memory grow with the rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.gp.condition import factorise
from matml.gp.kernels import JITTER, DescriptorKernel, KernelRows
from matml.gp.rows import Block

INDUCING, LARGEST = 1000, 1000
"""Rows that are inducing, and rows of a block at most."""


@dataclass(frozen=True)
class Split:
    """A plane that parts the space, and what lies on either side of it.

    Attributes
    ----------
    direction, level
        Of the plane, [d] and its place along it; on the level is below.
    sides
        Below and above: another split, or the number of a block.
    """

    direction: Tensor
    level: Tensor
    sides: tuple["Split | int", "Split | int"]

    def blocks(self, x: Tensor) -> Tensor:
        """Return the number of the block that each row, [n, d], lies in, [n]."""
        found = torch.empty(len(x), dtype=torch.int64)
        below = x @ self.direction <= self.level
        for rows, side in zip((below, ~below), self.sides, strict=True):
            found[rows] = side if isinstance(side, int) else side.blocks(x[rows])
        return found

    def flat(self) -> list["Split"]:
        """Return this and all splits below it."""
        below = (side.flat() for side in self.sides if isinstance(side, Split))
        return [self, *(each for own in below for each in own)]


def tensors_of(tree: Split) -> dict[str, Tensor]:
    """Return a split and all below it: of each its plane, and its sides.

    A side is the number of a block, or below 0 that of a split.
    """
    splits = tree.flat()
    number = {id(each): -place for place, each in enumerate(splits)}
    sides = [[x if isinstance(x, int) else number[id(x)] for x in each.sides] for each in splits]
    return {
        "direction": torch.stack([each.direction for each in splits]),
        "level": torch.stack([each.level for each in splits]),
        "sides": torch.tensor(sides),
    }


def split_of(tensors: Mapping[str, Tensor]) -> Split:
    """Return what `tensors_of` was given."""
    made: dict[int, Split] = {}
    sides = tensors["sides"].tolist()
    # those above come first
    for place in reversed(range(len(sides))):
        below, above = (x if x >= 0 else made[-x] for x in sides[place])
        made[place] = Split(tensors["direction"][place], tensors["level"][place], (below, above))
    return made[0]


def split(x: Tensor, largest: int) -> Split | int:
    """Return how rows [n, d] are parted in two where they spread most, again and again.

    Parameters
    ----------
    largest
        Rows of a block at most; rows that are all alike stay together.
    """
    numbers = iter(range(len(x)))

    def part(own: Tensor) -> Split | int:
        if len(own) > largest:
            centred = own - own.mean(0)
            direction = torch.linalg.eigh(centred.mT @ centred)[1][:, -1]
            place = own @ direction
            level = place.median()
            below = place <= level
            if not below.all():
                return Split(direction, level, (part(own[below]), part(own[~below])))
        return next(numbers)

    return part(x)


@dataclass(frozen=True)
class Neighbours:
    """The rows of one block.

    Attributes
    ----------
    rows
        For covariances with them.
    factor
        Of what the inducing rows leave of their covariance, noise included, [b, b].
    low
        Their part in the inducing rows through that factor, [b, m].
    near, far
        What the mean takes of the covariance with them, [b], and with the inducing rows, [m].
    """

    rows: KernelRows
    factor: Tensor
    low: Tensor
    near: Tensor
    far: Tensor


@dataclass(frozen=True)
class Placed:
    """Crystals as the process sees them.

    Attributes
    ----------
    x
        Standardised features, [n, d].
    block
        Number of the block of each, [n].
    low, local
        What inducing rows and then the block's own explain is the product of these, [n, m] and
        [n, b], padded with 0.
    rest
        And of these what is not known of the inducing rows, [n, m].
    mean
        [n].
    """

    x: Tensor
    block: Tensor
    low: Tensor
    local: Tensor
    rest: Tensor
    mean: Tensor

    def covariance(self, other: "Placed", prior: Tensor) -> Tensor:
        """Return the posterior covariance with others, [n, m], from what the kernel says."""
        near = prior - (self.low @ other.low.mT + self.local @ other.local.mT)
        near.masked_fill_(self.block[:, None] != other.block, 0.0)
        return near.add_(self.rest @ other.rest.mT)


class PartitionedRows:
    """Training rows in blocks of neighbours.

    Parameters
    ----------
    kernel, noise
        Of the process.
    x, y
        Standardised features and labels, [n, d] and [n].
    inducing, largest
        Inducing rows, and rows of a block at most.
    learned
        What `tensors` gave of the same rows: blocks are then made when a crystal lies in one.
    """

    def __init__(
        self,
        kernel: DescriptorKernel,
        noise: Tensor,
        x: Tensor,
        y: Tensor,
        *,
        inducing: int = INDUCING,
        largest: int = LARGEST,
        dtype: torch.dtype = torch.float32,
        learned: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.kernel, self.noise, self.dtype, self.x, self.y = kernel, noise, dtype, x, y
        chosen = x[np.random.default_rng(0).permutation(len(x))[:inducing]]
        self.far = KernelRows(kernel, chosen)
        self.factor = factorise(self.far.covariance(chosen), JITTER, overwrite=True)
        self._neighbours: dict[int, Neighbours] = {}
        # where rounding is another the sums are nearly the same, of other rows they are not
        self.sums = torch.stack([x.sum(), x.abs().sum(), y.sum(), y.abs().sum()])
        if learned and torch.allclose(learned["sums"], self.sums, rtol=1e-6, atol=1e-6):
            self.split: Split | int = split_of(learned)
            self.block = learned["block"].long()
            self.known, self.solved = learned["known"], learned["solved"]
            return
        self.split = split(x * kernel.weights, largest)
        self.block = self._blocks(x)
        precision = torch.eye(len(chosen), dtype=torch.float64)
        side = torch.zeros(len(chosen), 1, dtype=torch.float64)
        parts = []
        for number in range(int(self.block.max()) + 1):
            own, factor, low, label = self._part(number)
            precision.addmm_(low.mT, low)
            side.addmm_(low.mT, label)
            parts.append((own, factor, low.to(dtype), label))
        self.known = torch.linalg.cholesky(precision)
        self.solved = torch.cholesky_solve(side, self.known)
        for number in range(len(parts)):
            self._neighbours[number] = self._finished(*parts.pop(0))

    def tensors(self) -> dict[str, Tensor]:
        """Return what takes longest to learn from the rows; nothing of a single block."""
        if isinstance(self.split, int):
            return {}
        return tensors_of(self.split) | {
            "block": self.block.int(),
            "known": self.known,
            "solved": self.solved,
            "sums": self.sums,
        }

    def neighbours(self, number: int) -> Neighbours:
        """Return the rows of a block."""
        if number not in self._neighbours:
            own, factor, low, label = self._part(number)
            self._neighbours[number] = self._finished(own, factor, low.to(self.dtype), label)
        return self._neighbours[number]

    def _part(self, number: int) -> tuple[KernelRows, Tensor, Tensor, Tensor]:
        """Return rows, factor and `low` of a block, and its labels through that factor, [b, 1]."""
        rows = torch.where(self.block == number)[0]
        x = self.x[rows]
        own = KernelRows(self.kernel, x)
        low = torch.linalg.solve_triangular(
            self.factor.mT, self.far.covariance(x), upper=True, left=False
        )
        factor = factorise(own.covariance(x).addmm_(low, low.mT, alpha=-1), self.noise)
        both = torch.cat([low, self.y[rows, None]], 1)
        low, label = torch.linalg.solve_triangular(factor, both, upper=False).tensor_split([-1], 1)
        return own, factor, low, label

    def _finished(self, own: KernelRows, factor: Tensor, low: Tensor, label: Tensor) -> Neighbours:
        """Return a block's rows with what the mean takes of them, which needs all blocks."""
        wide = low.double()
        left = label - wide @ self.solved
        near = torch.linalg.solve_triangular(factor.mT, left, upper=True)
        far = self.solved - wide.mT @ left
        far = torch.linalg.solve_triangular(self.factor.mT, far, upper=True)
        return Neighbours(own, factor.to(self.dtype), low, near[:, 0], far[:, 0])

    def mean(self, x: Tensor) -> Tensor:
        """As of `Rows`."""
        far, found = self.far.covariance(x), x.new_empty(len(x))
        blocks = self._blocks(x)
        for number in blocks.unique().tolist():
            own, rows = self.neighbours(number), torch.where(blocks == number)[0]
            found[rows] = far[rows] @ own.far + own.rows.covariance(x[rows]) @ own.near
        return found

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Rows`."""
        placed = self.anchor(x)
        return placed.mean, placed.covariance(placed, self.kernel(x, x))

    def anchor(self, x: Tensor) -> Placed:
        """As of `Rows`."""
        placed, order = self._sorted(x)
        back = order.argsort()
        return Placed(*(part[back] for part in vars(placed).values()))

    def at(self, x: Tensor, anchor: Placed, beside: Tensor, alone: Tensor) -> Block:
        """As of `Rows`."""
        own, order = self._sorted(x)
        explained = own.low.square().sum(1) + own.local.square().sum(1) - own.rest.square().sum(1)
        cross, back = own.covariance(anchor, beside[order]), order.argsort()
        return Block(own.mean[back], cross[back], alone - explained[back])

    def _sorted(self, x: Tensor) -> tuple[Placed, Tensor]:
        """Return crystals in the order of their blocks, and that order."""
        block, order = self._blocks(x).sort(stable=True)
        x = x[order]
        far = self.far.covariance(x)
        low = self._whiten(self.factor, far)
        largest = int(self.block.bincount().max())
        local = x.new_zeros(len(x), largest, dtype=self.dtype)
        rest, mean = torch.empty_like(low), x.new_empty(len(x))
        numbers, sizes = block.unique_consecutive(return_counts=True)
        start = 0
        for number, size in zip(numbers.tolist(), sizes.tolist(), strict=True):
            own, rows = self.neighbours(number), slice(start, start + size)
            near = own.rows.covariance(x[rows])
            mean[rows] = far[rows] @ own.far + near @ own.near
            half = self._whiten(own.factor, near).addmm_(low[rows], own.low.mT, alpha=-1)
            local[rows, : half.shape[1]] = half
            torch.addmm(low[rows], half, own.low, alpha=-1, out=rest[rows])
            start += size
        return Placed(x, block, low, local, self._whiten(self.known, rest), mean), order

    def _blocks(self, x: Tensor) -> Tensor:
        """Return the number of the block of each crystal, [m]."""
        if isinstance(self.split, int):
            return torch.zeros(len(x), dtype=torch.int64)
        return self.split.blocks(x * self.kernel.weights)

    def _whiten(self, factor: Tensor, rows: Tensor) -> Tensor:
        """Return rows [m, n] through the inverse of a factor [n, n], in `dtype`."""
        upper, rows = factor.mT.to(self.dtype), rows.to(self.dtype)
        return torch.linalg.solve_triangular(upper, rows, upper=True, left=False)
