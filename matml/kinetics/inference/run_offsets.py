"""Errors that all observations of a run share: of the specimen's temperature, and of the start.

A thermocouple a few kelvin off, or a specimen that reached its temperature later than the clock was
started, moves every point of a run the same way. Each run's offset is a parameter more, normal with
the standard deviation that the user states, so that it is estimated along with the alloy's
parameters and their intervals become as wide as it makes them.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.task_prior import TaskPriors
from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations.form.declaration import Equation, Observable, Parameter
from matml.kinetics.equations.form.history import (
    LATE,
    LATE_NODES,
    NEAR,
    NEAR_STEP,
    NEAR_STEPS,
    PATH,
)
from matml.kinetics.equations.form.types import Inputs, Values

EARLIEST_FRACTION = 0.01
"""Fraction of a time that is left at least when a late start is taken off it."""

FARTHEST = 4.0
"""Standard deviations of an offset of time up to which a path's temperatures are followed."""

LEGENDRE = tuple(
    zip(*(part.tolist() for part in np.polynomial.legendre.leggauss(LATE_NODES)), strict=True)
)


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

    def to_record(self) -> dict[str, float]:
        """Return them for the data card of a population; empty without any."""
        if not self:
            return {}
        return {"offset_temperature_K": self.temperature_K, "offset_time_s": self.time_s}

    @staticmethod
    def of_card(card: dict[str, Any]) -> "RunOffsets":
        """Return those that a population was learned with."""
        return RunOffsets(card.get("offset_temperature_K", 0.0), card.get("offset_time_s", 0.0))


NO_OFFSETS = RunOffsets()


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
        mean, inner = self.population.component(number)
        covariance = torch.eye(self.mean.shape[1], dtype=inner.dtype).repeat(len(inner), 1, 1)
        covariance[:, : inner.shape[1], : inner.shape[1]] = inner
        return torch.nn.functional.pad(mean, (0, self.offsets)), covariance

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


def with_run_numbers(
    observations: Observations, offsets: RunOffsets, known: list[str] | None = None
) -> tuple[Observations, list[str]]:
    """Return the observations of one alloy numbered by their runs (column `run_number`), and these.

    Parameters
    ----------
    offsets
        Those of time say how far around an observation its path counts.
    known
        Runs that were observed before: others are all numbered as the one after them, a new run.

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
    runs = known
    if runs is None:
        runs = [name for name in dict.fromkeys(points["run"]) if name]
    numbers = {name: float(number) for number, name in enumerate(runs)}
    found = points["run"].map(numbers).fillna(float(len(runs)))
    # rows without a run share nothing
    points = points.assign(run_number=found.where(points["run"] != "", -1.0))
    if offsets.time_s > 0:
        points[NEAR_STEP] = 2 * FARTHEST * offsets.time_s / NEAR_STEPS
    return replace(observations, points=points), runs


def with_run_numbers_of_each(
    observations: Observations, offsets: RunOffsets
) -> tuple[Observations, int]:
    """Return the observations, each alloy's numbered by its own runs, and the most of an alloy."""
    numbered = [with_run_numbers(observations.select([n]), offsets) for n in observations.names]
    points = pd.concat([own.points for own, _ in numbered], ignore_index=True)
    return replace(observations, points=points), max(len(runs) for _, runs in numbered)


@dataclass(frozen=True)
class Shift:
    """What the conditions of observations were, given the offsets of their runs.

    Observations carry the number of their run in the input `run_number`; without that input, or
    with -1, nothing is shifted.

    A specimen whose clock starts late has come at a recorded time t as far as its history t - late:
    it goes through the same temperatures later. On a ramp the rate stays, on a path the end of its
    integral is left out (`base.LATE`).

    Attributes
    ----------
    temperature, time
        Parameters of the offsets by number of the run.
    """

    temperature: dict[int, str] = field(default_factory=dict)
    time: dict[int, str] = field(default_factory=dict)

    def __call__(self, values: Values, inputs: Inputs) -> Inputs:
        """Return the inputs with temperatures and times as they were."""
        if "run_number" not in inputs:
            return inputs
        moved = dict(inputs)
        if self.time and "time_s" in inputs:
            time, late = inputs["time_s"], self.offset("time", values, inputs)
            moved["time_s"] = torch.maximum(time - late, EARLIEST_FRACTION * time)
            if PATH[0][0] in inputs:
                moved |= _until(time - moved["time_s"], inputs)
            elif "start_temperature_K" in inputs:
                start = inputs["start_temperature_K"]
                share = moved["time_s"] / time
                moved["temperature_K"] = start + (inputs["temperature_K"] - start) * share
        if self.temperature:
            hotter = self.offset("temperature", values, inputs)
            for name in ("temperature_K", "start_temperature_K", *(t for t, _ in (*PATH, *LATE))):
                if name in moved:
                    moved[name] = moved[name] + hotter
        return moved

    def offset(self, what: str, values: Values, inputs: Inputs) -> Tensor | float:
        """Return the offsets of observations: of "temperature" in K, of "time" in s."""
        total: Tensor | float = 0.0
        for number, name in getattr(self, what).items():
            here = inputs["run_number"] == number
            total = total + torch.where(here, values[name], torch.zeros_like(values[name]))
        return total

    def __or__(self, other: "Shift") -> "Shift":
        """Return both together."""
        return Shift(self.temperature | other.temperature, self.time | other.time)


