"""Observations as padded tensors: one row per alloy, one column per observation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matml.errors import MatmlError
from matml.kinetics.equations.base import Equation
from matml.kinetics.observations import Observations
from matml.meta.hierarchical import Data, Residual

PADDING = {
    "temperature_K": 1000.0,
    "time_s": 1.0,
    "fraction": 0.5,
    "reference_temperature_K": 1000.0,
    "start_temperature_K": 1000.0,
    "run_number": -1.0,
    "target": 0.0,
}
"""Harmless values for padding: every equation is finite there."""


@dataclass(frozen=True)
class Series:
    """Observations of B alloys, padded to N each, float64.

    Attributes
    ----------
    names
        The alloys.
    columns
        Inputs of the equation and `target` (the measured value on the residual scale), each [B, N].
    mask
        1 for an observation, 0 for padding, [B, N].
    known_variance
        Square of the given sigma, 0 where none is given, [B, N].
    """

    names: list[str]
    columns: dict[str, Tensor]
    mask: Tensor
    known_variance: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def counts(self) -> Tensor:
        """Return the number of observations per alloy, [B]."""
        return self.mask.sum(1).long()

    def alloys(self, rows: Sequence[int]) -> "Series":
        """Return some alloys."""
        index = torch.as_tensor(rows)
        return Series(
            [self.names[i] for i in rows],
            {name: column[index] for name, column in self.columns.items()},
            self.mask[index],
            self.known_variance[index],
        )

    def points(self, rows: Tensor, picks: Tensor) -> "Series":
        """Return tasks made of picked observations.

        Parameters
        ----------
        rows
            Alloy of each task, [T].
        picks
            Its observations' numbers, [T, K].
        """
        return Series(
            [self.names[i] for i in rows.tolist()],
            {name: column[rows[:, None], picks] for name, column in self.columns.items()},
            self.mask[rows[:, None], picks],
            self.known_variance[rows[:, None], picks],
        )

    def single(self, row: int, picks: Sequence[int]) -> dict[str, Tensor]:
        """Return the columns [K] of some observations of one alloy."""
        index = torch.as_tensor(list(picks))
        return {name: column[row][index] for name, column in self.columns.items()}


def to_series(
    observations: Observations, equation: Equation, reference_temperature_K: float | None = None
) -> Series:
    """Return observations as tensors for an equation.

    Parameters
    ----------
    reference_temperature_K
        For alloys whose table gives none; needed only where the equation has one.

    Raises
    ------
    MatmlError
        Where the equation does not describe this kind of observation, or lacks a reference
        temperature.
    """
    observable = equation.observable(observations.kind)
    needed = ["temperature_K", "time_s", "fraction" if observable.column == "time_s" else None]
    needed = [*filter(None, needed), *other_inputs(equation, observations.kind), observable.column]
    needed = list(dict.fromkeys(needed))
    _complain(observations, equation, needed)
    optional = ("start_temperature_K", "run_number")
    needed += [name for name in optional if name in observations.points]
    blocks = [observations.points[observations.points["alloy"] == a] for a in observations.names]
    length = max(len(block) for block in blocks)
    mask = np.zeros((len(blocks), length))
    sigma = np.zeros_like(mask)
    columns = {name: np.full_like(mask, PADDING.get(name, 1.0)) for name in needed}
    for i, block in enumerate(blocks):
        mask[i, : len(block)] = 1
        sigma[i, : len(block)] = block["sigma"].fillna(0.0)
        for name in needed:
            columns[name][i, : len(block)] = block[name]
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    target = observable.compared(tensors.pop(observable.column))
    tensors["target"] = torch.where(torch.from_numpy(mask) > 0, target, PADDING["target"])
    if equation.needs_reference_temperature:
        reference = observations.alloys["reference_temperature_K"].to_numpy(float)
        if reference_temperature_K is not None:
            reference = np.where(np.isnan(reference), reference_temperature_K, reference)
        if np.isnan(reference).any():
            name = observations.names[int(np.isnan(reference).argmax())]
            raise MatmlError(
                f"alloy {name!r} has no reference_temperature_K, which equation "
                f"{equation.name!r} needs; add the column to the table of alloys"
            )
        tensors["reference_temperature_K"] = torch.from_numpy(reference)[:, None].repeat(1, length)
    return Series(
        observations.names, tensors, torch.from_numpy(mask), torch.from_numpy(sigma).square()
    )


def other_inputs(equation: Equation, kind: str) -> list[str]:
    """Return the columns that an equation needs besides temperature, time and fraction."""
    usual = {"temperature_K", "time_s", "fraction", "reference_temperature_K"}
    return [i.name for i in equation.observable(kind).inputs if i.name not in usual]


def _complain(observations: Observations, equation: Equation, needed: list[str]) -> None:
    """Refuse observations that lack a column or value that the equation needs."""
    points = observations.points
    for name in needed:
        if name not in points:
            raise MatmlError(
                f"equation {equation.name!r} needs the column {name!r} in the observations"
            )
        empty = points[name].isna()
        if empty.any():
            row = points[empty].iloc[0]
            raise MatmlError(
                f"line {row['line']}, alloy {row['alloy']!r}: equation {equation.name!r} needs "
                f"{name}, which is empty or no number there; complete the row or leave it out"
            )


def common_reference_temperature(observations: Observations) -> float:
    """Return one reference temperature for alloys that have none: the mean of 1/T, inverted.

    In kelvin, rounded to 10 K, since it is a convention and not a measurement.
    """
    inverse = (1 / observations.points["temperature_K"]).mean()
    return float(round(1 / inverse, -1))


def residual_function(equation: Equation, kind: str) -> Residual:
    """Return `residual(z, columns)`, prediction minus target, for `matml.meta.hierarchical`."""

    def residual(position: Tensor, columns: Data) -> Tensor:
        return equation.predict(kind, position, columns) - columns["target"]

    return residual
