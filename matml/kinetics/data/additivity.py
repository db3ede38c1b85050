"""Transformation along a temperature history: heating, cooling, any table of T(t).

With one exponent n the JMAK reaction is additive (isokinetic), and f = 1 - exp(-ln 2 theta^n) with
theta = integral of dt / t50(T) is exact, also at the start where the rate form of JMAK is singular
(Cahn, Acta Metall. 4 (1956) 572). Where nothing is known but the time to a fraction, Scheil's sum
of consumed incubation (Arch. Eisenhuettenwes. 8 (1935) 565) is the same integral.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LN2 = 0.6931471805599453


def consumed(time_s: Tensor, log_time_needed: Tensor) -> Tensor:
    """Return the integral of dt / tau along a history, [..., N], zero at its start.

    Parameters
    ----------
    time_s
        Rising times, [..., N].
    log_time_needed
        ln tau at these times, [..., N]. Between them 1 / tau is exponential in time, which is
        exact for a rate whose logarithm is piecewise linear, and second order otherwise.
    """
    log_rate = -log_time_needed
    step = time_s.diff(dim=-1)
    first, last = log_rate[..., :-1], log_rate[..., 1:]
    gap = last - first
    small = gap.abs() < 1e-6
    safe = torch.where(small, torch.ones_like(gap), gap)
    # mean of an exponential between its ends, from the larger one so that nothing overflows
    low, high = torch.minimum(first, last), torch.maximum(first, last)
    mean = torch.where(
        small, (first + gap / 2).exp(), high.exp() * -torch.expm1(low - high) / safe.abs()
    )
    total = (mean * step).cumsum(-1)
    return torch.cat([torch.zeros_like(total[..., :1]), total], -1)


def fraction_along(time_s: Tensor, log_half_time: Tensor, exponent: Tensor) -> Tensor:
    """Return the fraction transformed along a history, [..., N]: exact for a constant exponent.

    Parameters
    ----------
    log_half_time
        ln t50 at the temperature of each time, [..., N].
    exponent
        Avrami exponent, [...] or a number.
    """
    exponent = torch.as_tensor(exponent, dtype=time_s.dtype)
    age = consumed(time_s, log_half_time)
    # the power has no derivative at zero; nothing has happened there
    power = age.clamp(min=1e-300).pow(exponent[..., None] if exponent.dim() else exponent)
    return -torch.expm1(-LN2 * torch.where(age > 0, power, torch.zeros_like(age)))


def scheil_temperature(
    rates_K_s: Tensor,
    start_K: float,
    end_K: float,
    log_time_to_fraction: Callable[[Tensor], Tensor],
    steps: int = 2000,
) -> tuple[Tensor, Tensor]:
    """Return (time in s, temperature in K) at which constant cooling reaches a fraction.

    NaN where it is not reached above the end temperature: a line of the CCT diagram from the TTT
    one.

    Parameters
    ----------
    rates_K_s
        Cooling rates, positive, [R].
    start_K, end_K
        Cooling counts from the start, where the reaction becomes possible.
    log_time_to_fraction
        ln of the isothermal time to the fraction at temperatures [N]; [..., N].

    Returns
    -------
    Tensor, Tensor
        Each [..., R].
    """
    if not start_K > end_K or (rates_K_s <= 0).any():
        raise ValueError("cooling goes from a higher to a lower temperature at positive rates")
    temperature = torch.linspace(start_K, end_K, steps, dtype=torch.float64)
    # integral over temperature at 1 K/s; a rate only divides it
    total = consumed(start_K - temperature, log_time_to_fraction(temperature))
    wanted = rates_K_s.to(total).expand(*total.shape[:-1], -1).contiguous()
    index = torch.searchsorted(total.contiguous(), wanted)
    reached = index < steps
    index = index.clamp(1, steps - 1)
    low, high = total.gather(-1, index - 1), total.gather(-1, index)
    share = (wanted - low) / (high - low).clamp(min=1e-300)
    at = temperature[index - 1] + share * (temperature[index] - temperature[index - 1])
    at = torch.where(reached, at, torch.nan)
    return (start_K - at) / rates_K_s, at
