"""Curves of a calibrated alloy over temperature: times to fractions, or levels, with 90 % bands."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.diagrams.quantities import LEVELS
from matml.kinetics.inference.calibration import Calibration, prediction_columns

FRACTIONS = (0.01, 0.5, 0.99)
TEMPERATURES = 81


def temperature_grid(
    calibration: Calibration,
    everything: pd.DataFrame | None,
    ends: tuple[float, float] | None = None,
) -> np.ndarray:
    """Return temperatures in K to draw at: between `ends`, else the data's, a little wider."""
    if ends is not None:
        return np.linspace(*ends, TEMPERATURES)
    tables = [calibration.observations.points]
    if everything is not None:
        tables.append(everything)
    temperature = pd.concat(tables)["temperature_K"]
    margin = max(10.0, 0.05 * (temperature.max() - temperature.min()))
    return np.linspace(temperature.min() - margin, temperature.max() + margin, TEMPERATURES)


def time_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return the time to each fraction over temperature, with the band of the *curve*.

    Columns fraction, temperature_C, time_s (median), low_90_s, high_90_s, and
    least_squares_time_s of the generic fit.
    """
    parts = []
    for fraction in FRACTIONS:
        columns = prediction_columns(calibration, temperature_K, fraction=fraction)
        low, middle, high, generic = _curves(calibration, "ttt", columns, _power)
        parts.append(
            pd.DataFrame(
                {
                    "fraction": fraction,
                    "temperature_C": temperature_K - ZERO_CELSIUS,
                    "time_s": middle,
                    "low_90_s": low,
                    "high_90_s": high,
                    "least_squares_time_s": generic,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def level_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return hardness or grain size over temperature after the shortest, middle and longest time.

    Columns time_s, temperature_C, hardness_HRC, low_90_HRC, high_90_HRC, least_squares_HRC; and
    the same with grain_size and um.
    """
    kind = calibration.population.kind
    level = LEVELS[kind]
    value = _power if level.log else np.asarray
    measured = np.sort(calibration.observations.points["time_s"].unique())
    times = sorted({float(measured[0]), float(measured[len(measured) // 2]), float(measured[-1])})
    parts = []
    for time in times:
        columns = prediction_columns(calibration, temperature_K, time_s=time)
        low, middle, high, generic = _curves(calibration, kind, columns, value)
        parts.append(
            pd.DataFrame(
                {
                    "time_s": time,
                    "temperature_C": temperature_K - ZERO_CELSIUS,
                    level.column: middle,
                    f"low_90_{level.unit}": low,
                    f"high_90_{level.unit}": high,
                    f"least_squares_{level.unit}": generic,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _curves(
    calibration: Calibration,
    kind: str,
    columns: dict[str, Tensor],
    value: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray]:
    """Return the 5, 50 and 95 % quantiles over the posterior, and the generic fit; each [N]."""
    equation = calibration.population.equation
    inputs = {name: column[None] for name, column in columns.items()}
    with torch.no_grad():
        drawn = equation.predict(kind, calibration.draws[:, None, :], inputs)
        generic = equation.predict(kind, calibration.least_squares, columns)
    quantiles = drawn.quantile(drawn.new_tensor([0.05, 0.5, 0.95]), dim=0).numpy()
    return [value(row) for row in (*quantiles, generic.numpy())]


def _power(log10_time: np.ndarray) -> np.ndarray:
    """Return 10 to a power, kept within what a file and an axis can hold."""
    return 10 ** np.clip(log10_time, -30, 30)
