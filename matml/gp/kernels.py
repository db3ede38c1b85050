"""Kernels and the distances they are made of."""

import math

import torch
from torch import Tensor

JITTER = 1e-6


def matern32(a: Tensor, b: Tensor) -> Tensor:
    """Return the Matern-3/2 correlation of scaled inputs (Rasmussen and Williams 2006, eq. 4.17).

    Parameters
    ----------
    a, b
        [..., n, features] and [..., m, features], divided by their length scales.

    Returns
    -------
    Tensor
        [..., n, m].
    """
    return _matern32_at(_distances(a, b))


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Return Euclidean distances, [..., n, m], with a gradient at 0."""
    square = (a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]) - 2 * a @ b.mT
    return (square.clamp(min=0) + 1e-12).sqrt()


def _matern32_at(distance: Tensor) -> Tensor:
    """Return the correlation at distances in units of the length scale."""
    scaled = distance * math.sqrt(3)
    return (1 + scaled) * torch.exp(-scaled)
