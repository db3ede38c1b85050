"""Layers that also take weights stacked along a leading dimension of tasks.

A module of such layers evaluates many tasks, each with its own weights, by torch's batched
operations alone. `matml.meta.vectorised` does the same for any module by `torch.vmap`, which costs
more than the arithmetic where the tasks are small.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """`nn.Linear`; with weights [tasks, out, in] it takes [tasks, n, in]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        if self.weight.dim() == 2:
            return super().forward(x)
        if self.bias is None:
            return x @ self.weight.mT
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` over the last dimension; with weights [tasks, width] of [tasks, n, width]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised input, scaled and shifted."""
        if self.weight is None or self.weight.dim() == len(self.normalized_shape):
            return super().forward(x)
        plain = functional.layer_norm(x, self.normalized_shape, eps=self.eps)
        if self.bias is None:
            return plain * self.weight[:, None]
        return torch.addcmul(self.bias[:, None], plain, self.weight[:, None])


def takes_stacked_weights(module: nn.Module) -> bool:
    """Return whether a module says that it takes stacked weights, and all its layers do.

    It says so by an attribute `stackable`: its `forward` treats leading dimensions of its data as
    tasks. The loss then gets the data of all tasks at once and returns one value per task.
    """
    return getattr(module, "stackable", False) and all(
        isinstance(layer, Linear)
        or (isinstance(layer, LayerNorm) and len(layer.normalized_shape) == 1)
        for layer in module.modules()
        if next(layer.parameters(recurse=False), None) is not None
    )
