"""The CCT diagram of a calibrated alloy: its TTT curves, cooled at constant rates by Scheil."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from matml.core.files import atomic
from matml.kinetics.data.additivity import scheil_temperature
from matml.kinetics.data.columns import ZERO_CELSIUS
from matml.kinetics.diagrams.ttt import COLOURS, FRACTIONS
from matml.kinetics.inference.calibration import Calibration, prediction_columns

RATES_K_S = np.geomspace(1e-3, 100, 31)
CURVE_DRAWS, STEPS = 200, 400


def cooling_table(calibration: Calibration, temperature_K: np.ndarray) -> pd.DataFrame:
    """Return when and where constant cooling reaches each fraction.

    Columns fraction, cooling_rate_K_s, time_s and temperature_C (medians), low_90_C, high_90_C, and
    reached, the share of the posterior in which it is reached at all within the temperatures.
    Cooling counts from the hottest of the given temperatures.
    """
    start, end = float(temperature_K.max()), float(temperature_K.min())
    rates = torch.from_numpy(RATES_K_S)
    draws = calibration.draws[:: max(1, len(calibration.draws) // CURVE_DRAWS), None, :]
    parts = []
    for fraction in FRACTIONS:

        def log_time(temperature: torch.Tensor, fraction: float = fraction) -> torch.Tensor:
            inputs = prediction_columns(calibration, temperature.numpy(), fraction=fraction)
            with torch.no_grad():
                drawn = calibration.population.equation.predict(
                    "ttt", draws, {name: column[None] for name, column in inputs.items()}
                )
            return drawn * np.log(10.0)

        _, at_K = scheil_temperature(rates, start, end, log_time, STEPS)
        celsius = at_K.numpy() - ZERO_CELSIUS
        reached = np.isfinite(celsius).mean(0)
        # where most of the posterior does not get there the diagram has no line
        shown = reached >= 0.5
        # the rest of the posterior gets there below the coldest temperature
        low, middle, high = np.quantile(
            np.nan_to_num(celsius, nan=end - ZERO_CELSIUS), [0.05, 0.5, 0.95], axis=0
        )
        table = pd.DataFrame(
            {
                "fraction": fraction,
                "cooling_rate_K_s": RATES_K_S,
                "time_s": (start - ZERO_CELSIUS - middle) / RATES_K_S,
                "temperature_C": middle,
                "low_90_C": low,
                "high_90_C": high,
                "reached": reached,
            }
        )
        parts.append(table[shown])
    return pd.concat(parts, ignore_index=True)


def draw_cooling(
    calibration: Calibration, table: pd.DataFrame, start_K: float, paths: list[Path]
) -> None:
    """Draw the CCT diagram with bands and some cooling lines to PNG or SVG files."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    top = start_K - ZERO_CELSIUS
    for fraction, colour in zip(FRACTIONS, COLOURS, strict=True):
        block = table[table["fraction"] == fraction]
        axes.fill_between(
            block["time_s"],
            block["low_90_C"],
            block["high_90_C"],
            color=colour,
            alpha=0.18,
            linewidth=0,
        )
        label = f"{100 * fraction:g} % transformed, 90 % band"
        axes.plot(block["time_s"], block["temperature_C"], color=colour, label=label)
    if len(table):
        bottom = float(table["low_90_C"].min())
        share = np.linspace(1e-3, 1, 200)
        for rate in 10.0 ** np.arange(-3, 3):
            if table["cooling_rate_K_s"].min() / 3 <= rate <= table["cooling_rate_K_s"].max() * 10:
                drop = share * (top - bottom)
                axes.plot(drop / rate, top - drop, color="0.75", linewidth=0.8, zorder=0)
                end = drop[-1] / rate, bottom
                axes.annotate(f"{rate:g} K/s", end, fontsize=7, color="0.4", ha="right", va="top")
    else:
        said = f"nothing is reached down to {RATES_K_S.min():g} K/s"
        axes.set(xlim=(1, 1e6), ylim=(0, top))
        axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center")
    axes.set_xscale("log")
    axes.set_xlabel("time / s")
    axes.set_ylabel("temperature / °C")
    axes.set_title(f"{calibration.alloy}: continuous cooling from {top:.0f} °C, by Scheil")
    if len(table):
        axes.legend(frameon=False, fontsize=8)
    for path in paths:
        with mpl.rc_context({"svg.hashsalt": "matml"}), atomic(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else {}
            figure.savefig(temporary, dpi=150, format=path.suffix[1:], metadata=metadata)
