"""Isothermal JMAK with a centred Arrhenius rate.

Fraction f = 1 - exp(-(k t)^n) with k = k_ref exp[-(Q/R)(1/T - 1/T_ref)] (Avrami, J. Chem. Phys. 7
(1939) 1103; 8 (1940) 212). Written with the half time at the reference temperature,
t50_ref = (ln 2)^(1/n) / k_ref, which data determine directly; k0 = k_ref exp(Q / R T_ref) is an
extrapolation to infinite temperature and nearly unidentifiable. This is the form (k t)^n: where a
paper writes b t^n, its activation energy is n Q.
"""

from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    FRACTION,
    GAS_CONSTANT,
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.jmak_forms import (
    jmak_double_log_residual,
    jmak_fraction,
    jmak_log10_time,
)
from matml.kinetics.equations.form.types import Inputs, Values


def log_half_time(values: Values, inputs: Inputs) -> Tensor:
    """Return ln of the half time in s: ln t50_ref + (Q/R)(1/T - 1/T_ref)."""
    inverse = 1 / inputs["temperature_K"] - 1 / inputs["reference_temperature_K"]
    energy = values["activation_energy_kJ_mol"] * 1000
    return values["half_time_s"].log() + energy / GAS_CONSTANT * inverse


def _fraction(values: Values, inputs: Inputs) -> Tensor:
    return jmak_fraction(log_half_time(values, inputs), values["avrami_exponent"], inputs["time_s"])


def _double_log_residual(values: Values, inputs: Inputs, target: Tensor, noise: float) -> Tensor:
    return jmak_double_log_residual(
        log_half_time(values, inputs), values["avrami_exponent"], inputs["time_s"], target, noise
    )


def _log10_time(values: Values, inputs: Inputs) -> Tensor:
    return jmak_log10_time(
        log_half_time(values, inputs), values["avrami_exponent"], inputs["fraction"]
    )


JMAK = Equation(
    name="jmak",
    title="JMAK with Arrhenius rate",
    source="Avrami, J. Chem. Phys. 7 (1939) 1103 and 8 (1940) 212",
    parameters=(
        Parameter(
            "half_time_s",
            "s",
            0.1,
            1e5,
            100.0,
            "log",
            "time to half transformation at the alloy's reference temperature",
        ),
        Parameter(
            "activation_energy_kJ_mol",
            "kJ/mol",
            40.0,
            600.0,
            200.0,
            "log",
            "apparent activation energy of the rate k in (k t)^n",
        ),
        Parameter("avrami_exponent", "", 0.4, 4.0, 1.5, "log", "exponent n of (k t)^n"),
    ),
    observables={
        # a fraction measured by image analysis or point counting errs by about as much anywhere
        # between its ends; the double logarithm of a Sharp-Hancock plot would blow up both ends
        "fraction": Observable(
            "fraction_transformed",
            "fraction",
            (TEMPERATURE, TIME, REFERENCE),
            _fraction,
            lambda measured: measured,
            0.05,
            _double_log_residual,
            log_half_time,
        ),
        "ttt": Observable(
            "time_s",
            "log10 s",
            (TEMPERATURE, FRACTION, REFERENCE),
            _log10_time,
            lambda measured: measured.log10(),
            0.2,
        ),
    },
    needs_reference_temperature=True,
)
