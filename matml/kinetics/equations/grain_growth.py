"""Grain growth: (d^m - d0^m) = K t with an Arrhenius rate."""

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    GAS_CONSTANT,
    LN2,
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.types import Input, Inputs, Values

INITIAL_GRAIN = Input("initial_grain_size_um", "um")


def _log_doubling_time(values: Values, inputs: Inputs) -> Tensor:
    """Return ln of the time in s in which a grain of 10 um doubles at the inputs' temperatures."""
    inverse = 1 / inputs["temperature_K"] - 1 / inputs["reference_temperature_K"]
    energy = values["activation_energy_kJ_mol"] * 1000
    return values["doubling_time_s"].log() + energy / GAS_CONSTANT * inverse


def _grain_log10(values: Values, inputs: Inputs) -> Tensor:
    """Return log10 of the grain size in micrometres after holding."""
    doubling = _log_doubling_time(values, inputs)
    exponent = values["growth_exponent"]
    # in units of a grain of 10 um: the time in which one of that size doubles
    growth = (exponent * LN2).expm1() * (inputs["time_s"].log() - doubling).exp()
    start = inputs["initial_grain_size_um"] / 10
    return (start.log() + torch.log1p(growth / start**exponent) / exponent) / 2.302585092994046 + 1


GRAIN_GROWTH = Equation(
    name="grain_growth",
    title="Grain growth with Arrhenius rate",
    source="Beck, Kremer, Demer and Holzworth, Trans. AIME 175 (1948) 372",
    parameters=(
        Parameter(
            "doubling_time_s",
            "s",
            1.0,
            1e6,
            1000.0,
            "log",
            "time in which a grain of 10 um doubles at the reference temperature",
        ),
        Parameter("activation_energy_kJ_mol", "kJ/mol", 80.0, 600.0, 250.0, "log", "of the rate K"),
        Parameter("growth_exponent", "", 2.0, 10.0, 3.0, "log", "m of d^m - d0^m = K t"),
    ),
    observables={
        "grain_size": Observable(
            "grain_size_um",
            "log10 um",
            (TEMPERATURE, TIME, INITIAL_GRAIN, REFERENCE),
            _grain_log10,
            lambda measured: measured.log10(),
            0.05,
            log_time_scale=_log_doubling_time,
        )
    },
    needs_reference_temperature=True,
)
