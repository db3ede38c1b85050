"""The next trial of an alloy that is to reach a target, from what was measured of it so far."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from matml.bayes.tasks import Columns
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import to_tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.design.choose import constant_inputs
from matml.kinetics.design.pipeline import region_of
from matml.kinetics.inference.calibrate import calibrate
from matml.kinetics.inference.diagnostics import composition_notes, contradiction_notes
from matml.kinetics.inference.population import Population
from matml.kinetics.inference.run_offsets import NO_OFFSETS, RunOffsets
from matml.kinetics.reach.belief import Belief, Outlook, Spread
from matml.kinetics.reach.furnace import Cost, Furnace
from matml.kinetics.reach.policy import next_trial
from matml.kinetics.reach.spread import SCALES, curves_of
from matml.kinetics.reach.target import Target

SPREADS = {
    "hardness": Spread(
        share=0.31,
        common=1.46,
        local=2.11,
        noise=0.41,
        temperature_K=117.0,
        decades=1.05,
        scales=SCALES,
        chances=(0.087, 0.415, 0.460, 0.038),
    )
}
"""By kind of observation: `learn_spread` on the 37 tempering series that the shipped population is
learned from. Of other kinds too few alloys are measured: there the population is taken as it is."""

DRAWS = 400
LEAST_CHANCE = 0.02
"""Below which a target is said to be out of reach."""
REPEATED = 0.05
"""Share of a time, or a hundredth of it in K, within which a setting counts as tried."""


@dataclass(frozen=True)
class NextTrial:
    """What to try next.

    Attributes
    ----------
    target, cost
        As asked.
    setting
        temperature_C, time_s, expected value, chance, cost, and what to do after a miss.
    settings
        All that were considered, each with its expected value, chance and cost.
    notes
        What to know of it.
    """

    target: Target
    cost: Cost
    setting: dict[str, Any]
    settings: pd.DataFrame
    notes: list[str]

    def __repr__(self) -> str:
        return "\n".join([*self.told(), *(f"- {note}" for note in self.notes)])

    def told(self) -> list[str]:
        """Return the next trial in sentences."""
        s, unit = self.setting, {"trials": "trial", "time": "h", "energy": "kWh"}[self.cost]
        lines = [
            f"next: {s['temperature_C']:.0f} C for {_lasting(s['time_s'])}, expected "
            f"{self.target.column} {s['expected']:.4g}: meets {self.target.text!r} with a chance "
            f"of {s['chance']:.2f} (costs {s['cost']:.3g} {unit})",
            "on a hit: done; hold to this setting",
        ]
        for side in ("low", "high"):
            if s[f"chance_if_too_{side}"] is not None:
                lines.append(
                    f"if too {side}: about {s[f'temperature_C_if_too_{side}']:.0f} C for "
                    f"{_lasting(s[f'time_s_if_too_{side}'])} (chance "
                    f"{s[f'chance_if_too_{side}']:.2f}); add the result and ask again"
                )
        lines.append(f"within two trials: {s['chance_within_two']:.2f}")
        return lines


def _lasting(second: float) -> str:
    return f"{second / 3600:.3g} h" if second >= 3600 else f"{second / 60:.3g} min"


def reach(
    population: Population,
    alloys: pd.DataFrame,
    observations: Observations | None,
    target: Target,
    *,
    cost: Cost = "trials",
    furnace: Furnace | None = None,
    seed: int = 0,
) -> NextTrial:
    """Return the next trial of one alloy.

    Parameters
    ----------
    alloys
        Its row of the table of alloys.
    observations
        Of it alone; None where nothing was measured.

    Raises
    ------
    MatmlError
        Where the target is of something else than the population, out of reach, or narrower than
        the noise, or no hold at a temperature is what is chosen.
    """
    furnace = furnace or Furnace()
    observable = population.observable
    low, high = wanted_values(population, target)
    grid = region_of(population, (*window_of(population, furnace), None)).grid(population.kind)
    grid = grid.assign(**constant_inputs(population, alloys, observations, set(grid)))
    tensors = {name: torch.tensor(grid[name].to_numpy(float)) for name in grid}
    belief, values, first = _belief(population, alloys, observations, tensors, furnace, seed)
    if (high - low) / 2 < belief.noise:
        raise MatmlError(
            f"target {target.text!r}: {(high - low) / 2:.3g} is less than a measurement scatters "
            f"({belief.noise:.3g} {observable.unit}); allow at least that"
        )
    price = torch.ones(len(belief.centre), dtype=torch.float64)
    price[first:] = furnace.cost(cost, tensors["temperature_K"], tensors["time_s"])
    allowed = torch.zeros_like(price)
    allowed[first:] = 1.0
    if observations is not None:
        for point in observations.points.to_dict("records"):
            near = (tensors["temperature_K"] - point["temperature_K"]).abs() < 100 * REPEATED
            near &= (tensors["time_s"] / point["time_s"]).log().abs() < REPEATED
            allowed[first:][near] = 0.0
    tried = list(range(first)), values
    outlook = belief.given(*tried)
    chances = outlook.chance(low, high)[first:]
    if float(chances.max()) < LEAST_CHANCE:
        raise MatmlError(_out_of_reach(target, outlook, chances, grid, first, low, high))
    choice = next_trial(belief, tried, low, high, allowed, price)
    expected = outlook.mean()[first:]
    table = pd.DataFrame(
        {
            "temperature_C": grid["temperature_K"] - ZERO_CELSIUS,
            "time_s": grid["time_s"],
            "expected": expected.numpy(),
            "chance": chances.numpy(),
            "cost": price[first:].numpy(),
        }
    )
    setting = table.iloc[choice.setting - first].to_dict()
    for side, after in (("low", choice.after_miss_low), ("high", choice.after_miss_high)):
        row = None if after is None else table.iloc[after[0] - first]
        setting[f"temperature_C_if_too_{side}"] = None if row is None else row["temperature_C"]
        setting[f"time_s_if_too_{side}"] = None if row is None else row["time_s"]
        setting[f"chance_if_too_{side}"] = None if after is None else after[1]
    setting["chance_within_two"] = choice.within_two
    notes = population.assumed()
    notes += composition_notes(population.data_card.get("composition", {}), alloys)
    if observations is not None:
        notes += _repeated_notes(
            observations.points, target.column, 4 * population.prior.prior.noise
        )
        notes += contradiction_notes(observations.points, population.prior.prior.noise)
    if choice.ahead:
        notes.append("not the likeliest hit for its cost: it tells more for the trial after it")
    return NextTrial(target, cost, setting, table, notes)


def _repeated_notes(points: pd.DataFrame, column: str, most: float) -> list[str]:
    """Return a note for each setting that gave results further apart than `most`."""
    notes = []
    for (kelvin, second), block in points.groupby(["temperature_K", "time_s"]):
        low, high = (block.loc[at] for at in (block[column].idxmin(), block[column].idxmax()))
        if high[column] - low[column] > most:
            notes.append(
                f"the same setting, {kelvin - ZERO_CELSIUS:.0f} C for {_lasting(second)}, gave "
                f"{column} {low[column]:.4g} (line {low['line']}) and {high[column]:.4g} (line "
                f"{high['line']}): correct or leave out the wrong one"
            )
    return notes


def wanted_values(population: Population, target: Target) -> tuple[float, float]:
    """Return the ends of a target on the scale that is compared.

    Raises
    ------
    MatmlError
        Where it is of something else than the population, or that follows from no hold.
    """
    observable, kind = population.observable, population.kind
    if target.column != observable.column:
        raise MatmlError(
            f"target {target.text!r}: is of {target.column}, but the population is of "
            f"{observable.column}; give a target of that, or another population"
        )
    if {"temperature_K", "time_s"} - {i.name for i in observable.inputs}:
        raise MatmlError(
            f"a {kind.replace('_', ' ')} does not follow from a hold at a temperature; learn a "
            "population of fractions, hardness or grain size"
        )
    ends = [
        float(observable.compared(torch.tensor(e, dtype=torch.float64))) if math.isfinite(e) else e
        for e in (target.low, target.high)
    ]
    return min(ends), max(ends)


Range: TypeAlias = tuple[float, float]


def window_of(population: Population, furnace: Furnace) -> tuple[Range, Range]:
    """Return the temperatures in C and times in s of the furnace that the population has seen.

    Raises
    ------
    MatmlError
        Where there are none.
    """
    known = population.data_card
    low, high = (end - ZERO_CELSIUS for end in known["temperature_K"])
    short, long = known["time_s"]
    given = (furnace.lowest_C, furnace.highest_C), (furnace.shortest_s, furnace.longest_s)
    ranges = []
    for (least, most), ends, unit in zip(given, ((low, high), (short, long)), "Cs", strict=True):
        own = (max(ends[0], least or -math.inf), min(ends[1], most or math.inf))
        if own[0] >= own[1]:
            raise MatmlError(
                f"furnace: {least} to {most} {unit} has nothing in common with the population's "
                f"{ends[0]:.0f} to {ends[1]:.0f} {unit}"
            )
        ranges.append(own)
    return ranges[0], ranges[1]


def _belief(
    population: Population,
    alloys: pd.DataFrame,
    observations: Observations | None,
    settings: Columns,
    furnace: Furnace,
    seed: int,
) -> tuple[Belief, list[float], int]:
    """Return the belief at measured conditions and settings, the values, and how many these are.

    Without a spread of its kind, or for an alloy outside of what was learned from, draws come from
    the alloy's posterior, and no measured condition is needed.
    """
    equation, kind, prior = population.equation, population.kind, population.prior
    reference, known = population.reference_temperature_K, RunOffsets(furnace.drift_K)
    if observations is not None:
        reference, _ = population.reference_temperature(observations)
    columns, values, first = dict(settings), [], 0
    learned = kind in SPREADS and float(prior.unlike(alloys).max()) < 0.5
    spread = SPREADS[kind] if learned else Spread()
    runs = [""] * len(settings["time_s"])
    if observations is not None and learned:
        own = to_tasks(observations, equation, reference)
        values, first = own.columns["target"][0].tolist(), len(observations.points)
        columns = {n: torch.cat([own.columns[n][0], c]) for n, c in settings.items()}
        names = observations.points.get("run", pd.Series([""] * first)).tolist()
        runs = [*names, *runs]
    if reference is not None:
        columns["reference_temperature_K"] = torch.full_like(columns["time_s"], reference)
    if observations is not None and not learned:
        offsets = known if known and "run" in observations.points else NO_OFFSETS
        found = calibrate(
            population, observations, observations.names[0], seed, offsets=offsets, judged=False
        )
        drawn = found.draws[:, : len(equation.parameters)]
        with torch.no_grad():
            curves = equation.predict(kind, drawn[:, None], columns)
        centre, noise = curves.mean(0), found.noise
    else:
        batch = {name: column[None] for name, column in columns.items()}
        priors = prior.of(alloys, like_the_learned=learned)
        centre, curves = (x[0] for x in curves_of(equation, kind, priors, batch, seed, DRAWS))
        noise = prior.prior.noise
    ends = prior.window
    curves, centre = curves.clamp(*ends), centre.clamp(*ends)
    kelvin, log_time = columns["temperature_K"], columns["time_s"].log10()
    departures = noise**2 * spread.covariance(kelvin, log_time)
    if known:
        # to first order: what a run's drift does where it was measured, and where it is tried next
        warmer = {**columns, "temperature_K": kelvin + known.temperature_K}
        with torch.no_grad():
            drawn = priors.mean if learned or observations is None else drawn.mean(0)[None]
            moved, still = (equation.predict(kind, drawn, c) for c in (warmer, columns))
        departures = departures + _same_run(runs) * torch.outer(moved - still, moved - still)
    return Belief(centre, curves, departures, spread.noise * noise, spread), values, first


def _same_run(runs: list[str]) -> Tensor:
    """Return which conditions share a run; those without a name share none."""
    size = len(runs)
    same = [
        [i == j or (a != "" and a == b) for j, b in enumerate(runs)] for i, a in enumerate(runs)
    ]
    return torch.tensor(same, dtype=torch.float64).reshape(size, size)


def _out_of_reach(
    target: Target,
    outlook: Outlook,
    chances: Tensor,
    grid: pd.DataFrame,
    first: int,
    low: float,
    high: float,
) -> str:
    expected = outlook.mean()[first:]
    gap = torch.maximum(low - expected, expected - high)
    at = int(gap.argmin())
    row = grid.iloc[at]
    return (
        f"target {target.text!r}: no setting reaches it; the nearest is expected at "
        f"{row['temperature_K'] - ZERO_CELSIUS:.0f} C for {_lasting(row['time_s'])}, "
        f"{target.column} {float(expected[at]):.4g} (chance {float(chances[at]):.3f}, the highest "
        f"anywhere {float(chances.max()):.3f}): widen the target or the furnace's ranges"
    )
