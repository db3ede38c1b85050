"""The CCT curves of a calibrated alloy: its TTT curves, cooled at constant rates by Scheil."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.kinetics.data.additivity import consumed, scheil_temperature
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.quantities import SLOWEST_K_S
from matml.kinetics.diagrams.ttt import FRACTIONS
from matml.kinetics.inference.calibration import Calibration, prediction_columns

POINTS, DRAWS, STEPS = 81, 200, 400
BEYOND = 15
"""Rates at which half of the posterior does not get there, but a twentieth does."""


def _given(values: Tensor, at: Tensor) -> Tensor:
    """Return values that are known already, for the temperatures that they are of."""
    assert len(at) == values.shape[-1]
    return values


def cooling_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return when and where constant cooling reaches each fraction.

    Cooling counts from the hottest of the given temperatures. Rates are those whose median curve is
    evenly spaced in temperature, from `SLOWEST_K_S` to the one that most of the posterior just
    reaches at the coldest temperature: a curve falls steeply before it ends. Its band goes on to
    the rate that a twentieth of the posterior just reaches.

    Returns
    -------
    table
        Columns fraction, cooling_rate_K_s, time_s and temperature_C (medians, not given where less
        than half of the posterior gets there), low_90_C, high_90_C, and reached, the share of the
        posterior in which the fraction is reached at all within the temperatures. Without rows of a
        fraction that cooling at the slowest rate does not reach.
    """
    start, end = float(temperature_K.max()), float(temperature_K.min())
    draws = calibration.draws[:: max(1, len(calibration.draws) // DRAWS), None, :]
    temperature = torch.linspace(start, end, STEPS, dtype=torch.float64)
    parts = []
    for fraction in FRACTIONS:
        inputs = prediction_columns(calibration, temperature.numpy(), fraction=fraction)
        with torch.no_grad():
            drawn = calibration.population.equation.predict(
                "ttt", draws, {name: column[None] for name, column in inputs.items()}
            )
        log_time = drawn * np.log(10.0)
        # the rate that reaches the fraction at each temperature
        critical = consumed(start - temperature, log_time)
        rates, fastest = critical.quantile(0.5, dim=0), float(critical[:, -1].quantile(0.95))
        if rates[-1] <= SLOWEST_K_S:
            continue
        rates = rates[torch.linspace(1, STEPS - 1, POINTS).round().long()]
        beyond = np.geomspace(float(rates[-1]), fastest, BEYOND + 1)[1:]
        rates = torch.cat([rates[rates > SLOWEST_K_S], torch.as_tensor(beyond)])
        rates = torch.cat([rates.new_tensor([SLOWEST_K_S]), rates])
        known = partial(_given, log_time)
        _, at_K = scheil_temperature(rates, start, end, known, STEPS)
        celsius = at_K.numpy() - ZERO_CELSIUS
        # the rest of the posterior gets there below the coldest temperature
        low, middle, high = np.quantile(
            np.nan_to_num(celsius, nan=end - ZERO_CELSIUS), [0.05, 0.5, 0.95], axis=0
        )
        rate, reached = rates.numpy(), np.isfinite(celsius).mean(0)
        middle = np.where(reached < 0.5, np.nan, middle)
        table = pd.DataFrame(
            {
                "fraction": fraction,
                "cooling_rate_K_s": rate,
                "time_s": (start - ZERO_CELSIUS - middle) / rate,
                "temperature_C": middle,
                "low_90_C": low,
                "high_90_C": high,
                "reached": reached,
            }
        )
        parts.append(table[reached >= 0.05])
    columns = ["fraction", "cooling_rate_K_s", "time_s", "temperature_C", "low_90_C", "high_90_C"]
    if not parts:
        return pd.DataFrame(columns=[*columns, "reached"], dtype=float)
    return pd.concat(parts, ignore_index=True)
