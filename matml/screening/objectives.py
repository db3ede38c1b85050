"""Objectives of a screening: windows, goals and targets of properties, and how well they are met.

All arithmetic is on the scale on which a property is learned (its logarithm for moduli), where the
predictive distribution is taken as normal: `mean` is the prediction and `deviation` a 90 %
interval's half width over 1.645. Properties count as independent given the crystal.
"""

import builtins
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import erfcx, log_ndtr, ndtr

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.properties.data.targets import find_property, split_unit

FORMATION_ENERGY = "formation_energy_eV_per_atom"
HULL = "energy_above_hull_eV_per_atom"
"""Not learned: follows from the formation energy and the known entries."""
COST = "raw_material_cost_per_kg"
"""Not learned: follows from the composition and the prices of the elements; always positive."""

Kind = Literal["minimise", "maximise", "target", "window"]
NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
EXAMPLES = (
    "'bulk_modulus_GPa >= 150', '1 <= band_gap_eV <= 2', 'band_gap_eV = 1.5', "
    "'formation_energy_eV_per_atom minimise'"
)


@dataclass(frozen=True)
class Objective:
    """What is wanted of one property.

    Attributes
    ----------
    property
        Column name with its unit.
    kind
        `window`: between `low` and `high`; `minimise`, `maximise`; `target`: near `low` (= `high`).
    low, high
        In the property's unit; infinite where a window is open.
    logarithmic
        Whether the property is learned as its logarithm.
    """

    property: str
    kind: Kind
    low: float = -math.inf
    high: float = math.inf
    logarithmic: bool = False

    def __str__(self) -> str:
        if self.kind == "target":
            return f"{self.property} = {self.low:g}"
        if self.kind != "window":
            return f"{self.property} {self.kind}"
        if math.isinf(self.high):
            return f"{self.property} >= {self.low:g}"
        if math.isinf(self.low):
            return f"{self.property} <= {self.high:g}"
        return f"{self.low:g} <= {self.property} <= {self.high:g}"

    @builtins.property
    def learned_property(self) -> str:
        """The property that the model must predict for it."""
        return FORMATION_ENERGY if self.property == HULL else self.property

    def bounds(self) -> tuple[float, float]:
        """Window or target on the learned scale."""
        low, high = self.to_scale(np.array([self.low, self.high]))
        return float(low), float(high)

    def to_scale(self, values: np.ndarray) -> np.ndarray:
        """Return values in the property's unit on the learned scale."""
        return to_scale(values, self.logarithmic)

    def log_probability(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Logarithm of the probability that a value lies in the window, [n].

        A logarithm, so that candidates far from a window can still be told apart.
        """
        low, high = self.bounds()
        below, above = (high - mean) / deviation, (low - mean) / deviation
        if math.isinf(low):
            return log_ndtr(below)
        if math.isinf(high):
            return log_ndtr(-above)
        # the difference is taken in the tail where both terms are small
        swap = above > 0
        upper, lower = np.where(swap, -above, below), np.where(swap, -below, above)
        first, second = log_ndtr(upper), log_ndtr(lower)
        return first + np.log1p(-np.exp(np.minimum(second - first, -1e-300)))

    def gap(self, mean: np.ndarray) -> np.ndarray:
        """How far a prediction lies outside the window on the learned scale, 0 inside, [n]."""
        low, high = self.bounds()
        return np.maximum(np.maximum(low - mean, mean - high), 0.0)

    def utility(self, mean: np.ndarray) -> np.ndarray:
        """A prediction's worth for a goal, larger is better, [n]."""
        if self.kind == "target":
            return -np.abs(mean - self.bounds()[0])
        return mean if self.kind == "maximise" else -mean

    def log_expected_improvement(
        self, mean: np.ndarray, deviation: np.ndarray, best: float
    ) -> np.ndarray:
        """Logarithm of the expected improvement over the best utility known so far, [n].

        Jones, Schonlau and Welch, J. Global Optim. 13 (1998) 455, eq. 15. For a target the
        improvement is in the distance to it.
        """
        if self.kind != "target":
            return log_improvement((self.utility(mean) - best) / deviation) + np.log(deviation)
        return np.log(np.maximum(self._nearer(mean, deviation, -best), 1e-300))

    def _nearer(self, mean: np.ndarray, deviation: np.ndarray, distance: float) -> np.ndarray:
        """Expected max(distance - |x - target|, 0) of a normal x, [n]."""
        target = self.bounds()[0]

        def part(a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
            """Probability and first moment between a and b."""
            u, v = (a - mean) / deviation, (b - mean) / deviation
            share = ndtr(v) - ndtr(u)
            return share, mean * share - deviation * (_density(v) - _density(u))

        (below, first), (above, second) = (
            part(target - distance, target),
            part(target, target + distance),
        )
        return (distance - target) * below + first + (distance + target) * above - second


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def log_improvement(z: np.ndarray) -> np.ndarray:
    """Logarithm of phi(z) + z Phi(z), also far below zero, where both terms cancel."""
    z = np.maximum(z, -1e5)
    far = np.minimum(z, -1.0)
    # Phi(z) / phi(z) = sqrt(pi/2) erfcx(-z / sqrt 2)
    ratio = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2))
    small = -0.5 * far**2 - 0.5 * math.log(2 * math.pi) + np.log1p(far * ratio)
    near = np.maximum(z, -1.0)
    return np.where(z < -1, small, np.log(_density(near) + near * ndtr(near)))


