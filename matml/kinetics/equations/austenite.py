"""Isothermal transformation of austenite from composition, with what is left to an alloy's data.

The equation of Li et al. 1998 (`steels`), and the same with the growth term of Kirkaldy and
Venugopalan 1984: composition, grain size and temperature give the time to a fraction. Published
coefficients are right on average; one alloy's diagram determines a factor on its times, a shift of
the temperature where the reaction becomes possible, and the apparent activation energy, all of
which the publication fixes. Composition and `grain_size_ASTM` may stand in the table of alloys.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    FRACTION,
    GAS_CONSTANT,
    TEMPERATURE,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.types import Input, Inputs, Values
from matml.kinetics.equations.steels import (
    ACTIVATION_ENERGY_J_MOL,
    INTEGRALS,
    REACTIONS,
    Composition,
    bainite_start_K,
    eutectoid_temperature_K,
    ferrite_start_K,
)

ELEMENTS = ("C", "Mn", "Si", "Ni", "Cr", "Mo")
AMOUNTS = tuple(Input(f"{element}_wt_pct", "wt %") for element in ELEMENTS)
START: dict[str, Callable[[Composition], Tensor]] = {
    "ferrite": ferrite_start_K,
    "pearlite": eutectoid_temperature_K,
    "bainite": bainite_start_K,
}
USUAL_TEMPERATURE_K = 850.0
"""Where a change of the activation energy leaves times as they are."""

LEAST_UNDERCOOLING_K = 10.0
"""Below it the logarithm continues along its tangent: no time is infinite."""


def _start(reaction: str, values: Values, inputs: Inputs) -> Tensor:
    """Return the temperature in K where a reaction becomes possible."""
    composition = {element: inputs[f"{element}_wt_pct"] for element in ELEMENTS}
    return START[reaction](composition) + values["start_shift_K"]


def _log_undercooling(undercooling_K: Tensor) -> Tensor:
    least = LEAST_UNDERCOOLING_K
    beyond = (undercooling_K.clamp(max=least) - least) / least
    return undercooling_K.clamp(min=least).log() + beyond


def _log_integral(name: str, fraction: Tensor) -> Tensor:
    """Return ln S(X) or ln I(X); few different fractions are met, and each integrated once."""
    unique, inverse = torch.unique(fraction, return_inverse=True)
    values = [math.log(INTEGRALS[name](x)) for x in unique.tolist()]
    return torch.tensor(values, dtype=fraction.dtype)[inverse]


def _log10_time(reaction: str, integral: str, values: Values, inputs: Inputs) -> Tensor:
    """Return log10 of the time in s to a fraction."""
    law, temperature = REACTIONS[reaction], inputs["temperature_K"]
    composition = {element: inputs[f"{element}_wt_pct"] for element in ELEMENTS}
    start = _start(reaction, values, inputs)
    energy = values["activation_energy_kJ_mol"] * 1000 / GAS_CONSTANT
    published = ACTIVATION_ENERGY_J_MOL / (GAS_CONSTANT * USUAL_TEMPERATURE_K)
    log_time = (
        values["time_factor"].log()
        + law.log_composition_factor(composition)
        + _log_integral(integral, inputs["fraction"])
        - law.grain_exponent * inputs["grain_size_ASTM"] * math.log(2.0)
        - law.undercooling_exponent * _log_undercooling(start - temperature)
        + energy * (1 / temperature - 1 / USUAL_TEMPERATURE_K)
        + published
    )
    return log_time / math.log(10.0)


def _austenite(reaction: str, integral: str, title: str, source: str) -> Equation:
    """Return the equation of one reaction."""
    starts = {}
    if reaction == "bainite":
        starts["bainite_start"] = Observable(
            "Bs_K",
            "K",
            AMOUNTS,
            lambda values, inputs: _start(reaction, values, inputs),
            lambda measured: measured,
            10.0,
        )
    return Equation(
        name=f"{integral}_{reaction}",
        title=f"{reaction.capitalize()} from composition, {title}",
        source=source,
        parameters=(
            Parameter(
                "time_factor", "", 0.1, 10.0, 1.0, "log", "times over the formula's: published 1"
            ),
            Parameter(
                "start_shift_K",
                "K",
                -40.0,
                40.0,
                0.0,
                "identity",
                "start temperature less the formula's: published 0",
            ),
            Parameter(
                "activation_energy_kJ_mol",
                "kJ/mol",
                60.0,
                220.0,
                ACTIVATION_ENERGY_J_MOL / 1000,
                "log",
                "published 115.06 (27,500 cal/mol); turns the curve about 850 K",
            ),
        ),
        observables={
            "ttt": Observable(
                "time_s",
                "log10 s",
                (TEMPERATURE, FRACTION, *AMOUNTS, Input("grain_size_ASTM", "")),
                lambda values, inputs: _log10_time(reaction, integral, values, inputs),
                torch.log10,
                0.2,
            )
        }
        | starts,
    )


LI_SOURCE = "Li, Niebuhr, Meekisho and Atteridge, Metall. Mater. Trans. B 29 (1998) 661"
KIRKALDY_SOURCE = (
    "growth term of Kirkaldy and Venugopalan 1984, composition factors of Li et al. 1998"
)

AUSTENITE = tuple(
    _austenite(reaction, integral, title, source)
    for integral, title, source in (
        ("li", "Li", LI_SOURCE),
        ("kirkaldy", "Kirkaldy-Venugopalan", KIRKALDY_SOURCE),
    )
    for reaction in REACTIONS
)
