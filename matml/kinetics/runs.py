"""Errors that all observations of a run share: of the specimen's temperature, and of the start.

A thermocouple a few kelvin off, or a specimen that reached its temperature later than the clock was
started, moves every point of a run the same way. Each run's offset is a parameter more, normal with
the standard deviation that the user states, so that it is estimated along with the alloy's
parameters and their intervals become as wide as it makes them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matml.errors import MatmlError
from matml.kinetics.equations.base import Equation, Inputs, Observable, Parameter, Values
from matml.kinetics.observations import Observations
from matml.kinetics.population import NORMAL_90
from matml.meta.conditioned import TaskPriors

EARLIEST_SHARE = 0.01
"""Share of a time that is left at least when a late start is taken off it."""


@dataclass(frozen=True)
class RunOffsets:
    """Standard deviations of what the observations of a run share; zero for none.

    Attributes
    ----------
    temperature_K
        Of the specimen's temperature less the recorded one.
    time_s
        Of the time at which the reaction's clock started, on the recorded clock.
    """

    temperature_K: float = 0.0
    time_s: float = 0.0

    def __bool__(self) -> bool:
        return self.temperature_K > 0 or self.time_s > 0


@dataclass(frozen=True)
class OffsetPriors(TaskPriors):
    """A population's prior with standard normal offsets, independent of it, appended.

    Attributes
    ----------
    offsets
        How many of the last parameters are offsets.
    """

    offsets: int = 0

    @property
    def population(self) -> TaskPriors:
        """The prior without the offsets."""
        size = self.mean.shape[1] - self.offsets
        fields = {name: getattr(self, name) for name in TaskPriors.__dataclass_fields__}
        fields |= {"mean": self.mean[:, :size], "covariance": self.covariance[:size, :size]}
        return TaskPriors(**fields)

    def component(self, number: int) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of a component: its factor widens the population alone."""
        inner = self.population.component(number)[1]
        covariance = torch.eye(self.mean.shape[1], dtype=inner.dtype).repeat(len(inner), 1, 1)
        covariance[:, : inner.shape[1], : inner.shape[1]] = inner
        return self.mean, covariance

    def half_width(self, content: float) -> Tensor:
        """Return half widths of central intervals [B, P]."""
        inner = self.population.half_width(content)
        own = torch.special.ndtri(inner.new_tensor((1 + content) / 2))
        return torch.cat([inner, own.expand(len(inner), self.offsets)], 1)

    def log_components(self, points: Tensor) -> Tensor:
        """Return log densities of points [B, S, P] under each component, [B, S, C]."""
        size = points.shape[-1] - self.offsets
        own = (points[..., size:].square() + math.log(2 * math.pi)).sum(-1) / 2
        return self.population.log_components(points[..., :size]) - own[..., None]


def append_offsets(priors: TaskPriors, count: int) -> OffsetPriors:
    """Return the priors with so many standardised offsets appended."""
    size = priors.mean.shape[1]
    covariance = torch.eye(size + count, dtype=priors.covariance.dtype)
    covariance[:size, :size] = priors.covariance
    fields = {name: getattr(priors, name) for name in TaskPriors.__dataclass_fields__}
    mean = torch.nn.functional.pad(priors.mean, (0, count))
    return OffsetPriors(**fields | {"mean": mean, "covariance": covariance}, offsets=count)


def number_runs(observations: Observations) -> list[str]:
    """Return the runs of one alloy, and number the observations by them (column `run_number`).

    Raises
    ------
    MatmlError
        Where the observations say nothing of runs.
    """
    points = observations.points
    if "run" not in points:
        raise MatmlError(
            "an offset shared by a run needs the column 'run' in the observations: the specimen or "
            "record that a row belongs to"
        )
    runs = [name for name in dict.fromkeys(points["run"]) if name]
    numbers = {name: number for number, name in enumerate(runs)}
    # rows without a run share nothing
    observations.points = points.assign(run_number=points["run"].map(numbers).fillna(-1.0))
    return runs


def with_run_offsets(
    equation: Equation, kind: str, runs: list[str], offsets: RunOffsets
) -> Equation:
    """Return the equation with offsets of each run as further parameters.

    Observations carry the number of their run in the input `run_number`; without that input, or
    with -1, nothing is shifted.
    """
    extra: list[Parameter] = []
    names: dict[str, list[str]] = {}
    for column, unit, size, meaning in (
        ("temperature", "K", offsets.temperature_K, "specimen's temperature less the recorded one"),
        ("time", "s", offsets.time_s, "start of the reaction's clock on the recorded one"),
    ):
        names[column] = [f"{column}_offset_{unit} of run {run}" for run in runs] if size else []
        # the standardised scale is a quarter of the range: one standard deviation
        extra += [
            Parameter(name, unit, -2 * size, 2 * size, 0.0, "identity", meaning)
            for name in names[column]
        ]

    def offset(values: Values, inputs: Inputs, column: str) -> Tensor | float:
        total: Tensor | float = 0.0
        for number, name in enumerate(names[column]):
            here = inputs["run_number"] == number
            total = total + torch.where(here, values[name], torch.zeros_like(values[name]))
        return total

    def shifted(values: Values, inputs: Inputs) -> Inputs:
        if "run_number" not in inputs:
            return inputs
        moved = {
            **inputs,
            "temperature_K": inputs["temperature_K"] + offset(values, inputs, "temperature"),
        }
        if "time_s" in inputs:
            time = inputs["time_s"]
            late = offset(values, inputs, "time")
            moved["time_s"] = torch.maximum(time - late, EARLIEST_SHARE * time)
        return moved

    def wrap(function: Callable) -> Callable:
        return lambda values, inputs, *rest: function(values, shifted(values, inputs), *rest)

    plain = equation.observable(kind)
    predict = wrap(plain.predict)
    if plain.column == "time_s":

        def predict_time(values: Values, inputs: Inputs) -> Tensor:
            value = plain.predict(values, shifted(values, inputs))
            if "run_number" not in inputs or not names["time"]:
                return value
            time = 10**value
            recorded = time + offset(values, inputs, "time")
            return torch.maximum(recorded, EARLIEST_SHARE * time).log10()

        predict = predict_time
    observable: Observable = replace(
        plain,
        predict=predict,
        unsaturated=wrap(plain.unsaturated) if plain.unsaturated else None,
        log_time_scale=wrap(plain.log_time_scale) if plain.log_time_scale else None,
    )
    return replace(
        equation,
        parameters=(*equation.parameters, *extra),
        observables={**equation.observables, kind: observable},
    )


def offset_notes(names: list[str], draws: Tensor, sizes: list[float]) -> list[str]:
    """Return a sentence for each run whose offset is probably not zero.

    Parameters
    ----------
    names, draws, sizes
        Offsets' names, posterior draws of them standardised [S, R], and standard deviations.
    """
    notes = []
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
        low, middle, high = (
            size * draws[:, i].quantile(draws.new_tensor([0.05, 0.5, 0.95]))
        ).tolist()
        if low > 0 or high < 0:
            far = abs(middle) > NORMAL_90 * size
            more = ": more than stated, look at this run" if far else ""
            notes.append(f"{name}: {middle:+.3g} ({low:+.3g} to {high:+.3g}){more}")
    return notes
