"""Relatives of isothermal JMAK: impingement, incubation, incomplete transformation, two stages.

All have the Arrhenius half time of `jmak`, and the half time is that of the *whole* reaction, so
that parameters mean the same in each.

General impingement (Starink, J. Mater. Sci. 32 (1997) 4061; Austin and Rickett, Trans. AIME
135 (1939) 396): with the extended fraction x = (k t)^n,

    f = 1 - (1 + x / eta)^(-eta);

eta = 1 is Austin-Rickett's f / (1 - f) = (k t)^n, and eta to infinity JMAK.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    FRACTION,
    LN2,
    REFERENCE,
    TEMPERATURE,
    TIME,
    Equation,
    Observable,
    Parameter,
)
from matml.kinetics.equations.form.types import Inputs, Values
from matml.kinetics.equations.jmak import JMAK, log_half_time

SHORTEST_SHARE = 1e-6
"""Share of the time after incubation to which earlier times are set: nothing happens before."""


def extended_over_half(fraction: Tensor | float, impingement: Tensor) -> Tensor:
    """Return ln of (t / t50)^n at a fraction, by the general impingement form."""
    ones = torch.ones_like(impingement)
    reached = torch.expm1(-torch.log1p(-fraction * ones) / impingement)
    half = torch.expm1(LN2 / impingement)
    return (reached / half).log()


def impinged_fraction(log_age: Tensor, impingement: Tensor) -> Tensor:
    """Return the fraction at n ln(t / t50)."""
    grown = torch.log1p(log_age.exp() * torch.expm1(LN2 / impingement))
    return -torch.expm1(-impingement * grown)


def _impinged(values: Values, inputs: Inputs) -> Tensor:
    age = values["avrami_exponent"] * (inputs["time_s"].log() - log_half_time(values, inputs))
    return impinged_fraction(age, _eta(values, age))


def _impinged_time(values: Values, inputs: Inputs) -> Tensor:
    half = log_half_time(values, inputs)
    age = extended_over_half(inputs["fraction"], _eta(values, half))
    return (half + age / values["avrami_exponent"]) / math.log(10.0)


def _eta(values: Values, like: Tensor) -> Tensor:
    """Return the impingement exponent, 1 where the equation has none: Austin-Rickett."""
    return values.get("impingement_exponent", torch.ones(())).expand(like.shape).to(like)


def _waited(values: Values, inputs: Inputs) -> Tensor:
    """Return f of JMAK after an incubation that is a fraction of the half time."""
    half, share = log_half_time(values, inputs), values["incubation_share"]
    elapsed = (inputs["time_s"].log() - half).exp()
    left = ((elapsed - share) / (1 - share)).clamp(min=SHORTEST_SHARE)
    return -torch.expm1(-LN2 * left.pow(values["avrami_exponent"]))


def _waited_time(values: Values, inputs: Inputs) -> Tensor:
    half, share = log_half_time(values, inputs), values["incubation_share"]
    reached = (-torch.log1p(-inputs["fraction"]) / LN2).pow(1 / values["avrami_exponent"])
    return (half + (share + (1 - share) * reached).log()) / math.log(10.0)


def _incomplete(values: Values, inputs: Inputs) -> Tensor:
    """Return f_max times JMAK, whose half time is that of f_max / 2."""
    age = values["avrami_exponent"] * (inputs["time_s"].log() - log_half_time(values, inputs))
    return -values["final_fraction"] * torch.expm1(-LN2 * age.exp())


def _incomplete_time(values: Values, inputs: Inputs) -> Tensor:
    # a fraction that is never reached takes as long as 0.9999 of the final one
    share = (inputs["fraction"] / values["final_fraction"]).clamp(max=0.9999)
    reached = (-torch.log1p(-share) / LN2).log() / values["avrami_exponent"]
    return (log_half_time(values, inputs) + reached) / math.log(10.0)


def _two_stages(values: Values, inputs: Inputs) -> Tensor:
    """Return f of two JMAK reactions, the second of which takes longer by a constant factor."""
    age = inputs["time_s"].log() - log_half_time(values, inputs)
    first = -torch.expm1(-LN2 * (values["avrami_exponent"] * age).exp())
    later = values["second_exponent"] * (age - values["second_delay"].log())
    share = values["first_share"]
    return share * first - (1 - share) * torch.expm1(-LN2 * later.exp())


def _variant(
    name: str,
    title: str,
    source: str,
    extra: tuple[Parameter, ...],
    fraction: Callable[[Values, Inputs], Tensor],
    log10_time: Callable[[Values, Inputs], Tensor],
) -> Equation:
    """Return an equation with JMAK's parameters and some more."""
    return Equation(
        name=name,
        title=title,
        source=source,
        parameters=(*JMAK.parameters, *extra),
        observables={
            "fraction": Observable(
                "fraction_transformed",
                "fraction",
                (TEMPERATURE, TIME, REFERENCE),
                fraction,
                lambda measured: measured,
                0.05,
                log_time_scale=log_half_time,
            ),
            "ttt": Observable(
                "time_s",
                "log10 s",
                (TEMPERATURE, FRACTION, REFERENCE),
                log10_time,
                lambda measured: measured.log10(),
                0.2,
            ),
        },
        needs_reference_temperature=True,
    )


AUSTIN_RICKETT = _variant(
    "austin_rickett",
    "Austin-Rickett with Arrhenius rate",
    "Austin and Rickett, Trans. AIME 135 (1939) 396",
    (),
    _impinged,
    _impinged_time,
)

IMPINGEMENT = _variant(
    "impingement",
    "General impingement with Arrhenius rate",
    "Starink, J. Mater. Sci. 32 (1997) 4061",
    (
        Parameter(
            "impingement_exponent", "", 0.3, 10.0, 1.5, "log", "eta: 1 Austin-Rickett, large JMAK"
        ),
    ),
    _impinged,
    _impinged_time,
)

JMAK_INCUBATION = _variant(
    "jmak_incubation",
    "JMAK with incubation",
    "Avrami, J. Chem. Phys. 7 (1939) 1103, counted from the end of an incubation",
    (
        Parameter(
            "incubation_share", "", 0.01, 0.9, 0.1, "logit", "incubation over half time, at any T"
        ),
    ),
    _waited,
    _waited_time,
)

JMAK_INCOMPLETE = _variant(
    "jmak_incomplete",
    "JMAK with incomplete transformation",
    "Avrami, J. Chem. Phys. 7 (1939) 1103, scaled to a final fraction",
    (Parameter("final_fraction", "", 0.3, 0.99, 0.9, "logit", "fraction after a very long time"),),
    _incomplete,
    _incomplete_time,
)

JMAK_TWO_STAGES = Equation(
    name="jmak_two_stages",
    title="Two JMAK reactions of one activation energy",
    source="a weighted sum of two of Avrami, J. Chem. Phys. 7 (1939) 1103",
    parameters=(
        *JMAK.parameters,
        Parameter("second_delay", "", 1.5, 300.0, 10.0, "log", "half time of the second over it"),
        Parameter("second_exponent", "", 0.4, 4.0, 1.5, "log", "exponent n of the second"),
        Parameter("first_share", "", 0.1, 0.9, 0.5, "logit", "fraction that the first makes"),
    ),
    observables={
        "fraction": Observable(
            "fraction_transformed",
            "fraction",
            (TEMPERATURE, TIME, REFERENCE),
            _two_stages,
            lambda measured: measured,
            0.05,
            log_time_scale=log_half_time,
        )
    },
    needs_reference_temperature=True,
)
