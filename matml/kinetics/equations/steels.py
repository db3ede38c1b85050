"""Transformation of austenite in low-alloy steels from composition: Li et al. 1998.

Source: Li, Niebuhr, Meekisho and Atteridge, Metall. Mater. Trans. B 29 (1998) 661. Time to a
transformed fraction X at a constant temperature,

    t = C S(X) / [2^(g G) (T0 - T)^p exp(-Q / R T)],  Q = 27,500 cal/mol,

with the ASTM grain size number G, T0 the temperature where the reaction becomes possible, and
S(X) the integral from 0 to X of dx / [x^(0.4 (1-x)) (1-x)^(0.4 x)]. The coefficients agree with
those of the open implementation arthursn/transformation-diagrams.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from matml.kinetics.equations.form.declaration import GAS_CONSTANT

Composition = Mapping[str, Any]
"""Element symbol to wt %, a number or a tensor; what is missing is zero."""

ACTIVATION_ENERGY_J_MOL = 27_500 * 4.184


@dataclass(frozen=True)
class Reaction:
    """Coefficients of one reaction of austenite.

    Parameters
    ----------
    constant, slopes
        ln C = constant + sum of slope times wt %; molybdenum of pearlite enters by its root.
    grain_exponent, undercooling_exponent
        g and p.
    """

    constant: float
    slopes: Mapping[str, float]
    grain_exponent: float
    undercooling_exponent: int
    root_of_molybdenum: bool = False

    def log_composition_factor(self, composition: Composition) -> Any:
        """Return ln C, a number or a tensor."""
        total = self.constant
        for element, slope in self.slopes.items():
            amount = composition.get(element, 0.0)
            if element == "Mo" and self.root_of_molybdenum:
                amount = amount**0.5
            total += slope * amount
        return total


REACTIONS = {
    "ferrite": Reaction(
        1.0, {"C": 6.31, "Mn": 1.78, "Si": 0.31, "Ni": 1.12, "Cr": 2.7, "Mo": 4.06}, 0.41, 3
    ),
    "pearlite": Reaction(
        -4.25,
        {"C": 4.12, "Mn": 4.36, "Si": 0.44, "Ni": 1.71, "Cr": 3.33, "Mo": 5.19},
        0.32,
        3,
        root_of_molybdenum=True,
    ),
    "bainite": Reaction(
        -10.23, {"C": 10.18, "Mn": 0.85, "Ni": 0.55, "Cr": 0.9, "Mo": 0.36}, 0.29, 2
    ),
}


@lru_cache(maxsize=4096)
def li_integral(fraction: float) -> float:
    """Return S(X), for X between 0 and 1."""
    from scipy.integrate import quad

    value, _ = quad(lambda x: 1 / (x ** (0.4 * (1 - x)) * (1 - x) ** (0.4 * x)), 0.0, fraction)
    return value


@lru_cache(maxsize=4096)
def kirkaldy_integral(fraction: float) -> float:
    """Return I(X) of Kirkaldy and Venugopalan 1984, for X between 0 and 1.

    The integral from 0 to X of dx / [x^(2 (1-x) / 3) (1-x)^(2 x / 3)]: sites that grow towards each
    other, where Li's exponents 0.4 were fitted to more diagrams.
    """
    from scipy.integrate import quad

    value, _ = quad(lambda x: 1 / (x ** (2 * (1 - x) / 3) * (1 - x) ** (2 * x / 3)), 0.0, fraction)
    return value


INTEGRALS = {"li": li_integral, "kirkaldy": kirkaldy_integral}


def li_time(
    reaction: str,
    composition: Composition,
    grain_size: float,
    start_temperature_K: float,
    temperature_K: np.ndarray,
    fraction: float,
    integral: str = "li",
) -> np.ndarray:
    """Return the time in s to a fraction, shape of `temperature_K`.

    Parameters
    ----------
    reaction
        "ferrite", "pearlite" or "bainite".
    grain_size
        ASTM number of the austenite grain.
    start_temperature_K
        Ae3, Ae1 or Bs; temperatures must lie below it.
    integral
        "li", or "kirkaldy" for the growth term of Kirkaldy and Venugopalan.

    Raises
    ------
    ValueError
        At or above the start temperature, where the reaction is not possible.
    """
    temperature_K = np.asarray(temperature_K, dtype=float)
    if (temperature_K >= start_temperature_K).any():
        raise ValueError(f"{reaction} does not form at or above {start_temperature_K:.0f} K")
    law = REACTIONS[reaction]
    undercooling = start_temperature_K - temperature_K
    log_time = (
        law.log_composition_factor(composition)
        + np.log(INTEGRALS[integral](fraction))
        - law.grain_exponent * grain_size * np.log(2)
        - law.undercooling_exponent * np.log(undercooling)
        + ACTIVATION_ENERGY_J_MOL / (GAS_CONSTANT * temperature_K)
    )
    return np.exp(log_time)


def carbon_term(composition: Composition, slope: float) -> Any:
    """Return 1 - exp(-slope C), of a number or a tensor of wt % carbon."""
    carbon = composition.get("C", 0.0)
    return -torch.expm1(-slope * carbon) if torch.is_tensor(carbon) else -np.expm1(-slope * carbon)


def eutectoid_temperature_K(composition: Composition) -> Any:
    """Return Ac1 = 723 C - 10.7 Mn + 29.1 Si - 16.9 Ni + 16.9 Cr (Andrews, JISI 203 (1965) 721)."""
    slopes = {"Mn": -10.7, "Si": 29.1, "Ni": -16.9, "Cr": 16.9}
    return 996.15 + sum(k * composition.get(element, 0.0) for element, k in slopes.items())


def ferrite_start_K(composition: Composition) -> Any:
    """Return Ac3 = 910 C - 203 sqrt(C) - 30 Mn + 44.7 Si - 15.2 Ni - 11 Cr + 31.5 Mo (Andrews)."""
    slopes = {"Mn": -30.0, "Si": 44.7, "Ni": -15.2, "Cr": -11.0, "Mo": 31.5}
    solutes = sum(k * composition.get(element, 0.0) for element, k in slopes.items())
    return 1183.15 - 203 * composition.get("C", 0.0) ** 0.5 + solutes


def bainite_start_K(composition: Composition) -> Any:
    """Return Bs (van Bohemen, Mater. Sci. Technol. 28 (2012) 487)."""
    slopes = {"Mn": 86.0, "Si": 23.0, "Cr": 67.0, "Ni": 33.0, "Mo": 75.0}
    solutes = sum(k * composition.get(element, 0.0) for element, k in slopes.items())
    return 839 + 273.15 - solutes - 270 * carbon_term(composition, 1.33)


def martensite_start_K(composition: Composition) -> Any:
    """Return Ms (van Bohemen, Mater. Sci. Technol. 28 (2012) 487)."""
    slopes = {"Mn": 31.0, "Si": 13.0, "Cr": 10.0, "Ni": 18.0, "Mo": 12.0}
    solutes = sum(k * composition.get(element, 0.0) for element, k in slopes.items())
    return 565 + 273.15 - solutes - 600 * carbon_term(composition, 0.96)
