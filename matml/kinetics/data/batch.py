"""Observations as padded tensors: one row per alloy, one column per observation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Data, Residual
from matml.core.errors import MatmlError
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.thermal_history import History, path_columns
from matml.kinetics.equations.form.declaration import Equation
from matml.kinetics.equations.form.history import NEAR, NEAR_STEP, PATH

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
PADDING |= dict.fromkeys([*(temperature for temperature, _ in PATH), *NEAR], 1000.0)


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
    inputs = [i.name for i in observable.inputs if i.name != "reference_temperature_K"]
    needed = list(dict.fromkeys([*inputs, observable.column]))
    points = with_alloy_inputs(observations, equation)
    _complain(points, equation, needed)
    optional = ["start_temperature_K", "run_number"]
    if "path" in points and (points["path"] != "").any():
        points = _on_paths(points, observations.paths)
        optional = ["run_number", *(name for pair in PATH for name in pair), *NEAR, NEAR_STEP]
    needed += [name for name in optional if name in points]
    blocks = [points[points["alloy"] == name] for name in observations.names]
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
        reference = observations.alloys["reference_temperature_K"].to_numpy(float, copy=True)
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


def with_alloy_inputs(observations: Observations, equation: Equation) -> pd.DataFrame:
    """Return the points with inputs that belong to the alloy (composition) from its table.

    An element without a column, or not given, counts as absent.
    """
    points, alloys = observations.points, observations.alloys.set_index("alloy")
    for name in other_inputs(equation, observations.kind):
        amount = name.endswith(("_wt_pct", "_at_pct"))
        if name not in points and (name in alloys or amount):
            empty = pd.Series(np.nan, index=alloys.index)
            values = pd.to_numeric(alloys.get(name, empty), errors="coerce")
            values = values.fillna(0.0) if amount else values
            points = points.assign(**{name: points["alloy"].map(values)})
    return points


def _on_paths(points: pd.DataFrame, histories: dict[str, History]) -> pd.DataFrame:
    """Return the points with the nodes of their paths, and temperatures by them.

    An average of observations (`thinning`) lies on the path, though its mean temperature may not.
    """
    points = points.reset_index(drop=True)
    temperature = points["temperature_K"].to_numpy(float).copy()
    for name, rows in points.groupby("path").groups.items():
        if name:
            temperature[rows] = histories[name].at(points["time_s"].to_numpy(float)[rows])
    points = points.assign(temperature_K=temperature)
    return pd.concat([points, path_columns(points, histories)], axis=1)


def _complain(points: pd.DataFrame, equation: Equation, needed: list[str]) -> None:
    """Refuse observations that lack a column or value that the equation needs."""
    for name in needed:
        if name not in points:
            raise MatmlError(
                f"equation {equation.name!r} needs the column {name!r} in the observations, or, "
                "where it belongs to the alloy, in the table of alloys"
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
    """Return `residual(z, columns)`, prediction minus target, for `matml.bayes.empirical_bayes`."""

    def residual(position: Tensor, columns: Data) -> Tensor:
        return equation.predict(kind, position, columns) - columns["target"]

    return residual
