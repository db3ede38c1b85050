"""Nose-centred C-curve JMAK: the TTT diagram of one reaction.

Below the temperature Tc where the reaction loses its driving force, a diffusional reaction goes at
a rate proportional to (Tc - T)^m exp(-Q/RT): undercooling drives it and diffusion slows it (Zener,
Trans. AIME 167 (1946) 550; Kirkaldy and Venugopalan 1984; Li et al., Metall. Mater. Trans. B 29
(1998) 661). With the rate's maximum, the nose, at Tn, depth d = Tc - Tn and x = (T - Tn) / d, the
condition d ln t / dT = 0 at Tn gives Q/R = m Tn^2 / d, and the half time is exactly

    ln t50(T) = ln t50(Tn) + m [ -ln(1 - x) + (Tn / d) (Tn - T) / T ],

whose minimum is at Tn whatever m and d. Its curvature there is m (1/d^2 + 2/(d Tn)); the width w,
defined by ln t50 - ln t50(Tn) ~ (T - Tn)^2 / 2 w^2, replaces m = 1 / [w^2 (1/d^2 + 2/(d Tn))]. Raw
(ln A, m, Q, Tc, n) are nearly unidentifiable; nose, width and depth are read off a diagram.
The fraction at a temperature follows JMAK with one exponent n.
"""

from torch import Tensor

from matml.kinetics.equations.form.declaration import (
    FRACTION,
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

SMALLEST_UNDERCOOLING = 0.25
"""Share of the depth below which -ln(1 - x) continues along its tangent; see `negative_log`."""


def negative_log(remaining: Tensor) -> Tensor:
    """Return -ln(remaining), continued along its tangent near and below zero.

    At and above Tc the reaction takes for ever, so that a prediction at an uncertain Tc would have
    no finite mean; the continuation is finite, with a continuous derivative. Where it begins was
    chosen by the evidence of 42 measured diagrams (log evidence 1814 at 0.05, 1876 at 0.15, 1848 at
    0.3 of the depth): near Tc measured curves are rounder than the logarithm.
    """
    edge = SMALLEST_UNDERCOOLING
    return (edge - remaining.clamp(max=edge)) / edge - remaining.clamp(min=edge).log()


def log_half_time(values: Values, inputs: Inputs) -> Tensor:
    """Return ln of the half time in s at the inputs' temperatures."""
    temperature = inputs["temperature_K"]
    nose = values["nose_temperature_K"]
    depth = values["undercooling_depth_K"]
    curvature = 1 / depth.square() + 2 / (depth * nose)
    order = 1 / (values["nose_width_K"].square() * curvature)
    undercooling = negative_log(1 - (temperature - nose) / depth)
    diffusion = nose / depth * (nose - temperature) / temperature
    return values["nose_half_time_s"].log() + order * (undercooling + diffusion)


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


C_CURVE = Equation(
    name="c_curve",
    title="Nose-centred C-curve JMAK",
    source="rate (Tc - T)^m exp(-Q/RT) of Zener 1946 and Kirkaldy-Venugopalan 1984, re-centred",
    parameters=(
        Parameter(
            "nose_half_time_s", "s", 1.0, 1e5, 300.0, "log", "time to half transformation at nose"
        ),
        Parameter(
            "nose_temperature_K", "K", 750.0, 1050.0, 900.0, "identity", "temperature of the nose"
        ),
        Parameter(
            "nose_width_K",
            "K",
            15.0,
            150.0,
            50.0,
            "log",
            "half width of the nose where t50 is exp(1/2) times longer",
        ),
        Parameter(
            "undercooling_depth_K",
            "K",
            40.0,
            400.0,
            130.0,
            "log",
            "nose below the temperature where the driving force vanishes",
        ),
        Parameter("avrami_exponent", "", 0.8, 5.0, 2.0, "log", "exponent n of (k t)^n"),
    ),
    observables={
        "ttt": Observable(
            "time_s",
            "log10 s",
            (TEMPERATURE, FRACTION),
            _log10_time,
            lambda measured: measured.log10(),
            0.2,
        ),
        "fraction": Observable(
            "fraction_transformed",
            "fraction",
            (TEMPERATURE, TIME),
            _fraction,
            lambda measured: measured,
            0.05,
            _double_log_residual,
            log_half_time,
        ),
    },
)
