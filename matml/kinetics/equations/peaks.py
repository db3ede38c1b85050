"""Peak temperature over heating rate: Kissinger, centred.

A reaction of first order heated at the rate b goes fastest at Tp, where
ln(b / Tp^2) = ln(A R / Q) - Q / (R Tp) (Kissinger, Anal. Chem. 29 (1957) 1702). Q and ln A are
determined only together; here the second parameter is the peak at 10 K/min, from which
ln A = ln(b Q / (R Tp^2)) + Q / (R Tp) follows (`log_frequency`).
"""

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import GAS_CONSTANT, Equation, Observable, Parameter
from matml.kinetics.equations.form.types import Input, Inputs, Values

USUAL_RATE_K_PER_S = 10 / 60
NEWTON_STEPS = 8


def log_frequency(values: Values) -> Tensor:
    """Return ln of the frequency factor A in 1/s."""
    ratio = 1000 * values["activation_energy_kJ_mol"] / GAS_CONSTANT
    peak = values["peak_at_10_K_per_min_K"]
    return (USUAL_RATE_K_PER_S * ratio / peak.square()).log() + ratio / peak


def _peak_temperature(values: Values, inputs: Inputs) -> Tensor:
    """Return the peak temperature in K at the inputs' heating rates.

    With w = ln(Tp(10 K/min) / Tp) and a = Q / (R Tp(10 K/min)), Kissinger's equation less that at
    10 K/min is -2 w + a (1 - exp(w)) = ln(b / 10 K/min), whose left side falls and is concave in w:
    Newton's iteration from the linear solution converges from any side.
    """
    reference = values["peak_at_10_K_per_min_K"]
    height = 1000 * values["activation_energy_kJ_mol"] / (GAS_CONSTANT * reference)
    log_rate = (inputs["heating_rate_K_per_s"] / USUAL_RATE_K_PER_S).log()
    w = -log_rate / (2 + height)
    for _ in range(NEWTON_STEPS):
        grown = height * w.exp()
        w = w + (height - grown - 2 * w - log_rate) / (2 + grown)
    return reference * torch.exp(-w)


def _measured(peak_temperature_K: Tensor) -> Tensor:
    return peak_temperature_K


KISSINGER = Equation(
    name="kissinger",
    title="Peak temperatures, Kissinger",
    source="Kissinger, Anal. Chem. 29 (1957) 1702",
    parameters=(
        Parameter("activation_energy_kJ_mol", "kJ/mol", 60.0, 600.0, 200.0, "log", "Q of the rate"),
        Parameter(
            "peak_at_10_K_per_min_K",
            "K",
            350.0,
            1100.0,
            650.0,
            "identity",
            "peak temperature at a heating rate of 10 K/min; with Q it gives ln A",
        ),
    ),
    observables={
        "peak_temperature": Observable(
            "peak_temperature_K",
            "K",
            (Input("heating_rate_K_per_s", "K/s"),),
            _peak_temperature,
            _measured,
            2.0,
        )
    },
)
