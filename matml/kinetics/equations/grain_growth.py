"""Recrystallisation, grain growth, coarsening, and peak temperatures: closed forms in torch.

Each takes float64 tensors that broadcast, batched over alloys, and is differentiable.
"""

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


def sellars_half_time(
    temperature_K: Tensor,
    strain: Tensor,
    strain_rate_per_s: Tensor,
    grain_size_um: Tensor,
    *,
    factor: Tensor | float,
    grain_exponent: Tensor | float,
    strain_exponent: Tensor | float,
    rate_exponent: Tensor | float,
    activation_energy_kJ_mol: Tensor | float,
) -> Tensor:
    """Return the time in s to half static recrystallisation.

    t50 = A d^s strain^-p rate^-r exp(Q / RT) (Sellars and Whiteman, Met. Sci. 13 (1979) 187; for
    C-Mn steels A = 2.3e-15 s, s = 2, p = 2.5, r = 0, Q = 230 kJ/mol: Hodgson and Gibbs, ISIJ Int.
    32 (1992) 1329). Give the grain size in the unit of A, usually micrometres.
    """
    energy = 1000 * activation_energy_kJ_mol / (GAS_CONSTANT * temperature_K)
    return (
        factor
        * grain_size_um**grain_exponent
        * strain ** (-strain_exponent)
        * strain_rate_per_s ** (-rate_exponent)
        * torch.exp(energy)
    )


def recrystallised_fraction(time_s: Tensor, half_time_s: Tensor, exponent: Tensor) -> Tensor:
    """Return 1 - exp[-ln 2 (t / t50)^n], Sellars' form of JMAK."""
    return -torch.expm1(-LN2 * (time_s / half_time_s) ** exponent)


def grown_grain_size(
    initial: Tensor, rate: Tensor, time_s: Tensor, exponent: Tensor | float
) -> Tensor:
    """Return (d0^m + K t)^(1/m), the grain size in the unit of d0.

    Beck, Kremer, Demer and Holzworth, Trans. AIME 175 (1948) 372; m = 2 is Burke and Turnbull's.
    Computed from the ratio to d0, since d^m of micrometres overflows at large m.
    """
    return initial * (1 + rate * time_s / initial**exponent) ** (1 / exponent)


def coarsened_radius(initial: Tensor, rate: Tensor, time_s: Tensor) -> Tensor:
    """Return (r0^3 + K t)^(1/3), coarsening limited by diffusion.

    Lifshitz and Slyozov, J. Phys. Chem. Solids 19 (1961) 35; Wagner, Z. Elektrochem. 65 (1961) 581.
    """
    return (initial**3 + rate * time_s) ** (1 / 3)


def coarsening_rate(
    interface_energy_J_m2: Tensor,
    solubility: Tensor,
    diffusivity_m2_s: Tensor,
    molar_volume_m3_mol: Tensor,
    temperature_K: Tensor,
) -> Tensor:
    """Return K = 8 gamma c D Vm / (9 R T) in m^3/s; c the mole fraction dissolved at equilibrium.

    Lifshitz, Slyozov and Wagner, for a dilute matrix of equal molar volume.
    """
    top = 8 * interface_energy_J_m2 * solubility * diffusivity_m2_s * molar_volume_m3_mol
    return top / (9 * GAS_CONSTANT * temperature_K)


def kissinger_energy(peak_temperature_K: Tensor, heating_rate_K_s: Tensor) -> tuple[Tensor, Tensor]:
    """Return (activation energy in J/mol, ln of the frequency factor in 1/s) from peaks, [..., N].

    The line of ln(rate / Tp^2) against 1 / Tp has the slope -Q/R and the intercept ln(A R / Q)
    (Kissinger, Anal. Chem. 29 (1957) 1702); least squares over the last axis.
    """
    inverse = 1 / peak_temperature_K
    ordinate = (heating_rate_K_s / peak_temperature_K**2).log()
    x = inverse - inverse.mean(-1, keepdim=True)
    slope = (x * ordinate).sum(-1) / x.square().sum(-1)
    energy = -slope * GAS_CONSTANT
    intercept = ordinate.mean(-1) - slope * inverse.mean(-1)
    return energy, intercept + (energy / GAS_CONSTANT).log()


def kissinger_rate(peak_temperature_K: Tensor, energy: Tensor, log_frequency: Tensor) -> Tensor:
    """Return the heating rate in K/s at which a first-order reaction peaks at a temperature."""
    ratio = energy / GAS_CONSTANT
    return (
        ratio.reciprocal()
        * peak_temperature_K**2
        * (log_frequency - ratio / peak_temperature_K).exp()
    )


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
