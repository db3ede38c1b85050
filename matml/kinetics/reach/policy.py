"""Which setting to try next, so that a target is met soon, or cheaply."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from matml.kinetics.reach.belief import Belief

LOOKED_AT = 8
"""Settings of the most promise that are looked at two trials ahead."""
OUTCOMES = 7
"""Values of a first trial that are thought through."""


@dataclass(frozen=True)
class Choice:
    """The next trial.

    Attributes
    ----------
    setting
        Number of the condition.
    chances
        Of each setting to hit now; zero where it is not allowed [M].
    after_miss_low, after_miss_high
        What to try, and its chance, should the value be too low or too high; None where that is
        not to be expected.
    within_two
        Chance to have hit after one trial more.
    ahead
        Whether another setting than the likeliest, or cheapest, hit was taken for what it tells.
    """

    setting: int
    chances: Tensor
    after_miss_low: tuple[int, float] | None
    after_miss_high: tuple[int, float] | None
    within_two: float
    ahead: bool


Tried: TypeAlias = tuple[list[int], list[float]]
"""Numbers of the settings that were tried, and what they gave."""


def next_trial(
    belief: Belief,
    tried: Tried,
    low: float,
    high: float,
    allowed: Tensor,
    cost: Tensor,
    *,
    look_ahead: bool = True,
) -> Choice:
    """Return the trial from which the target is expected to be met at the least cost.

    The next trial and the one after it are thought through (the latter with one normal a scale);
    after two misses what is left is taken to cost what the likeliest hit for its cost does now.

    Parameters
    ----------
    low, high
        Ends of the target.
    allowed, cost
        Of each condition [M]; of the same as the measured ones, those tried already are left out.
    look_ahead
        Without, the next trial alone is considered.
    """
    outlook = belief.given(*tried)
    chances = outlook.chance(low, high) * allowed
    chances[tried[0]] = 0.0
    promising = (chances / cost).topk(min(LOOKED_AT, len(cost))).indices.tolist()
    left = float(cost[promising[0]] / chances[promising[0]].clamp(min=1e-6))
    best, value = promising[0], math.inf
    found: tuple[tuple[int, float] | None, tuple[int, float] | None, float] = (None, None, 0.0)
    rough = outlook.collapsed()
    for setting in promising if look_ahead else []:
        misses: dict[bool, list[tuple[int, float]]] = {True: [], False: []}
        spent = 0.0
        for outcome in rough.outcomes(setting, OUTCOMES):
            if low <= outcome <= high:
                continue
            later = belief.given([*tried[0], setting], [*tried[1], outcome]).collapsed()
            then = later.chance(low, high) * allowed
            then[[*tried[0], setting]] = 0.0
            expected = torch.where(allowed > 0, cost + (1 - then) * left, torch.inf)
            second = int(expected.argmin())
            misses[outcome < low].append((second, float(then[second])))
            spent += float(expected[second])
        both, now = [*misses[True], *misses[False]], float(chances[setting])
        spent = float(cost[setting]) + (1 - now) * (spent / len(both) if both else 0.0)
        if spent < value:
            chance = sum(c for _, c in both) / len(both) if both else 0.0
            # the middle outcome stands for its side
            sides = [m[len(m) // 2] if (m := misses[side]) else None for side in (True, False)]
            best, value, found = setting, spent, (sides[0], sides[1], now + (1 - now) * chance)
    return Choice(best, chances, *found, ahead=best != promising[0])
