"""Static recrystallisation after hot deformation, in Sellars' form, centred.

t50 = A d^s strain^-p rate^-r exp(Q / RT) (Sellars and Whiteman, Met. Sci. 13 (1979) 187) and
f = 1 - exp[-ln 2 (t / t50)^n]. Data determine the half time under usual conditions rather than A:
here it is that of a grain of 100 um after a strain of 0.3 at 1 / s, at the reference temperature.
"""

from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.jmak_forms import jmak_double_log_residual, jmak_fraction
from matml.kinetics.equations.form.types import Input, Inputs, Values
from matml.kinetics.equations.grain_growth import INITIAL_GRAIN
from matml.kinetics.equations.jmak import log_half_time

GRAIN_UM, STRAIN, RATE_PER_S = 100.0, 0.3, 1.0
"""Conditions to which the half time refers."""


def _log_half_time(values: Values, inputs: Inputs) -> Tensor:
    """Return ln of the half time in s under the inputs' conditions."""
    return (
        log_half_time(values, inputs)
        + values["grain_exponent"] * (inputs["initial_grain_size_um"] / GRAIN_UM).log()
        - values["strain_exponent"] * (inputs["strain"] / STRAIN).log()
        - values["rate_exponent"] * (inputs["strain_rate_per_s"] / RATE_PER_S).log()
    )


def _fraction(values: Values, inputs: Inputs) -> Tensor:
    half = _log_half_time(values, inputs)
    return jmak_fraction(half, values["avrami_exponent"], inputs["time_s"])


def _double_log_residual(values: Values, inputs: Inputs, target: Tensor, noise: float) -> Tensor:
    half = _log_half_time(values, inputs)
    exponent = values["avrami_exponent"]
    return jmak_double_log_residual(half, exponent, inputs["time_s"], target, noise)


def _measured(fraction: Tensor) -> Tensor:
    return fraction


SELLARS = Equation(
    name="sellars",
    title="Static recrystallisation, Sellars",
    source="Sellars and Whiteman, Met. Sci. 13 (1979) 187",
    parameters=(
        Parameter(
            "half_time_s",
            "s",
            0.05,
            1e3,
            5.0,
            "log",
            "at the reference temperature, of a grain of 100 um after a strain of 0.3 at 1/s",
        ),
        Parameter(
            "activation_energy_kJ_mol", "kJ/mol", 120.0, 500.0, 250.0, "log", "Q of the half time"
        ),
        Parameter("grain_exponent", "", 0.3, 2.5, 1.5, "log", "s of d^s"),
        Parameter("strain_exponent", "", 1.0, 4.0, 2.3, "log", "p of strain^-p"),
        Parameter("rate_exponent", "", -0.1, 0.5, 0.2, "identity", "r of rate^-r"),
        Parameter("avrami_exponent", "", 0.5, 2.5, 1.0, "log", "n of (t / t50)^n"),
    ),
    observables={
        "fraction": Observable(
            "fraction_transformed",
            "fraction",
            (
                TEMPERATURE,
                TIME,
                Input("strain", ""),
                Input("strain_rate_per_s", "1/s"),
                INITIAL_GRAIN,
                REFERENCE,
            ),
            _fraction,
            _measured,
            0.05,
            _double_log_residual,
            _log_half_time,
        )
    },
    needs_reference_temperature=True,
)
