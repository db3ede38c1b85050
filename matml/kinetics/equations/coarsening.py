"""Coarsening of precipitates limited by diffusion: Lifshitz, Slyozov and Wagner.

r^3 = r0^3 + K t (J. Phys. Chem. Solids 19 (1961) 35; Z. Elektrochem. 65 (1961) 581) with an
Arrhenius rate centred on the reference temperature: ln K = ln K_ref - (Q/R)(1/T - 1/T_ref). The
weak 1/T before the exponential is part of the apparent Q.
"""

import math

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    GAS_CONSTANT,
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.types import Inputs, Values


def _minus_log_rate(values: Values, inputs: Inputs) -> Tensor:
    """Return -ln K, K in nm^3/s: ln of the time in s that 1 nm^3 takes."""
    inverse = 1 / inputs["temperature_K"] - 1 / inputs["reference_temperature_K"]
    energy = values["activation_energy_kJ_mol"] * 1000
    return energy / GAS_CONSTANT * inverse - values["rate_constant_nm3_per_s"].log()


def _log10_radius(values: Values, inputs: Inputs) -> Tensor:
    """Return log10 of the mean radius in nm, from the sum of logarithms: no cube overflows."""
    start = 3 * values["initial_radius_nm"].log()
    grown = inputs["time_s"].log() - _minus_log_rate(values, inputs)
    return torch.logaddexp(start, grown) / (3 * math.log(10.0))


LSW = Equation(
    name="lsw",
    title="Coarsening of precipitates, LSW",
    source="Lifshitz and Slyozov, J. Phys. Chem. Solids 19 (1961) 35; Wagner, Z. Elektrochem. 65 "
    "(1961) 581",
    parameters=(
        Parameter("initial_radius_nm", "nm", 0.5, 50.0, 4.0, "log", "r0: mean radius at time 0"),
        Parameter(
            "rate_constant_nm3_per_s",
            "nm^3/s",
            1e-5,
            10.0,
            1e-2,
            "log",
            "K of r^3 = r0^3 + K t at the reference temperature",
        ),
        Parameter(
            "activation_energy_kJ_mol", "kJ/mol", 80.0, 450.0, 200.0, "log", "apparent, of K"
        ),
    ),
    observables={
        "particle_radius": Observable(
            "particle_radius_nm",
            "log10 nm",
            (TEMPERATURE, TIME, REFERENCE),
            _log10_radius,
            torch.log10,
            0.04,
            log_time_scale=_minus_log_rate,
        )
    },
    needs_reference_temperature=True,
)
