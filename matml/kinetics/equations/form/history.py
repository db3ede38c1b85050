"""Equivalent time along a thermal history, by quadrature."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from matml.kinetics.equations.form.types import Inputs, Values

NODES = 16
"""Nodes along a history: a rate that changes by 20 decades along it is exact to 1e-9."""


RAMP_NODES = tuple(
    zip(*(part.tolist() for part in np.polynomial.legendre.leggauss(NODES)), strict=True)
)
"""Gauss-Legendre nodes and weights on -1 to 1: those of a constant rate."""


LATE_NODES, NEAR_STEPS = 8, 64


MOST_E_FOLDS = 600.0
"""Ratio of rates along a history, as ln, up to which it is finite in double precision."""


PATH = tuple((f"path_temperature_{i}_K", f"path_share_{i}") for i in range(NODES))
"""Inputs of an observation on a temperature history: nodes, and the fractions of time there."""


LATE = tuple((f"late_temperature_{i}_K", f"late_share_{i}") for i in range(LATE_NODES))
"""The same for the end of a history that a late clock leaves out: negative fractions."""


NEAR = tuple(f"path_near_{i}_K" for i in range(NEAR_STEPS + 1))
"""Temperatures of a path around an observation's time, in equal steps of `NEAR_STEP`."""


NEAR_STEP = "path_near_step_s"


def equivalent_time(
    log_time_scale: Callable[[Values, Inputs], Tensor], values: Values, inputs: Inputs
) -> Tensor:
    """Return the time in s at `temperature_K` that equals a ramp or path to it.

    A reaction that depends on temperature through a time scale tau(T) alone is additive: after a
    history it has come as far as after tau(T) times the integral of dt / tau(T') at the final
    temperature T (Cahn, Acta Metall. 4 (1956) 572). Inputs hold the nodes of a path (`PATH`), or
    the `start_temperature_K` of a ramp at a constant rate; where start and final temperature are
    equal this is the time itself.
    """
    reached = log_time_scale(values, inputs)
    total = torch.zeros((), dtype=reached.dtype)
    for temperature, share in _history_nodes(inputs):
        between = {**inputs, "temperature_K": temperature}
        faster = (reached - log_time_scale(values, between)).clamp(-MOST_E_FOLDS, MOST_E_FOLDS)
        total = total + share * faster.exp()
    return inputs["time_s"] * total


def _history_nodes(inputs: Inputs) -> Iterator[tuple[Tensor, Tensor | float]]:
    """Yield temperature and share of the time at each node of the inputs' histories."""
    if PATH[0][0] in inputs:
        for temperature, share in PATH:
            yield inputs[temperature], inputs[share]
        if LATE[0][0] in inputs:
            for temperature, share in LATE:
                yield inputs[temperature], inputs[share]
        return
    final, start = inputs["temperature_K"], inputs["start_temperature_K"]
    for node, weight in RAMP_NODES:
        yield start + (final - start) * (1 + node) / 2, weight / 2
