"""Isoconversional activation energies: Q over the conversion, without an equation for that.

At one conversion the rate depends on temperature alone, whatever the reaction. Where Q changes with
the conversion, no equation with one Q describes it (Vyazovkin et al., Thermochim. Acta 520 (2011)
1).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.kinetics.data.observations import Observations
from matml.kinetics.data.thermal_history import History
from matml.kinetics.equations.form.declaration import GAS_CONSTANT

CONVERSIONS = np.round(np.arange(0.1, 0.91, 0.1), 2)
STEP = 0.05
"""Half width in conversion of a rate, and of Vyazovkin's integrals."""
LOWEST_Q, HIGHEST_Q = 1.0, 2000.0
"""In kJ/mol."""
APART_K = 2.0
"""Least difference of temperatures from which a Q follows."""
FLAT = 0.2
"""Spread of Q, in its mean, up to which it counts as one."""
TIMES = 41


@dataclass(frozen=True)
class Run:
    """A specimen's conversion over time.

    Attributes
    ----------
    time_s, fraction
        Each [N]; both rise.
    history
        Its temperatures.
    rate_K_s
        Of a ramp; 0 of a hold, NaN of any other path.
    """

    time_s: np.ndarray
    fraction: np.ndarray
    history: History
    rate_K_s: float

    def time_to(self, fraction: float) -> float:
        """Return the time in s to a conversion; NaN where it was not measured."""
        return float(np.interp(fraction, self.fraction, self.time_s, np.nan, np.nan))

    def passes(self, conversion: float) -> bool:
        """Return whether the conversions around one were measured."""
        return self.fraction[0] <= conversion - STEP and conversion + STEP <= self.fraction[-1]


def runs_of(own: Observations) -> Iterator[Run]:
    """Yield the runs of one alloy's fractions; those at one temperature are one, too."""
    points = own.points.copy()
    if "start_temperature_K" not in points:
        points["start_temperature_K"] = points["temperature_K"]
    if "path" not in points:
        points["path"] = ""
    points["hold"] = np.where(
        (points["start_temperature_K"] == points["temperature_K"]) & (points["path"] == ""),
        points["temperature_K"].round(1),
        -1.0,
    )
    ramp = points["temperature_K"] - points["start_temperature_K"]
    points["rate"] = (ramp / points["time_s"]).round(6)
    keys = ["path", "hold", *(["run"] if "run" in points else [])]
    if "run" not in points:
        # at constant rates rows of one rate are one run
        points["slope"] = points["rate"].map(lambda rate: float(f"{rate:.2g}"))
        keys.append("slope")
    for _, rows in points.groupby(keys, sort=False):
        rows = rows.sort_values("time_s")
        fraction = np.maximum.accumulate(rows["fraction_transformed"].to_numpy(float))
        keep = np.r_[True, np.diff(fraction) > 0]
        time, fraction = rows["time_s"].to_numpy(float)[keep], fraction[keep]
        if len(time) < 3:
            continue
        last = rows.iloc[-1]
        if last["path"]:
            yield Run(time, fraction, own.paths[last["path"]], np.nan)
            continue
        ends = np.array([last["start_temperature_K"], last["temperature_K"]])
        history = History(np.array([0.0, last["time_s"]]), ends)
        yield Run(time, fraction, history, float(np.diff(ends)[0] / last["time_s"]))


def isoconversional(own: Observations) -> pd.DataFrame:
    """Return Q over the conversion by each method for which one alloy has the runs.

    Friedman (J. Polym. Sci. C 6 (1964) 183): from rates. Vyazovkin (J. Comput. Chem. 22 (2001)
    178): from times, along any temperatures. KAS (Kissinger, Akahira and Sunose): from the
    temperatures of ramps. A negative rate, or one temperature, tells nothing.

    Returns
    -------
    table
        Columns method, conversion, activation_energy_kJ_mol, and runs.
    """
    runs = list(runs_of(own))
    ramps = [run for run in runs if run.rate_K_s > 0]
    methods: dict[str, tuple[Callable[[list[Run], float], float], list[Run]]] = {
        "Friedman": (_friedman, runs),
        "Vyazovkin": (_vyazovkin, runs),
        "KAS": (_kas, ramps),
    }
    rows = []
    for method, (energy, used) in methods.items():
        for conversion in CONVERSIONS:
            there = [run for run in used if run.passes(conversion)]
            kelvin = _temperatures(there, conversion)
            if len(there) < 2 or np.ptp(kelvin) < APART_K:
                continue
            rows.append(
                {
                    "method": method,
                    "conversion": conversion,
                    "activation_energy_kJ_mol": energy(there, conversion),
                    "runs": len(there),
                }
            )
    return pd.DataFrame(rows, columns=["method", "conversion", "activation_energy_kJ_mol", "runs"])


def flatness(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each method on whether its Q is one."""
    found = []
    for method, own in table.groupby("method", sort=False):
        energy = own["activation_energy_kJ_mol"]
        if len(energy) < 3:
            continue
        spread = float(np.ptp(energy) / abs(energy.mean()))
        first, last = own.iloc[0], own.iloc[-1]
        found.append(
            f"{method}: Q {energy.mean():.0f} kJ/mol, {first['activation_energy_kJ_mol']:.0f} at "
            f"{first['conversion']:g} and {last['activation_energy_kJ_mol']:.0f} at "
            f"{last['conversion']:g}, spread {100 * spread:.0f} %: "
            + (
                "flat, one activation energy will do"
                if spread <= FLAT
                else "not flat: several reactions, or a mechanism that changes"
            )
        )
    return found


def _friedman(runs: list[Run], conversion: float) -> float:
    rates = [2 * STEP / (r.time_to(conversion + STEP) - r.time_to(conversion - STEP)) for r in runs]
    return _slope(runs, conversion, np.log(rates))


def _kas(runs: list[Run], conversion: float) -> float:
    kelvin = _temperatures(runs, conversion)
    return _slope(runs, conversion, np.log([r.rate_K_s for r in runs] / kelvin**2))


def _temperatures(runs: list[Run], conversion: float) -> np.ndarray:
    return np.array([run.history.at(np.array([run.time_to(conversion)]))[0] for run in runs])


def _slope(runs: list[Run], conversion: float, ordinate: np.ndarray) -> float:
    """Return Q in kJ/mol from a straight line over the inverse temperature."""
    inverse = 1 / _temperatures(runs, conversion)
    return float(-np.polyfit(inverse, ordinate, 1)[0] * GAS_CONSTANT / 1000)


def _vyazovkin(runs: list[Run], conversion: float) -> float:
    from scipy.optimize import minimize_scalar

    parts = []
    for run in runs:
        time = np.linspace(run.time_to(conversion - STEP), run.time_to(conversion + STEP), TIMES)
        parts.append((time, 1 / run.history.at(time)))
    middle = float(np.mean([inverse.mean() for _, inverse in parts]))

    def misfit(energy: float) -> float:
        over = energy * 1000 / GAS_CONSTANT
        log = np.array([_log_integral(time, -over * (inverse - middle)) for time, inverse in parts])
        # the sum of all ratios of two integrals, which is least where they are equal
        return float(np.log(np.exp(log[:, None] - log[None]).sum()))

    return float(minimize_scalar(misfit, bounds=(LOWEST_Q, HIGHEST_Q), method="bounded").x)


def _log_integral(time_s: np.ndarray, log_rate: np.ndarray) -> float:
    highest = log_rate.max()
    return float(highest + np.log(np.trapezoid(np.exp(log_rate - highest), time_s)))
