"""Observations as padded tensors, a task per alloy, and what is known of alloys as features."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.tasks import Columns, Pointwise, Tasks
from matml.core.errors import MatmlError
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.quadrature import path_columns
from matml.kinetics.data.thermal_history import History
from matml.kinetics.equations.form.declaration import Equation, Observable
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


PROCESS_SCALES = {"austenitising_temperature_C": 30.0, "grain_size_ASTM": 1.0}
"""Numeric columns besides the composition that distinguish alloys, with a small difference."""

COMPOSITION_SCALE = 0.1
"""A small difference in the root of an amount in percent.

The root, since the first tenths of a percent of an element do more than the following ones.
"""


def to_tasks(
    observations: Observations, equation: Equation, reference_temperature_K: float | None = None
) -> Tasks:
    """Return a task per alloy: columns that the equation needs, and `target`, float64.

    The target is the measured value on the residual scale; the known variance is the square of the
    given sigma, 0 where none is given.

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
    residual = residual_function(equation, observations.kind)
    observable = equation.observable(observations.kind)
    points = with_alloy_inputs(observations, observable)
    inputs = [i.name for i in observable.inputs if i.name != "reference_temperature_K"]
    needed = list(dict.fromkeys([*inputs, observable.column]))
    _complain(points, equation.name, needed)
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
    variance = torch.from_numpy(sigma).square()
    return Tasks(residual, tensors, torch.from_numpy(mask), variance)


def residual_function(equation: Equation, kind: str) -> Pointwise:
    """Return `residual(z, columns)`, prediction minus target on the residual scale."""

    def residual(position: Tensor, columns: Columns) -> Tensor:
        return equation.predict(kind, position, columns) - columns["target"]

    return residual


def other_inputs(observable: Observable) -> list[str]:
    """Return the columns that a prediction needs besides temperature, time and fraction."""
    usual = {"temperature_K", "time_s", "fraction", "reference_temperature_K"}
    return [i.name for i in observable.inputs if i.name not in usual]


def with_alloy_inputs(observations: Observations, observable: Observable) -> pd.DataFrame:
    """Return the points with inputs that belong to the alloy (composition) from its table.

    An element without a column, or not given, counts as absent.
    """
    points, alloys = observations.points, observations.alloys.set_index("alloy")
    for name in other_inputs(observable):
        amount = name.endswith(("_wt_pct", "_at_pct"))
        if name not in points and (name in alloys or amount):
            empty = pd.Series(np.nan, index=alloys.index)
            values = pd.to_numeric(alloys.get(name, empty), errors="coerce")
            values = values.fillna(0.0) if amount else values
            points = points.assign(**{name: points["alloy"].map(values)})
    return points


def _on_paths(points: pd.DataFrame, histories: dict[str, History]) -> pd.DataFrame:
    """Return the points with the nodes of their paths, and temperatures by them.

    An average of observations (`downsample`) lies on the path, though its mean temperature may not.
    """
    points = points.reset_index(drop=True)
    temperature = points["temperature_K"].to_numpy(float).copy()
    for name, rows in points.groupby("path").groups.items():
        if name:
            temperature[rows] = histories[str(name)].at(points["time_s"].to_numpy(float)[rows])
    points = points.assign(temperature_K=temperature)
    return pd.concat([points, path_columns(points, histories)], axis=1)


def _complain(points: pd.DataFrame, equation: str, needed: list[str]) -> None:
    """Refuse observations that lack a column or value that the equation needs."""
    for name in needed:
        if name not in points:
            raise MatmlError(
                f"equation {equation!r} needs the column {name!r} in the observations, or, "
                "where it belongs to the alloy, in the table of alloys"
            )
        empty = points[name].isna()
        if empty.any():
            row = points[empty].iloc[0]
            raise MatmlError(
                f"line {row['line']}, alloy {row['alloy']!r}: equation {equation!r} needs "
                f"{name}, which is empty or no number there; complete the row or leave it out"
            )


def common_reference_temperature(observations: Observations) -> float:
    """Return one reference temperature for alloys that have none: the mean of 1/T, inverted.

    In kelvin, rounded to 10 K, since it is a convention and not a measurement, but never outside
    of the data: a single temperature is its own.
    """
    temperature = observations.points["temperature_K"]
    rounded = round(1 / (1 / temperature).mean(), -1)
    return float(min(max(rounded, temperature.min()), temperature.max()))


@dataclass(frozen=True)
class Features:
    """How a row of the table of alloys becomes features: (root of amount - centre) / scale.

    Attributes
    ----------
    columns
        Composition and process columns of the training alloys.
    centre, scale
        Of each.
    """

    columns: list[str]
    centre: list[float]
    scale: list[float]

    def of(self, alloys: pd.DataFrame) -> Tensor:
        """Return features [B, F] of alloys.

        An amount that is not given counts as zero where others are; an alloy without any
        composition has NaN throughout. A process value that is not given is the average.
        """
        table = alloys.reindex(columns=self.columns)
        values = _transformed(table)
        amounts = np.array([name not in PROCESS_SCALES for name in self.columns], dtype=bool)
        nothing = np.isnan(values[:, amounts]).all(1) if amounts.any() else np.zeros(0, dtype=bool)
        values = np.where(np.isnan(values) & amounts, 0.0, values)
        features = (values - np.array(self.centre)) / np.array(self.scale)
        features = np.where(np.isnan(features), 0.0, features)
        if amounts.any():
            features[nothing] = np.nan
        return torch.from_numpy(features.reshape(len(alloys), len(self.columns)))

    @staticmethod
    def learn(alloys: pd.DataFrame) -> "Features":
        """Return the features of training alloys: columns that differ among them."""
        candidates = [n for n in [*composition_columns(alloys), *PROCESS_SCALES] if n in alloys]
        numbers = alloys[candidates].apply(pd.to_numeric, errors="coerce")
        names = numbers.columns[numbers.max() > numbers.min()].tolist()
        values = _transformed(alloys[names])
        amounts = np.array([name not in PROCESS_SCALES for name in names], dtype=bool)
        values = np.where(np.isnan(values) & amounts, 0.0, values)
        least = [PROCESS_SCALES.get(name, COMPOSITION_SCALE) for name in names]
        return Features(
            names,
            np.nanmean(values, axis=0).tolist() if names else [],
            np.maximum(np.nanstd(values, axis=0), least).tolist() if names else [],
        )


def _transformed(table: pd.DataFrame) -> np.ndarray:
    """Return the columns as numbers, amounts by their root, [B, F]."""
    numbers = table.apply(pd.to_numeric, errors="coerce")
    values = np.array(numbers, dtype=float).reshape(table.shape)
    for i, name in enumerate(table.columns):
        if name not in PROCESS_SCALES:
            values[:, i] = np.sqrt(np.maximum(values[:, i], 0.0))
    return values
