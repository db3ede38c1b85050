"""What diagrams of an alloy are of: the quantities on their axes, and what is told of the alloy."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.figures.figure import Axis
from matml.kinetics.data.units import ZERO_CELSIUS

TTT_COLUMNS = frozenset(("fraction", "temperature_C", "time_s", "low_90_s", "high_90_s"))
CCT_COLUMNS = ("fraction", "cooling_rate_K_s", "time_s", "temperature_C", "low_90_C", "high_90_C")
SLOWEST_K_S = 1e-3
"""Cooling rate below which no CCT curve is drawn."""


@dataclass(frozen=True)
class Level:
    """A quantity that is drawn as a level over temperature, for some times."""

    column: str
    words: str
    unit: str
    title: str
    over: str
    log: bool = False

    @property
    def shown_unit(self) -> str:
        """The unit for people; tables have `um`."""
        return self.unit.replace("um", "µm")


HARDNESS = "hardness_HRC", "hardness", "HRC", "Hardness after tempering"
GRAIN_SIZE = "grain_size_um", "grain size", "um", "Grain size after annealing"
LEVELS = {
    "hardness": Level(*HARDNESS, "tempering temperature (°C)"),
    # grain sizes are compared by their logarithm
    "grain_size": Level(*GRAIN_SIZE, "temperature (°C)", log=True),
}
"""By kind of observation."""


@dataclass(frozen=True)
class Quantity:
    """A column on an axis of a diagram of curves, and what is taken off it."""

    column: str
    title: str
    log: bool = False
    offset: float = 0.0

    def of(self, table: pd.DataFrame) -> np.ndarray:
        """Return the column as it is drawn."""
        return table[self.column].to_numpy(float) - self.offset

    @property
    def axis(self) -> Axis:
        """The axis."""
        return Axis(self.title, log=self.log)


TIME = Quantity("time_s", "time (s)", log=True)
CELSIUS = Quantity("temperature_K", "temperature (°C)", offset=ZERO_CELSIUS)
RUN_TIME = Quantity("time_s", "time on the run's clock (s)")
ACROSS = {
    "martensite": CELSIUS,
    "peak_temperature": Quantity("heating_rate_K_per_s", "heating rate (K/s)", log=True),
    "particle_radius": TIME,
    "fraction": TIME,
}
"""What is varied, by kind."""
UP = {
    "martensite": Quantity("martensite_fraction", "martensite fraction"),
    "peak_temperature": Quantity(
        "peak_temperature_K", "peak temperature (°C)", offset=ZERO_CELSIUS
    ),
    "particle_radius": Quantity("particle_radius_nm", "mean radius (nm)", log=True),
    "fraction": Quantity("fraction_transformed", "fraction transformed"),
}
"""What is measured, by kind."""
STARTS = ("martensite_start", "bainite_start")
"""Kinds of which there is nothing to draw: one temperature."""
SHOWN = {
    "temperature_K": ("{:.0f} °C", ZERO_CELSIUS),
    "strain": ("strain {:g}", 0.0),
    "strain_rate_per_s": ("{:g} /s", 0.0),
    "initial_grain_size_um": ("{:.3g} µm", 0.0),
    "run": ("run {}", 0.0),
}
"""How a condition of a curve is told."""


@dataclass(frozen=True)
class Subject:
    """What a diagram is of.

    Attributes
    ----------
    equation
        Its title; "" where it is not known.
    observations
        How many the alloy was calibrated from; None where it is not known.
    """

    alloy: str
    simulated: bool
    equation: str = ""
    observations: int | None = None

    def title(self, what: str) -> str:
        """Return the title of a diagram."""
        return f"{what} of {self.alloy}{' (simulated data)' if self.simulated else ''}"

    @property
    def calibrated(self) -> str:
        """What was calibrated, from how much."""
        words = f"{self.equation}, calibrated" if self.equation else "calibrated"
        if self.observations is None:
            return words
        return f"{words} from {self.observations} observation{'s' * (self.observations != 1)}"


def sentence(text: str) -> str:
    """Return text with a capital first letter."""
    return text[:1].upper() + text[1:]
