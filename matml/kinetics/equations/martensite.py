"""Martensite on cooling: Koistinen-Marburger, with the parameters of van Bohemen from composition.

Koistinen and Marburger, Acta Metall. 7 (1959) 59; van Bohemen, Mater. Sci. Technol. 28 (2012) 487
(start temperature in `steels`).
"""

import numpy as np

from matml.kinetics.equations.steels import Composition

KOISTINEN_MARBURGER_RATE = 0.011
"""alpha in 1/K: plain carbon steels, Koistinen and Marburger 1959."""


def martensite_fraction(
    temperature_K: np.ndarray, start_K: float, rate: float = KOISTINEN_MARBURGER_RATE
) -> np.ndarray:
    """Return the fraction 1 - exp[-rate (Ms - T)] of the austenite; zero above Ms."""
    undercooling = np.maximum(start_K - np.asarray(temperature_K, dtype=float), 0.0)
    return -np.expm1(-rate * undercooling)


def van_bohemen_rate(composition: Composition) -> float:
    """Return alpha in 1/K from the composition in wt %."""
    slopes = {"Mn": 0.14, "Si": 0.21, "Cr": 0.11, "Ni": 0.08, "Mo": 0.05}
    solutes = sum(k * composition.get(element, 0.0) for element, k in slopes.items())
    carbon = 19.8 * (1 - np.exp(-1.56 * composition.get("C", 0.0)))
    return 1e-3 * (27.2 - solutes - carbon)
