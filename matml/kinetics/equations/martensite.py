"""Martensite on cooling: Koistinen-Marburger, with the parameters of van Bohemen from composition.

Koistinen and Marburger, Acta Metall. 7 (1959) 59; van Bohemen, Mater. Sci. Technol. 28 (2012) 487
(start temperature in `steels`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import TEMPERATURE, Equation, Observable, Parameter
from matml.kinetics.equations.form.types import Input, Inputs, Values
from matml.kinetics.equations.steels import Composition, carbon_term, martensite_start_K

ELEMENTS = ("C", "Mn", "Si", "Cr", "Ni", "Mo")
AMOUNTS = tuple(Input(f"{element}_wt_pct", "wt %") for element in ELEMENTS)
KOISTINEN_MARBURGER_RATE = 0.011
"""alpha in 1/K: plain carbon steels, Koistinen and Marburger 1959."""


def martensite_fraction(
    temperature_K: np.ndarray, start_K: float, rate: float = KOISTINEN_MARBURGER_RATE
) -> np.ndarray:
    """Return the fraction 1 - exp[-rate (Ms - T)] of the austenite; zero above Ms."""
    undercooling = np.maximum(start_K - np.asarray(temperature_K, dtype=float), 0.0)
    return -np.expm1(-rate * undercooling)


def van_bohemen_rate(composition: Composition) -> Any:
    """Return alpha in 1/K from the composition in wt %, numbers or tensors."""
    slopes = {"Mn": 0.14, "Si": 0.21, "Cr": 0.11, "Ni": 0.08, "Mo": 0.05}
    solutes = sum(k * composition.get(element, 0.0) for element, k in slopes.items())
    carbon = 19.8 * carbon_term(composition, 1.56)
    return 1e-3 * (27.2 - solutes - carbon)


def _fraction_below(start_K: Tensor, rate_per_K: Tensor, temperature_K: Tensor) -> Tensor:
    """Return 1 - exp[-rate (Ms - T)], zero above Ms."""
    return -torch.expm1(-rate_per_K * (start_K - temperature_K).clamp(min=0.0))


def _koistinen_marburger(values: Values, inputs: Inputs) -> Tensor:
    start, rate = values["martensite_start_K"], values["rate_per_K"]
    return _fraction_below(start, rate, inputs["temperature_K"])


def _van_bohemen(values: Values, inputs: Inputs) -> Tensor:
    composition = {element: inputs[f"{element}_wt_pct"] for element in ELEMENTS}
    start = _start(values, inputs)
    rate = van_bohemen_rate(composition) * values["rate_factor"]
    return _fraction_below(start, rate, inputs["temperature_K"])


def _start(values: Values, inputs: Inputs) -> Tensor:
    composition = {element: inputs[f"{element}_wt_pct"] for element in ELEMENTS}
    return martensite_start_K(composition) + values["start_shift_K"]


def _athermal(
    predict: Callable[[Values, Inputs], Tensor], inputs: tuple[Input, ...] = ()
) -> dict[str, Observable]:
    """Return the observable of a martensite fraction over temperature."""
    conditions = (TEMPERATURE, *inputs)
    return {
        "martensite": Observable(
            "martensite_fraction",
            "fraction",
            conditions,
            predict,
            lambda measured: measured,
            0.03,
        )
    }


KOISTINEN_MARBURGER = Equation(
    name="koistinen_marburger",
    title="Martensite on cooling, Koistinen-Marburger",
    source="Koistinen and Marburger, Acta Metall. 7 (1959) 59",
    parameters=(
        Parameter(
            "martensite_start_K", "K", 350.0, 800.0, 580.0, "identity", "Ms: nothing above it"
        ),
        Parameter("rate_per_K", "1/K", 0.005, 0.04, 0.011, "log", "alpha of alpha (Ms - T)"),
    ),
    observables=_athermal(_koistinen_marburger),
)

VAN_BOHEMEN = Equation(
    name="van_bohemen",
    title="Martensite on cooling, from composition",
    source="van Bohemen, Mater. Sci. Technol. 28 (2012) 487",
    parameters=(
        Parameter(
            "start_shift_K", "K", -50.0, 50.0, 0.0, "identity", "Ms less the formula's: published 0"
        ),
        Parameter("rate_factor", "", 0.5, 2.0, 1.0, "log", "alpha over the formula's: published 1"),
    ),
    observables=_athermal(_van_bohemen, AMOUNTS)
    | {
        "martensite_start": Observable("Ms_K", "K", AMOUNTS, _start, lambda measured: measured, 8.0)
    },
)
