"""The JMAK form: fraction, residual and time, shared by several equations."""

import math

import torch
from torch import Tensor

from matml.kinetics.equations.form.declaration import LN2


def jmak_fraction(log_half_time: Tensor, exponent: Tensor, time_s: Tensor) -> Tensor:
    """Return the transformed fraction 1 - exp(-ln 2 (t / t50)^n).

    The Johnson-Mehl-Avrami-Kolmogorov law 1 - exp(-(k t)^n) with k = (ln 2)^(1/n) / t50: written
    with the half time, time scale and exponent are hardly correlated.

    Parameters
    ----------
    log_half_time
        Natural logarithm of t50 in s.
    exponent
        Avrami exponent n.
    time_s
        Time in s, positive.
    """
    return -torch.expm1(-LN2 * torch.exp(exponent * (time_s.log() - log_half_time)))


def jmak_double_log_residual(
    log_half_time: Tensor, exponent: Tensor, time_s: Tensor, fraction: Tensor, noise: float
) -> Tensor:
    """Return JMAK residuals in ln(-ln(1 - f)), in noise widths: the ordinate of Sharp and Hancock.

    That is n (ln t - ln t50) + ln ln 2 for the model (J. Am. Ceram. Soc. 55 (1972) 74), linear in
    ln t50 and computed without the fraction, so that the gradient is as large where the model is
    decades away and its fraction 0 or 1 as it is near the data.

    Parameters
    ----------
    fraction
        Measured; cut to half a noise width from 0 and 1.
    noise
        Standard deviation of the fraction. By the delta method the ordinate's is
        noise / [-(1 - f) ln(1 - f)].
    """
    fraction = fraction.clamp(noise / 2, 1 - noise / 2)
    reached = -torch.log1p(-fraction)
    error = exponent * (time_s.log() - log_half_time) + math.log(LN2) - reached.log()
    return error * (1 - fraction) * reached / noise


def jmak_log10_time(log_half_time: Tensor, exponent: Tensor, fraction: Tensor) -> Tensor:
    """Return log10 of the time (s) to a fraction: t50 (-ln(1 - f) / ln 2)^(1/n)."""
    reached = torch.log(-torch.log1p(-fraction) / LN2)
    return (log_half_time + reached / exponent) / math.log(10.0)
