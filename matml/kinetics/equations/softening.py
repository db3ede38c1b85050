"""Hardness after tempering as JMAK softening.

H = H_soft + (H_hard - H_soft) exp[-ln 2 (t / t50)^n] with an Arrhenius half time,
ln t50 = ln t50_ref + (Q/R)(1/T - 1/T_ref). The softening analogue of JMAK, used for tempered
tool steels by Zhang, Delagnes and Bernhart, Mater. Sci. Eng. A 380 (2004) 222. Temperature and time
act through Q/RT and ln t alone; the parameter of Hollomon and Jaffe, Trans. AIME 162 (1945) 223,
trades them in the same direction.
"""

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    LN2,
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.types import Inputs, Values
from matml.kinetics.equations.jmak import log_half_time


def hollomon_jaffe(
    temperature_K: Tensor, time_s: Tensor, constant: Tensor | float = 20.0
) -> Tensor:
    """Return the tempering parameter T (C + log10 t), T in K and t in hours.

    Source: Hollomon and Jaffe, Trans. AIME 162 (1945) 223; C = 20 is the usual choice for t in h.
    """
    return temperature_K * (constant + torch.log10(time_s / 3600))


def _master_hardness(values: Values, inputs: Inputs) -> Tensor:
    """Return the hardness in HRC on the straight master curve of the tempering parameter."""
    constant, reference = values["constant"], inputs["reference_temperature_K"]
    parameter = hollomon_jaffe(inputs["temperature_K"], inputs["time_s"], constant)
    beyond = parameter - reference * constant  # one hour at the reference temperature
    return values["hour_hardness_HRC"] - values["slope_HRC_per_1000"] * beyond / 1000


def hardness(values: Values, inputs: Inputs) -> Tensor:
    """Return the hardness in HRC after holding at temperature for a time."""
    age = values["softening_exponent"] * (inputs["time_s"].log() - log_half_time(values, inputs))
    soft, hard = values["soft_hardness_HRC"], values["hard_hardness_HRC"]
    return soft + (hard - soft) * torch.exp(-LN2 * age.exp())


SOFTENING = Equation(
    name="softening",
    title="JMAK softening",
    source="Zhang, Delagnes and Bernhart, Mater. Sci. Eng. A 380 (2004) 222",
    parameters=(
        Parameter(
            "half_time_s",
            "s",
            10.0,
            1e13,
            1e7,
            "log",
            "time to half of the softening at the reference temperature: far beyond measured times",
        ),
        Parameter(
            "activation_energy_kJ_mol",
            "kJ/mol",
            120.0,
            500.0,
            250.0,
            "log",
            "apparent activation energy of the rate k in (k t)^n",
        ),
        Parameter("softening_exponent", "", 0.05, 0.3, 0.1, "log", "exponent n of (k t)^n"),
        Parameter("hard_hardness_HRC", "HRC", 45.0, 75.0, 60.0, "identity", "before softening"),
        Parameter(
            "soft_hardness_HRC",
            "HRC",
            -60.0,
            20.0,
            -10.0,
            "identity",
            "limit of softening: an extrapolation, negative where curves steepen to the end",
        ),
    ),
    observables={
        "hardness": Observable(
            "hardness_HRC",
            "HRC",
            (TEMPERATURE, TIME, REFERENCE),
            hardness,
            lambda measured: measured,
            1.5,
            log_time_scale=log_half_time,
        )
    },
    needs_reference_temperature=True,
)

HOLLOMON_JAFFE = Equation(
    name="hollomon_jaffe",
    title="Tempering, Hollomon-Jaffe",
    source="Hollomon and Jaffe, Trans. AIME 162 (1945) 223, master curve straight",
    parameters=(
        Parameter(
            "hour_hardness_HRC",
            "HRC",
            20.0,
            65.0,
            45.0,
            "identity",
            "after one hour at the reference temperature",
        ),
        Parameter(
            "slope_HRC_per_1000",
            "HRC",
            1.0,
            15.0,
            5.0,
            "log",
            "hardness lost per 1000 of T (C + log10 t), T in K and t in h",
        ),
        Parameter("constant", "", 10.0, 30.0, 20.0, "identity", "C of T (C + log10 t)"),
    ),
    observables={
        "hardness": Observable(
            "hardness_HRC",
            "HRC",
            (TEMPERATURE, TIME, REFERENCE),
            _master_hardness,
            lambda measured: measured,
            1.5,
        )
    },
    needs_reference_temperature=True,
)
