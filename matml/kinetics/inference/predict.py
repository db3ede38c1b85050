"""Fits of new alloys and predictions from them, shared by calibration and benchmark."""

import math
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit, best_of
from matml.bayes.tasks import Columns, Tasks
from matml.kinetics.equations import Equation

Window: TypeAlias = tuple[float | Tensor, float | Tensor]
"""Lowest and highest value that can be measured at all: of all tasks, or of each, [T]."""

NO_WINDOW: Window = (-math.inf, math.inf)

RANDOM_STARTS = 7
BOUND = 4.0
"""Least squares stays within this on the standardised scale: twice the typical range."""


def least_squares_bounds(equation: Equation) -> tuple[Tensor, Tensor]:
    """Return lower and upper bounds of least squares, standardised, each [P]."""
    upper = torch.full((len(equation.parameters),), BOUND, dtype=torch.float64)
    return -upper, upper


def generic_least_squares(tasks: Tasks, equation: Equation, noise: float, seed: int) -> Fit:
    """Return bounded least squares of an equation from the generic and several random starts.

    `noise` is that of an observation.
    """
    random = np.random.default_rng([seed, 6]).uniform(
        -2, 2, (RANDOM_STARTS, len(equation.parameters))
    )
    return best_of(
        tasks,
        torch.cat([equation.start()[None], torch.from_numpy(random)]),
        tasks.weights(noise),
        bounds=least_squares_bounds(equation),
        preference=0.01,
    )


def predict_draws(
    equation: Equation,
    kind: str,
    draws: Tensor,
    noise: float | Tensor,
    columns: Columns,
    seed: int,
    window: Window = NO_WINDOW,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and 90 % band of new observations [T, M] over posterior draws [T, S, P].

    Parameters
    ----------
    noise
        Standard deviation of an observation, one for all or one per draw [T, S].
    window
        What can be measured at all, on the residual scale: what a draw predicts beyond an end
        counts as that end.
    """
    generator = torch.Generator().manual_seed(seed)
    ladder = torch.arange(draws.shape[1], dtype=torch.float64)
    noise = torch.as_tensor(noise, dtype=torch.float64).expand(draws.shape[:2])
    error = torch.special.ndtri((ladder + 0.5) / draws.shape[1])
    ends = [torch.as_tensor(end).to(noise).expand(len(draws))[:, None, None] for end in window]
    means, lows, highs = [], [], []
    # a block of tasks at a time bounds the memory
    length = next(iter(columns.values())).shape[1]
    block = max(1, 1_000_000 // (draws.shape[1] * length))
    for first in range(0, len(draws), block):
        part = draws[first : first + block, :, None]
        inputs = {n: c[first : first + block, None] for n, c in columns.items()}
        with torch.no_grad():
            value = equation.predict(kind, part, inputs)
        cut = [end[first : first + block] for end in ends]
        means.append(value.clamp(*cut).mean(1))
        shuffled = error[torch.randperm(len(error), generator=generator)]
        spread = noise[first : first + block] * shuffled
        observed = (value + spread[..., None]).clamp(*cut)
        low, high = observed.quantile(observed.new_tensor([0.05, 0.95]), dim=1)
        lows.append(low)
        highs.append(high)
    return torch.cat(means), torch.cat(lows), torch.cat(highs)
