"""Settings of the kinetics."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from matml.core.settings import Section


class KineticsDataset(Section):
    """One set of observations and the equation it is described by."""

    equation: str = Field(
        min_length=1,
        description="Kinetic equation by name, or a Python file that defines EQUATION.",
    )
    simulate: Literal["jmak", "ttt"] | None = Field(
        default=None, description="Simulate this set of published alloys instead of reading one."
    )
    observations: Path | None = Field(default=None, description="CSV of observations.")
    alloys: Path | None = Field(default=None, description="CSV with one row per alloy.")

    @model_validator(mode="after")
    def one_source(self) -> Self:
        """Refuse a data set with no source or two."""
        if (self.simulate is None) == (self.observations is None):
            raise ValueError("give either `simulate` or `observations`")
        return self


class KineticsSimulation(Section):
    """Simulated observations of published alloys."""

    jmak_table: Path = Field(
        default=Path("data/kinetics/published_jmak.csv"),
        description="Published JMAK exponents and activation energies.",
    )
    steel_table: Path = Field(
        default=Path("data/kinetics/aisi_steels.csv"),
        description="Nominal compositions of steels, wt %.",
    )
    conditions: int = Field(
        default=2, ge=1, le=20, description="Simulated conditions (half times) per JMAK alloy."
    )
    fraction_noise: float = Field(
        default=0.03, ge=0, le=0.3, description="Standard deviation of a transformed fraction."
    )
    time_noise: float = Field(
        default=0.05, ge=0, le=1, description="Standard deviation of a TTT time, log10 of s."
    )
    temperature_noise: float = Field(
        default=1.5, ge=0, le=50, description="Standard deviation of a TTT temperature, K."
    )


class KineticsSection(Section):
    """Kinetic equations across alloys (`matml kinetics …`)."""

    datasets: dict[str, KineticsDataset] = Field(
        default={
            "simulated_jmak": KineticsDataset(equation="jmak", simulate="jmak"),
            "simulated_ttt": KineticsDataset(equation="c_curve", simulate="ttt"),
        },
        min_length=1,
        description="Data sets by name; the name is also the folder of their results.",
    )

    @field_validator("datasets")
    @classmethod
    def _names_are_folders(cls, value: dict[str, KineticsDataset]) -> dict[str, KineticsDataset]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise ValueError(f"the name {name!r} must be letters, digits, '_', '-' and '.'")
        return value

    simulation: KineticsSimulation = KineticsSimulation()
    pseudo_tasks: float = Field(
        default=2.0, ge=0, le=100, description="Weight of the generic covariance, in alloys."
    )
    meta_batches: int = Field(
        default=30, ge=1, le=100_000, description="Meta-batches of MAML and Meta-SGD."
    )
    meta_tasks: int = Field(default=3, ge=1, le=64, description="Alloys in a meta-batch.")
    inner_steps: int = Field(default=8, ge=1, le=100, description="Gradient steps on an alloy.")
    inner_rate: float = Field(
        default=0.5, gt=0, le=10, description="(Initial) rate of those steps; 1 is a full step."
    )
    held_out: float = Field(
        default=0.15, gt=0, lt=0.9, description="Share of composition groups held out of learning."
    )
    calibration_points: int = Field(
        default=5, ge=1, le=1000, description="Observations used to calibrate a held-out alloy."
    )
    calibrated_alloys: int = Field(
        default=2, ge=1, le=1000, description="Held-out alloys to calibrate, at most."
    )
    shots: list[Annotated[int, Field(ge=1)]] = Field(
        default=[1, 2, 3, 5, 10], min_length=1, description="Observations given in the benchmark."
    )
    draws: int = Field(default=6, ge=1, le=1000, description="Random draws per alloy and shots.")
    folds: int = Field(default=3, ge=2, le=100, description="Grouped folds over alloys.")
