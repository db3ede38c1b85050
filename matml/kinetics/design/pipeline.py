"""The work of `matml kinetics design` and its benchmark: read, compute, write, say so."""

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.files import write_json, write_table
from matml.figures.static import write
from matml.kinetics.data.alloys import group_alloys, read_alloys
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import TIMES, ZERO_CELSIUS
from matml.kinetics.design.choose import Cost, Region, design
from matml.kinetics.design.figure import figure
from matml.kinetics.inference.population import Population

log = logging.getLogger(__name__)

Ranges = tuple[tuple[float, float] | None, ...]
"""Lowest and highest temperature in C, time in s, and heating rate in K/s."""


def design_stage(
    prior: Path,
    observations: Observations | None,
    alloys: Path | None,
    name: str | None,
    wanted: Ranges,
    feasible: Ranges,
    count: int,
    out: Path,
    seed: int,
    *,
    trust_equation: bool = False,
    longest_s: float | None = None,
    cost: tuple[float, float] | None = None,
) -> None:
    """Propose experiments for one alloy, print them, write table and figure.

    Raises
    ------
    MatmlError
        Where it is not clear which alloy is meant, or a range is upside down.
    """
    population = Population.load(prior, trust_equation=trust_equation)
    observations, own = one_alloy(observations, alloys, name)
    target, possible = region_of(population, wanted), region_of(population, feasible)
    priced = None if cost is None else Cost(*cost)
    result = design(population, own, observations, target, possible, count, seed, longest_s, priced)
    write_table(out / "design.csv", result.proposals)
    write_table(out / "candidates.csv", result.candidates)
    write_table(out / "observations.csv", result.points)
    write_json(out / "design.json", {"alloy": result.alloy, "kind": result.kind, "seed": seed})
    write(figure(result), [out / "design.png"])
    for row in result.proposals.to_dict("records"):
        print(
            f"{row['experiment']}. {_experiment(row)}: "
            f"{100 * row['variance_left']:.0f} % of the variance expected to remain"
            f"{_expected(row)}{_costing(row)}"
        )
    total = result.proposals["duration_s"].sum()
    if total > 0:
        print(f"together about {_lasting(total)} at temperature or on the ramp")
    if cost is not None:
        print(f"together {result.proposals['cost'].sum():.3g} in the currency of --cost")


def one_alloy(
    observations: Observations | None, alloys: Path | None, name: str | None
) -> tuple[Observations | None, pd.DataFrame]:
    """Return one alloy's observations, if there are any, and its row of the table of alloys.

    Raises
    ------
    MatmlError
        Where it is not clear which alloy is meant.
    """
    if observations is not None:
        name = name or (observations.names[0] if len(observations.names) == 1 else None)
        if name not in observations.names:
            raise MatmlError(f"--alloy: give one of {', '.join(observations.names)}")
        observations = observations.select([name])
        return observations, observations.alloys
    if alloys is not None and name is not None:
        own, missing = read_alloys(alloys, [name])
        if missing:
            raise MatmlError(missing[0])
        return None, group_alloys(own)
    return None, group_alloys(pd.DataFrame({"alloy": [name or "new alloy"]}))


WORDS = {
    "temperature_C": "{:.0f} C",
    "fraction": "time to fraction {:g}",
    "time_s": "after {:.3g} s",
    "heating_rate_K_per_s": "heating at {:.3g} K/s",
}
"""How a condition of a proposed experiment is said."""


def _experiment(row: Mapping[Hashable, object]) -> str:
    """Return a proposed experiment in words."""
    return ", ".join(words.format(row[name]) for name, words in WORDS.items() if name in row)


def _expected(row: Mapping[Hashable, Any]) -> str:
    """Return how long a proposed experiment is expected to take, in words."""
    words = ""
    if (duration := row["duration_s"]) == duration and "time_s" not in row:
        words = f"; takes about {_lasting(duration)}"
    times = [row[name] for name in row if str(name).startswith("time_to_")]
    if times:
        words += "; 10, 50, 90 % expected after " + ", ".join(map(_lasting, times))
    return words


def _costing(row: Mapping[Hashable, Any]) -> str:
    """Return what a proposed experiment costs, in words."""
    return f"; costs {row['cost']:.3g}" if "cost" in row else ""


def _lasting(second: float) -> str:
    """Return a duration in the unit that suits it."""
    for unit in reversed(TIMES[:3]):
        if second >= unit.factor:
            return f"{second / unit.factor:.3g} {unit.name}"
    return f"{second:.3g} s"


def region_of(population: Population, ranges: Ranges) -> Region:
    """Return the region of ranges; the population's own where none is given."""
    known = population.data_card
    found = {}
    names = ("temperature_K", "time_s", "heating_rate_K_per_s")
    for name, given, shift in zip(names, ranges, (ZERO_CELSIUS, 0.0, 0.0), strict=True):
        if name not in known:
            continue
        low, high = known[name] if not given else (given[0] + shift, given[1] + shift)
        if not 0 < low < high:
            raise MatmlError(f"{name}: the range {low:g} to {high:g} is empty or not positive")
        found[name] = (low, high)
    return Region(**found)
