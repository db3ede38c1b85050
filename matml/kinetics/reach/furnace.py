"""What a furnace can do, and what a trial in it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field, model_validator

from matml.core.settings import Section
from matml.kinetics.data.units import ZERO_CELSIUS

if TYPE_CHECKING:
    from torch import Tensor

Cost: TypeAlias = Literal["trials", "time", "energy"]
"""What is to be little."""

ROOM_C = 20.0


class Furnace(Section):
    """A furnace, as its YAML file says; where it gives no range, the population's holds.

    kWh and kW are by kelvin above room temperature.
    """

    lowest_C: float | None = Field(default=None, description="coldest setting, C")
    highest_C: float | None = Field(default=None, description="hottest setting, C")
    shortest_s: float | None = Field(default=None, gt=0, description="shortest hold, s")
    longest_s: float | None = Field(default=None, gt=0, description="longest hold, s")
    between_s: float = Field(default=1800.0, ge=0, description="s between holds")
    kWh_per_K: float = Field(default=0.005, ge=0, description="to heat the furnace")
    kW_per_K: float = Field(default=0.002, ge=0, description="lost while holding")
    drift_K: float = Field(default=0.0, ge=0, description="deviation of temperature, by run")

    @model_validator(mode="after")
    def _rising(self) -> Furnace:
        for low, high in (("lowest_C", "highest_C"), ("shortest_s", "longest_s")):
            ends = getattr(self, low), getattr(self, high)
            if None not in ends and ends[0] >= ends[1]:
                raise ValueError(
                    f"{low} = {ends[0]:g} is not below {high} = {ends[1]:g}: exchange the two"
                )
        return self

    def cost(self, kind: Cost, temperature_K: Tensor, time_s: Tensor) -> Tensor:
        """Return what trials cost: 1 each, or their hours, or kWh."""
        if kind == "trials":
            return time_s.new_ones(time_s.shape)
        if kind == "time":
            return (self.between_s + time_s) / 3600
        above = (temperature_K - ZERO_CELSIUS - ROOM_C).clamp(min=1.0)
        return above * (self.kWh_per_K + self.kW_per_K * time_s / 3600)
