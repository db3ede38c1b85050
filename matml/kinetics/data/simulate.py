"""Simulated observations of published alloys: the data of a run without a network.

What is published is used as it is (exponent and activation energy; composition and Li's equation);
what no paper gives is drawn with a seed and said to be so. Every row is marked `simulated`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.core.project import input_path
from matml.kinetics.data.columns import CONDITION
from matml.kinetics.equations.form.declaration import GAS_CONSTANT
from matml.kinetics.equations.steels import eutectoid_temperature_K, li_time, martensite_start_K
from matml.kinetics.settings import KineticsSimulation

LOG10_HALF_TIMES = {
    "static recrystallisation": (0.5, 2.0),
    "crystallisation of glass": (2.0, 3.5),
    "precipitation of theta prime": (3.0, 4.5),
}
"""Range of log10 of the half time (s) at the reference temperature: drawn, not published."""

FRACTIONS = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)
"""Fractions around whose times a JMAK curve is sampled."""

TTT_CURVES = {"start": 0.01, "half": 0.5, "finish": 0.99}

SHORTEST_TIME_S, LONGEST_TIME_S = 0.1, 1e6
"""A TTT point outside is not measured."""


@dataclass(frozen=True)
class Simulation:
    """Simulated observations.

    Attributes
    ----------
    observations, alloys
        Tables in the tidy form that `read_observations` reads.
    truth
        True parameters where the simulating equation has them, one row per alloy.
    description
        What was simulated, from what, with which noise.
    """

    observations: pd.DataFrame
    alloys: pd.DataFrame
    truth: pd.DataFrame
    description: dict[str, object]


def simulate_jmak(settings: KineticsSimulation, seed: int) -> Simulation:
    """Return isothermal fraction curves with published exponents and activation energies.

    Each alloy is simulated under `settings.conditions` conditions (grain size, strain, heating),
    which share its exponent and activation energy and differ in the seeded half time.
    """
    table = _published(
        settings.jmak_table,
        ["avrami_exponent", "activation_energy_kJ_mol", "reference_temperature_K"],
    )
    generator = np.random.default_rng([seed, 1])
    points, alloys, truth = [], [], []
    for row in table.to_dict("records"):
        if row["process"] not in LOG10_HALF_TIMES:
            raise MatmlError(
                f"{settings.jmak_table}: alloy {row['alloy']!r}, process = {row['process']!r}: "
                f"known ones are {', '.join(LOG10_HALF_TIMES)}"
            )
        for condition in range(1, settings.conditions + 1):
            name = f"{row['alloy']}{CONDITION}{condition}"
            reference, width = row["reference_temperature_K"], row["temperature_half_range_K"]
            exponent = row["avrami_exponent"]
            half_time = 10 ** generator.uniform(*LOG10_HALF_TIMES[row["process"]])
            for temperature in np.linspace(reference - width, reference + width, 4):
                energy = row["activation_energy_kJ_mol"] * 1000 / GAS_CONSTANT
                local = half_time * np.exp(energy * (1 / temperature - 1 / reference))
                reached = -np.log1p(-np.array(FRACTIONS)) / np.log(2)
                jitter = 10 ** generator.normal(0, 0.05, len(FRACTIONS))
                time = local * reached ** (1 / exponent) * jitter
                fraction = 1 - np.exp(-np.log(2) * (time / local) ** exponent)
                measured = fraction + generator.normal(0, settings.fraction_noise, len(FRACTIONS))
                points += [
                    (name, round(temperature - 273.15, 2), t, f, True)
                    for t, f in zip(time, np.clip(measured, 0, 1), strict=True)
                ]
            alloys.append(
                (name, row["composition_group"], reference, row["process"], row["source"])
            )
            truth.append((name, half_time, row["activation_energy_kJ_mol"], exponent))
    return Simulation(
        _rounded(points, ["fraction_transformed", "simulated"]),
        pd.DataFrame(
            alloys,
            columns=["alloy", "composition_group", "reference_temperature_K", "process", "source"],
        ),
        pd.DataFrame(
            truth, columns=["alloy", "half_time_s", "activation_energy_kJ_mol", "avrami_exponent"]
        ),
        {
            "simulated": True,
            "seed": seed,
            "set": "jmak",
            "noise": f"transformed fraction: normal, sd {settings.fraction_noise}, cut to 0..1",
            "published": "exponent and activation energy of each alloy, whose source the table of "
            "alloys names",
            "drawn": "half time at the reference temperature, log-uniform by process; times",
            "equation": "isothermal JMAK with Arrhenius rate",
        },
    )


def simulate_ttt(settings: KineticsSimulation, seed: int) -> Simulation:
    """Return pearlite TTT points of steels by the equation of Li et al. 1998.

    From 15 K below Ac1 down to 20 K above Ms, but not more than 280 K below Ac1, every 15 K or so;
    the grain size is drawn between ASTM 5 and 9. True parameters exist of Li's equation only, so
    `truth` gives the nose of its half-time curve.
    """
    table = _published(settings.steel_table, ["C_wt_pct"])
    generator = np.random.default_rng([seed, 2])
    points, alloys, truth = [], [], []
    for row in table.to_dict("records"):
        composition = {
            name.removesuffix("_wt_pct"): row[name]
            for name in map(str, row)
            if name.endswith("_wt_pct")
        }
        top = eutectoid_temperature_K(composition)
        lowest = max(martensite_start_K(composition) + 20, top - 280)
        grain_size = round(generator.uniform(5, 9), 1)
        for curve, fraction in TTT_CURVES.items():
            temperature = np.arange(lowest + generator.uniform(0, 10), top - 15, 15.0)
            time = li_time("pearlite", composition, grain_size, top, temperature, fraction)
            read_time = time * 10 ** generator.normal(0, settings.time_noise, len(time))
            read_at = temperature + generator.normal(0, settings.temperature_noise, len(time))
            points += [
                (row["alloy"], round(at - 273.15, 2), t, fraction, curve, True)
                for at, t in zip(read_at, read_time, strict=True)
                if SHORTEST_TIME_S <= t <= LONGEST_TIME_S
            ]
        fine = np.arange(lowest, top - 5, 0.5)
        half = li_time("pearlite", composition, grain_size, top, fine, 0.5)
        truth.append((row["alloy"], half.min(), fine[half.argmin()], grain_size))
        alloys.append((row["alloy"], grain_size, *composition.values()))
    return Simulation(
        _rounded(points, ["ttt_fraction", "curve", "simulated"]),
        pd.DataFrame(
            alloys,
            columns=[
                "alloy",
                "grain_size_ASTM",
                *(f"{element}_wt_pct" for element in composition),
            ],
        ),
        pd.DataFrame(
            truth, columns=["alloy", "nose_half_time_s", "nose_temperature_K", "grain_size_ASTM"]
        ),
        {
            "simulated": True,
            "seed": seed,
            "set": "ttt",
            "noise": f"reading the diagram: normal, sd {settings.time_noise} in log10 of s and "
            f"{settings.temperature_noise} K",
            "published": "coefficients of Li 1998 for pearlite, Ac1 of Andrews 1965, Ms of van "
            "Bohemen 2012, nominal compositions of AISI steels",
            "drawn": "austenite grain size, ASTM 5 to 9",
            "equation": "Li et al., Metall. Mater. Trans. B 29 (1998) 661",
        },
    )


SIMULATIONS = {"jmak": simulate_jmak, "ttt": simulate_ttt}


def _published(path: Path, needed: list[str]) -> pd.DataFrame:
    """Read a table of published alloys."""
    table = read_table(input_path(path))
    for name in ["alloy", *needed]:
        if name not in table:
            raise MatmlError(f"{path}: column {name!r} is missing")
    return table


def _rounded(points: list[tuple], last: list[str]) -> pd.DataFrame:
    """Return the tidy table, with times and fractions to the digits that a reader could give."""
    table = pd.DataFrame(points, columns=["alloy", "temperature_C", "time_s", *last])
    table["time_s"] = [float(f"{time:.5g}") for time in table["time_s"]]
    if "fraction_transformed" in table:
        table["fraction_transformed"] = table["fraction_transformed"].round(4)
    return table
