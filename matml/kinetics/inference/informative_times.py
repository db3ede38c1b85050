"""What the times at which fractions were measured tell about an alloy.

Whoever measures a fraction chooses times at which the transformation is under way: slow alloys are
looked at late, steep curves at close times. Taking times as given is then biased towards flat
curves: one measured fraction bounds ln t50 to a range proportional to 1/n, so that small n has more
room. Where times follow the transformation, ln t has the density df / d ln t of the curve itself,
which takes that room away (the likelihood of an informative design, as of a choice-based sample:
Manski and Lerman, Econometrica 45 (1977) 1977).
"""

import math
from dataclasses import dataclass

from torch import Tensor

from matml.bayes.tasks import Columns, Tasks
from matml.kinetics.equations.form.declaration import Equation

STEP = 0.02
"""Of the central difference in ln t."""


@dataclass(frozen=True)
class Timing:
    """Log density of the times of measured fractions, given the alloy's parameters.

    A mixture over ln t: the part `informative` of the times follows the transformation, with the
    density df / d ln t, the rest are spread over the whole range, whatever the alloy. On a ramp or
    path its rate is chosen and not the time, which then says nothing.

    Attributes
    ----------
    equation
        Of the fraction.
    informative
        Part of the times, between 0 and 1.
    span
        Width of the range of ln t.
    """

    equation: Equation
    informative: float
    span: float

    def __call__(self, position: Tensor, columns: Columns) -> Tensor:
        """Return log densities [...] at parameters [..., P]."""
        held = self._held(columns)
        if held is not None and not held.any():
            return held * position.new_zeros(position.shape[:-1])
        # behind the equation's own there may be offsets of runs
        position = position[..., : len(self.equation.parameters)]
        early, late = (
            self.equation.predict(
                "fraction",
                position,
                {**columns, "time_s": columns["time_s"] * math.exp(sign * STEP)},
            )
            for sign in (-1, 1)
        )
        slope = ((late - early) / (2 * STEP)).clamp(min=0.0)
        value = (self.informative * slope + (1 - self.informative) / self.span).log()
        return value if held is None else value * held

    def _held(self, columns: Columns) -> Tensor | None:
        """Return which observations were held at their temperature; None where all were."""
        held = None
        for name, temperature in columns.items():
            if name == "start_temperature_K" or name.startswith("path_temperature_"):
                here = temperature == columns["temperature_K"]
                held = here if held is None else held & here
        return held


def timing_candidates(
    equation: Equation, kind: str, tasks: Tasks, parts: tuple[float, ...]
) -> list[Timing | None]:
    """Return what may be assumed of the times of training alloys, first that they say nothing."""
    if kind != "fraction":
        return [None]
    times = tasks.columns["time_s"][tasks.mask > 0]
    # at least three decades: training alloys may all be alike
    span = max(float(times.log().max() - times.log().min()), math.log(1e3))
    return [None, *(Timing(equation, part, span) for part in parts)]
