"""Layers that also take weights stacked along a leading dimension of tasks.

A module of such layers evaluates many tasks, each with its own weights, by torch's batched
operations alone. `matml.meta.vectorised` does the same for any module by `torch.vmap`, which costs
more than the arithmetic where the tasks are small.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm


class Linear(nn.Linear):
    """`nn.Linear`; with weights [tasks, out, in] it takes [tasks, n, in]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x W^T + b."""
        if self.weight.dim() == 2:
            return super().forward(x)
        if self.bias is None:
            return x @ self.weight.mT
        return _Affine.apply(x, self.weight, self.bias)


class _Affine(Function):
    """x W^T + b of each task.

    torch's own derivative of W is a transposed view, which every optimiser would copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        along_x = gradient @ weight if ctx.needs_input_grad[0] else None
        return along_x, gradient.mT @ x, gradient.sum(-2)


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


def batch_norms(module: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers of a module by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, _BatchNorm)}


def refuse_batch_statistics(module: nn.Module) -> None:
    """Refuse a module whose BatchNorm layers would take statistics over stacked, padded tasks.

    Raises
    ------
    ValueError
        Where a BatchNorm layer is in training mode.
    """
    for name, layer in batch_norms(module).items():
        if layer.training or layer.running_mean is None:
            raise ValueError(
                f"BatchNorm layer {name!r} takes statistics of its batch, which padding would "
                "spoil: adapt to tasks one by one, or put the module into evaluation mode"
            )