def to_scale(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """Values in a property's unit on its learned scale; what is not positive becomes -inf there."""
    values = np.asarray(values, dtype=float)
    if not logarithmic:
        return values
    with np.errstate(divide="ignore"):
        return np.log10(np.maximum(values, 0.0))


def normal(
    logarithmic: bool, prediction: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation on the learned scale of predictions with 90 % intervals, in their unit."""
    mean, lower, upper = (to_scale(each, logarithmic) for each in (prediction, low, high))
    # an interval that reaches below zero tells its width by its upper half
    half = np.where(np.isfinite(lower), (upper - lower) / 2, upper - mean)
    return mean, np.maximum(half / NORMAL_90, 1e-9)


def parse_objective(text: str, logarithmic: Collection[str] = ()) -> Objective:
    """The objective that a text states.

    Parameters
    ----------
    logarithmic
        Further properties that are learned as their logarithm: a user's own.

    Raises
    ------
    MatmlError
        Where it is none, its window is empty, or a bound of a positive property is not positive.
    """
    name = r"([A-Za-z_]\w*)"
    clean = " ".join(str(text).split())
    if found := re.fullmatch(rf"{name} (minimi[sz]e|maximi[sz]e)", clean):
        objective = Objective(found[1], "minimise" if found[2][:3] == "min" else "maximise")
    elif found := re.fullmatch(rf"{name} ?(>=|<=|>|<) ?{NUMBER}", clean):
        value = float(found[3])
        window = (value, math.inf) if found[2][0] == ">" else (-math.inf, value)
        objective = Objective(found[1], "window", *window)
    elif found := re.fullmatch(rf"{NUMBER} ?<=? ?{name} ?<=? ?{NUMBER}", clean):
        objective = Objective(found[2], "window", float(found[1]), float(found[3]))
    elif found := re.fullmatch(rf"{name} ?=+ ?{NUMBER}", clean):
        objective = Objective(found[1], "target", float(found[2]), float(found[2]))
    else:
        raise MatmlError(f"objective {text!r}: is not understood; write it as {EXAMPLES}")
    if objective.kind == "window" and not objective.low < objective.high:
        raise MatmlError(f"objective {text!r}: the window is empty; give the lower bound first")
    name = objective.property
    if name != COST and not find_property(name).logarithmic and name not in logarithmic:
        return objective
    if not objective.high > 0:
        raise MatmlError(
            f"objective {text!r}: {name} is always positive, its logarithm counts; raise the bound"
        )
    return replace(objective, logarithmic=True)


def usual_goal(property_name: str) -> Literal["minimise", "maximise"]:
    """Return what is wanted where nothing is said: low energies, and high values of all else."""
    return "minimise" if "energy" in property_name else "maximise"


WANTED = {"maximise": "highest", "minimise": "lowest"}
SIGNS = {">=": "≥", "<=": "≤", "=": "near"}


def objective_words(text: str) -> str:
    """Return an objective such as `bulk_modulus_GPa >= 150` in words."""
    words = list[str]()
    for part in text.split():
        if part in WANTED:
            words.insert(0, WANTED[part])
            continue
        title, unit = split_unit(part)
        words.append(title if part.isidentifier() else SIGNS.get(part, part.replace("-", "−")))
        if unit and part.isidentifier():
            words.append(f"({unit})")
    return " ".join(words)


def parse_objectives(texts: Sequence[str], logarithmic: Collection[str] = ()) -> list[Objective]:
    """The objectives of a screening, in their order.

    Raises
    ------
    MatmlError
        Also where one property has two windows or two goals.
    """
    objectives = [parse_objective(text, logarithmic) for text in texts]
    seen: dict[tuple[str, bool], Objective] = {}
    for objective in objectives:
        key = objective.property, objective.kind == "window"
        if key in seen:
            raise MatmlError(
                f"objectives '{seen[key]}' and '{objective}': one property has one window and one "
                "goal at most; join the windows as 'a <= property <= b'"
            )
        seen[key] = objective
    if objectives and objectives[0].property == COST:
        raise MatmlError(
            f"objective '{objectives[0]}': a cost is known and cannot lead; name what is to be "
            "predicted first"
        )
    return objectives


def learned_properties(objectives: Sequence[Objective]) -> list[str]:
    """Properties that the model must predict, the first objective's first."""
    asked = (objective for objective in objectives if objective.property != COST)
    return list(dict.fromkeys(objective.learned_property for objective in asked))


@dataclass(frozen=True)
class Judgement:
    """How well n candidates meet the objectives.

    Attributes
    ----------
    log_probability
        Of meeting all windows, [n]; 0 without windows.
    log_improvement
        Sum over the goals of the logarithm of the expected improvement, [n]; NaN where no label
        tells the best so far.
    worth
        Sum over the goals of the predicted utility in units of `spreads`, [n].
    criteria
        What the Pareto front is of: utility of each goal, log-probability of each window,
        [n, objectives], larger is better.
    gaps
        Distance of the prediction to each window over its deviation, [n, windows].
    """

    log_probability: np.ndarray
    log_improvement: np.ndarray
    worth: np.ndarray
    criteria: np.ndarray
    gaps: np.ndarray

    def score(self, rank_by: str) -> np.ndarray:
        """What candidates are ranked by, larger is better, [n].

        `prediction` and `pareto`: worth plus log-probability, so that one spread of a goal's
        property weighs as much as a factor e in the probability of meeting all windows;
        `probability`: that alone; `expected_improvement`: expected improvement times probability
        (constrained expected improvement, Gardner et al., ICML 2014).
        """
        if rank_by == "probability":
            return self.log_probability
        if rank_by == "expected_improvement" and not np.isnan(self.log_improvement).any():
            return self.log_improvement + self.log_probability
        return self.worth + self.log_probability


def judge(
    objectives: Sequence[Objective],
    distributions: dict[str, tuple[np.ndarray, np.ndarray]],
    best: dict[str, float],
    spreads: dict[str, float],
) -> Judgement:
    """Judge candidates.

    Parameters
    ----------
    distributions
        Property to mean and deviation on the learned scale, [n] each.
    best
        Property to the best utility among its labels so far; missing where there are none.
    spreads
        Property to the deviation of known labels on the learned scale.
    """
    size = len(next(iter(distributions.values()))[0])
    log_probability, improvement, worth = np.zeros(size), np.zeros(size), np.zeros(size)
    criteria, gaps = [], []
    for objective in objectives:
        name = objective.property
        mean, deviation = distributions[name]
        if objective.kind == "window":
            inside = objective.log_probability(mean, deviation)
            log_probability += inside
            criteria.append(inside)
            gaps.append(objective.gap(mean) / deviation)
            continue
        utility = objective.utility(mean)
        worth += utility / spreads.get(name, 1.0)
        improvement += objective.log_expected_improvement(mean, deviation, best.get(name, math.nan))
        criteria.append(utility)
    return Judgement(
        log_probability,
        improvement,
        worth,
        np.stack(criteria, 1),
        np.stack(gaps, 1) if gaps else np.zeros((size, 0)),
    )
