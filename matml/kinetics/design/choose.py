"""Which experiment to do next: the one that is expected to make predictions surest.

From posterior draws the joint covariance of all predictions follows; measuring candidate c would
reduce the variance of prediction r by cov(r, c)^2 / (var(c) + noise^2), exactly so for a normal
posterior (Cohn, Ghahramani and Jordan, J. Artif. Intell. Res. 4 (1996) 129). Averaged over the
region that matters to the user this ranks the candidates. Several are chosen one after the other,
each given those before it, and each with one look ahead: of the pair that together leaves the least
variance it is the one that takes away more alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.importance_sampling import Posterior, sample_posterior
from matml.bayes.tasks import Tasks
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import (
    other_inputs,
    residual_function,
    to_tasks,
    with_alloy_inputs,
)
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.design.figure import Design
from matml.kinetics.diagrams.quantities import STARTS
from matml.kinetics.inference.population import Population

DRAWS, PROPOSALS = 1000, 8000
EXCHANGES = 5
"""At most, until a pair of candidates is the best one."""
TEMPERATURES, TIMES = 25, 17
FRACTIONS = (0.01, 0.5, 0.99)
PROGRESS = (0.1, 0.5, 0.9)
"""Fractions to which the expected times of a proposal are told."""
ROOM_K = 293.15


@dataclass(frozen=True)
class Region:
    """Conditions that matter, or that can be realised.

    Attributes
    ----------
    temperature_K, time_s, heating_rate_K_per_s
        Lowest and highest, of those that are conditions of the kind of observation.
    fractions
        Of a TTT diagram.
    """

    temperature_K: tuple[float, float] | None = None
    time_s: tuple[float, float] | None = None
    heating_rate_K_per_s: tuple[float, float] | None = None
    fractions: Sequence[float] = FRACTIONS

    def _ends(self, name: str) -> tuple[float, float]:
        ends = getattr(self, name)
        if ends is None:
            raise MatmlError(f"{name}: the population was learned from none; give a range")
        return ends

    def grid(self, kind: str) -> pd.DataFrame:
        """Return conditions on a regular grid: temperature, and fraction or time if it counts."""
        if kind in STARTS:
            raise MatmlError(f"a {kind.replace('_', ' ')} has no conditions that could be chosen")
        if kind == "peak_temperature":
            rates = np.geomspace(*self._ends("heating_rate_K_per_s"), TEMPERATURES)
            return pd.DataFrame({"heating_rate_K_per_s": rates})
        if kind == "martensite":
            return pd.DataFrame(
                {"temperature_K": np.linspace(*self._ends("temperature_K"), TEMPERATURES)}
            )
        temperature = np.linspace(*self._ends("temperature_K"), TEMPERATURES)
        if kind == "ttt":
            second, name = np.array(self.fractions, dtype=float), "fraction"
        else:
            second, name = np.geomspace(*self._ends("time_s"), TIMES), "time_s"
        first, other = np.meshgrid(temperature, second, indexing="ij")
        return pd.DataFrame({"temperature_K": first.ravel(), name: other.ravel()})


@dataclass(frozen=True)
class Cost:
    """What experiments cost, in any currency: each, and by the hour that it is expected to take."""

    per_experiment: float
    per_hour: float = 0.0

    def __post_init__(self) -> None:
        if not (self.per_experiment > 0 and 0 <= self.per_hour < math.inf):
            raise MatmlError(
                f"cost {self.per_experiment:g} an experiment and {self.per_hour:g} an hour: the "
                "first is positive (what sets up and measures a specimen), the second not negative"
            )


def choose(
    candidates: Tensor,
    region: Tensor,
    noise: float,
    count: int,
    allowed: Tensor | None = None,
    cost: Tensor | float = 1.0,
) -> tuple[list[int], list[Tensor], list[float]]:
    """Return the chosen candidates, the gain of every candidate at each step, and what is left.

    Parameters
    ----------
    candidates, region
        Predictions of posterior draws, [S, C] and [S, R].
    noise
        Standard deviation of a measurement.
    allowed
        Which candidates may be chosen [C]; by default all.
    cost
        Of each candidate [C]: what counts is the reduction over it.

    Returns
    -------
    chosen
        Numbers of the candidates, best first; one may be chosen again.
    gains
        Expected reduction of the region's mean variance by each candidate, per step, [C].
    remaining
        Mean variance over the region before any, and after each choice.
    """
    size = region.shape[1]
    joint = torch.cat([region, candidates], 1)
    centred = joint - joint.mean(0)
    covariance = centred.mT @ centred / len(joint)
    chosen, gains, remaining = [], [], [float(covariance.diagonal()[:size].mean())]
    for _ in range(count):
        gain = _gains(covariance, size, noise)
        best = _best_with_another(covariance, size, noise, allowed, cost)
        covariance = _measured(covariance, size + best, noise)
        chosen.append(best)
        gains.append(gain)
        remaining.append(float(covariance.diagonal()[:size].mean()))
    return chosen, gains, remaining


def _gains(covariance: Tensor, size: int, noise: float) -> Tensor:
    """Return how much each candidate reduces the mean variance of the first `size`, [C]."""
    total = covariance.diagonal()[size:] + noise**2
    return covariance[:size, size:].square().mean(0) / total


def _measured(covariance: Tensor, number: int, noise: float) -> Tensor:
    """Return the covariance after a measurement at one of its rows."""
    column = covariance[:, number]
    return covariance - column[:, None] * column / (column[number] + noise**2)


def _best_with_another(
    covariance: Tensor, size: int, noise: float, allowed: Tensor | None, cost: Tensor | float
) -> int:
    """Return the better one of the pair of candidates that together leaves the least variance.

    By its cost, each.

    The pair is found by exchange: each in turn the best beside the other.
    """

    def best(known: Tensor) -> int:
        gain = _gains(known, size, noise) / cost
        return int((gain if allowed is None else gain.where(allowed, -1.0)).argmax())

    first = best(covariance)
    for _ in range(EXCHANGES):
        second = best(_measured(covariance, size + first, noise))
        again = best(_measured(covariance, size + second, noise))
        if again == first:
            break
        first = again
    alone = _gains(covariance, size, noise) / cost
    return max((first, second), key=lambda number: float(alone[number]))


def _nothing_measured(population: Population) -> Tasks:
    """Return one alloy without observations."""
    nothing = torch.zeros(1, 1, dtype=torch.float64)
    names = ["temperature_K", "reference_temperature_K", "time_s", "fraction", "target"]
    names += other_inputs(population.observable)
    columns = {name: nothing + 0.5 if name == "fraction" else nothing + 1e3 for name in names}
    residual = residual_function(population.equation, population.kind)
    return Tasks.of(residual, columns, nothing)


def predictions(
    population: Population,
    posterior: Posterior,
    conditions: pd.DataFrame,
    reference: float | None,
    window: tuple[Tensor, Tensor],
) -> Tensor:
    """Return what each draw predicts at conditions [S, C], cut to the range `window`."""
    inputs = {str(n): torch.tensor(conditions[n].to_numpy(float))[None] for n in conditions}
    if reference is not None:
        inputs["reference_temperature_K"] = torch.full_like(inputs["temperature_K"], reference)
    with torch.no_grad():
        value = population.equation.predict(population.kind, posterior.draws[0][:, None], inputs)
    return value.clamp(*window)


def design(
    population: Population,
    alloys: pd.DataFrame,
    observations: Observations | None,
    region: Region,
    feasible: Region,
    count: int,
    seed: int,
    longest_s: float | None = None,
    cost: Cost | None = None,
) -> Design:
    """Return the experiments that are expected to help most.

    Parameters
    ----------
    alloys
        The alloy's row of the table of alloys.
    observations
        What was measured of it so far; None if nothing was.
    region
        Where predictions matter.
    feasible
        What can be measured.
    longest_s
        Longest experiment in s, by what is expected of it. Without it, and where the time is what
        is measured, the longest that the population has seen: the equation is held to no further.
    cost
        Of experiments: those are chosen that take away most variance for it.

    Raises
    ------
    MatmlError
        Where the observations are of another kind than the population's, or nothing is expected to
        end in time.
    """
    if observations is not None and observations.kind != population.kind:
        raise MatmlError(
            f"the data are {observations.kind!r} observations, the population was learned from "
            f"{population.kind!r}; learn one from such data"
        )
    task, reference = None, None
    if population.equation.needs_reference_temperature:
        given = alloys.get("reference_temperature_K", pd.Series([np.nan])).iloc[0]
        reference = float(given) if given == given else population.reference_temperature_K
    if observations is not None:
        reference, _ = population.reference_temperature(observations)
        task = to_tasks(observations, population.equation, reference)
    others = constant_inputs(population, alloys, observations, set(region.grid(population.kind)))
    priors = population.prior.of(alloys, task, like_the_learned=task is None)
    task = task or _nothing_measured(population)
    posterior = sample_posterior(task, priors, draws=DRAWS, proposals=PROPOSALS, seed=seed)
    window = population.prior.window_for(task, posterior)
    grids = feasible.grid(population.kind), region.grid(population.kind)
    candidates, target = (grid.assign(**others) for grid in grids)
    predicted = predictions(population, posterior, candidates, reference, window)
    shown = candidates.copy()
    shown["duration_s"] = _durations(population.kind, candidates, predicted)
    allowed = _in_time(population, shown["duration_s"], longest_s)
    if cost is not None:
        # an experiment without a duration costs what any does
        hours = shown["duration_s"].fillna(0.0) / 3600
        shown["cost"] = cost.per_experiment + cost.per_hour * hours
    chosen, gains, remaining = choose(
        predicted,
        predictions(population, posterior, target, reference, window),
        float(posterior.noise.median()),
        count,
        allowed,
        1.0 if cost is None else torch.tensor(shown["cost"].to_numpy(float)),
    )
    if "temperature_K" in shown:
        shown["temperature_C"] = shown["temperature_K"] - ZERO_CELSIUS
    proposals = shown.iloc[chosen].reset_index(drop=True)
    proposals = proposals.join(_times_to(population, posterior, proposals, reference))
    proposals.insert(0, "experiment", range(1, count + 1))
    proposals["variance_left"] = np.array(remaining[1:]) / remaining[0]
    shown["expected_reduction"] = (gains[0] / remaining[0]).numpy()
    points = pd.DataFrame() if observations is None else observations.points
    return Design(proposals, shown, points, population.kind, str(alloys["alloy"].iloc[0]))


def constant_inputs(
    population: Population,
    alloys: pd.DataFrame,
    observations: Observations | None,
    varied: set[str],
) -> dict[str, float]:
    """Return the inputs of predictions that no experiment varies: the alloy's, or their medians.

    Raises
    ------
    MatmlError
        Where nothing says one.
    """
    observable, others = population.observable, {}
    points = None if observations is None else with_alloy_inputs(observations, observable)
    for name in other_inputs(observable):
        if name in varied:
            continue
        if points is None and name in alloys and alloys[name].notna().all():
            others[name] = float(alloys[name].iloc[0])
            continue
        if points is None:
            raise MatmlError(
                f"equation {population.equation.name!r} needs {name}: give observations (--data) "
                "with it, or, where it belongs to the alloy, the table of alloys; proposals are "
                "made for its median"
            )
        others[name] = float(points[name].median())
    return others


def _durations(kind: str, candidates: pd.DataFrame, predicted: Tensor) -> np.ndarray:
    """Return how long each experiment is expected to take in s, [C]; NaN where nothing says so.

    To a fraction: the median time; to a peak: heating to it from room temperature.
    """
    middle = predicted.quantile(0.5, 0).numpy()
    if kind == "ttt":
        return 10**middle
    if kind == "peak_temperature":
        return (middle - ROOM_K) / candidates["heating_rate_K_per_s"].to_numpy(float)
    if "time_s" in candidates:
        return candidates["time_s"].to_numpy(float)
    return np.full(len(candidates), np.nan)


def _in_time(population: Population, duration_s: pd.Series, longest_s: float | None) -> Tensor:
    """Return which experiments end in time."""
    limit = longest_s
    if limit is None:
        seen = population.data_card.get("time_s") if population.kind == "ttt" else None
        limit = seen[1] if seen and (duration_s <= seen[1]).any() else math.inf
    late = duration_s.to_numpy(float) > limit
    if late.all():
        raise MatmlError(
            f"nothing is expected to end within {limit:.4g} s; the shortest experiment takes "
            f"{duration_s.min():.4g} s: allow a longer one, or other temperatures"
        )
    return torch.from_numpy(~late)


def _times_to(
    population: Population, posterior: Posterior, proposals: pd.DataFrame, reference: float | None
) -> pd.DataFrame:
    """Return the median times in s to 10, 50 and 90 % at the proposals' temperatures."""
    names = {f"time_to_{100 * part:.0f}_pct_s": part for part in PROGRESS}
    if population.kind not in ("ttt", "fraction") or "ttt" not in population.equation.observables:
        return pd.DataFrame(index=proposals.index)
    inputs = {
        name: torch.tensor(proposals[name].to_numpy(float))[None]
        for name in proposals.columns.difference(["time_s", "fraction", "duration_s"])
    }
    if reference is not None:
        inputs["reference_temperature_K"] = torch.full_like(inputs["temperature_K"], reference)
    found = {}
    for name, part in names.items():
        inputs["fraction"] = torch.full_like(inputs["temperature_K"], part)
        with torch.no_grad():
            drawn = population.equation.predict("ttt", posterior.draws[0][:, None], inputs)
        found[name] = (10 ** drawn.quantile(0.5, 0).clamp(-30, 30)).numpy()
    return pd.DataFrame(found, index=proposals.index)