def _until(late: Tensor, inputs: Inputs) -> dict[str, Tensor]:
    """Return the inputs of a path that is `late` s behind at an observation's recorded time.

    Between the steps of `base.NEAR` its temperature is straight; farther away it is the last one's.
    """
    time, step = inputs["time_s"], inputs[NEAR_STEP]
    left = time - late
    near = torch.stack([inputs[name] for name in NEAR], -1)
    near = near.expand(*late.shape, len(NEAR))

    def at(behind: Tensor) -> Tensor:
        place = (NEAR_STEPS / 2 - behind / step).clamp(0, NEAR_STEPS)
        index = place.detach().floor().long().clamp(max=NEAR_STEPS - 1)[..., None]
        low, high = near.gather(-1, index)[..., 0], near.gather(-1, index + 1)[..., 0]
        return low + (high - low) * (place - index[..., 0])

    found = {"temperature_K": at(late)}
    # fractions are of the time that is left
    found |= {share: inputs[share] * time / left for _, share in PATH}
    for (node, weight), (temperature, share) in zip(LEGENDRE, LATE, strict=True):
        found[temperature] = at(late * (1 + node) / 2)
        found[share] = -weight / 2 * late / left
    return found


def with_run_offsets(
    equation: Equation, runs: list[str], offsets: RunOffsets, first: int = 0
) -> Equation:
    """Return the equation with offsets of each run as further parameters (`Shift`).

    `first` is the number of the first run.
    """
    extra: list[Parameter] = []
    names: dict[str, dict[int, str]] = {}
    for column, unit, size, meaning in (
        ("temperature", "K", offsets.temperature_K, "specimen's temperature less the recorded one"),
        ("time", "s", offsets.time_s, "start of the reaction's clock on the recorded one"),
    ):
        own = [f"{column}_offset_{unit} of run {run}" for run in runs] if size else []
        names[column] = dict(enumerate(own, first))
        # the standardised scale is a quarter of the range: one standard deviation
        extra += [
            Parameter(name, unit, -2 * size, 2 * size, 0.0, "identity", meaning) for name in own
        ]
    shift = Shift(**names)

    def later(plain: Observable) -> Observable:
        """A measured time is shifted itself."""
        if plain.column != "time_s" or not shift.time:
            return plain

        def predict_time(values: Values, inputs: Inputs) -> Tensor:
            value = plain.predict(values, inputs)
            if "run_number" not in inputs:
                return value
            time = 10**value
            recorded = time + shift.offset("time", values, inputs)
            return torch.maximum(recorded, EARLIEST_FRACTION * time).log10()

        return replace(plain, predict=predict_time)

    known = equation.conditions
    assert known is None or isinstance(known, Shift)
    return replace(
        equation,
        parameters=(*equation.parameters, *extra),
        observables={kind: later(plain) for kind, plain in equation.observables.items()},
        conditions=shift if known is None else known | shift,
    )


def with_a_new_run(
    equation: Equation, draws: Tensor, runs: list[str], offsets: RunOffsets, seed: int
) -> tuple[Equation, Tensor]:
    """Return the equation and draws [..., S, P] with the offsets of one run more, from their prior.

    Observations of it are numbered `len(runs)`; `equation` and `draws` have the others' already.
    """
    wider = with_run_offsets(equation, ["a new one"], offsets, first=len(runs))
    count = len(wider.parameters) - len(equation.parameters)
    generator = torch.Generator().manual_seed(seed)
    new = torch.randn((*draws.shape[:-1], count), generator=generator, dtype=draws.dtype)
    return wider, torch.cat([draws, new], -1)


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
            more = ": more than stated; check this run" if far else ""
            notes.append(f"{name}: {middle:+.3g} ({low:+.3g} to {high:+.3g}){more}")
    return notes
