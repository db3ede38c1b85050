"""How many trials the policies need on measured series of alloys that none was learned from.

A trial is a measured point of the held-out alloy: a policy sees the conditions of all points and
the values of those that it tried. An alloy and a target make a case if a point meets it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.gauss_newton import gauss_newton
from matml.bayes.tasks import Tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import Split, splits
from matml.kinetics.evaluation.scores import resamples, weighted_mean, with_interval
from matml.kinetics.inference.predict import least_squares_bounds
from matml.kinetics.reach.belief import Belief, Spread
from matml.kinetics.reach.furnace import Furnace
from matml.kinetics.reach.policy import Tried, next_trial
from matml.kinetics.reach.spread import beliefs, curves_of, learn_spread
from matml.kinetics.settings import KineticsSection

BUDGET = 6
OURS, REFERENCE = "ours", "composition's mean curve, offset"
JUDGED = (("posterior, most likely hit", "trials"), (OURS, "trials"))
"""Whose stated chances are held against what came, also where no point meets the target."""
EVERY = 5.0
"""Between targets, in the unit of what is measured."""

Pick: TypeAlias = Callable[[Tried, float], tuple[int, float]]
"""What was tried, and the middle of the target: the next point, and its stated chance."""


@dataclass(frozen=True)
class Case:
    """An alloy with all its points, and what is believed of it beforehand.

    Attributes
    ----------
    name, group
        Of the alloy.
    points
        A task of its own.
    pooled, own
        Mean curve of all alloys and that of its composition, [N].
    plain, full
        Belief by the population alone, and with what alloys do beside their curves.
    expected
        Standardised parameters that its composition tells [P].
    """

    name: str
    group: object
    points: Tasks
    pooled: Tensor
    own: Tensor
    plain: Belief
    full: Belief
    expected: Tensor

    @property
    def measured(self) -> Tensor:
        """Measured values [N]."""
        return self.points.columns["target"][0]


def nearest(curve: Tensor, target: float, tried: list[int]) -> tuple[int, float]:
    """Return the point whose predicted value is nearest to a target; nothing is stated of it."""
    distance = (curve - target).abs()
    distance[tried] = torch.inf
    return int(distance.argmin()), float("nan")


def offset(curve: Tensor, tried: Tried) -> Tensor:
    """Return a curve moved by the mean of its errors so far."""
    if not tried[0]:
        return curve
    return curve + (torch.tensor(tried[1], dtype=curve.dtype) - curve[tried[0]]).mean()


def policies(case: Case, split: Split, tolerance: float, seed: int) -> dict[tuple[str, str], Pick]:
    """Return the policies of one case by name and by what they spare."""
    random = np.random.default_rng([seed, 22])
    equation, kind = split.training.equation, split.training.observations.kind
    mean = split.training.gaussian.prior.mean
    typical = equation.observable(kind).typical_noise
    everything = torch.ones_like(case.own)
    inputs = {name: column[0] for name, column in case.points.columns.items()}

    def anywhere(tried: Tried, target: float) -> tuple[int, float]:
        left = [i for i in range(len(case.own)) if i not in tried[0]]
        return int(random.choice(left)), float("nan")

    def least_squares(tried: Tried, target: float) -> tuple[int, float]:
        curve = case.pooled
        if tried[0]:
            seen = case.points.pick(torch.zeros(1, dtype=torch.long), torch.tensor([tried[0]]))
            bounds = least_squares_bounds(equation)
            fit = gauss_newton(seen.linearise, mean, seen.weights(typical), bounds=bounds)
            curve = equation.predict(kind, fit.position[0], inputs)
        return nearest(offset(curve, tried), target, tried[0])

    def thompson(tried: Tried, target: float) -> tuple[int, float]:
        outlook = case.plain.given(*tried)
        chances = outlook.weights.flatten().numpy()
        drawn = random.choice(len(chances), p=chances / chances.sum())
        return nearest(outlook.means.flatten(0, 1)[drawn].clone(), target, tried[0])

    def believed(belief: Belief, cost: Tensor, ahead: bool) -> Pick:
        def pick(tried: Tried, target: float) -> tuple[int, float]:
            ends = target - tolerance, target + tolerance
            found = next_trial(belief, tried, *ends, everything, cost, look_ahead=ahead)
            return found.setting, float(found.chances[found.setting])

        return pick

    def curve(of: Tensor, moved: bool) -> Pick:
        return lambda tried, target: nearest(
            offset(of, tried).clone() if moved else of.clone(), target, tried[0]
        )

    furnace, (kelvin, second) = Furnace(), (inputs[n] for n in ("temperature_K", "time_s"))
    found = {
        ("random", "trials"): anywhere,
        ("all alloys' mean curve", "trials"): curve(case.pooled, False),
        ("composition's mean curve", "trials"): curve(case.own, False),
        (REFERENCE, "trials"): curve(case.own, True),
        ("least squares, offset", "trials"): least_squares,
        ("Thompson", "trials"): thompson,
        ("posterior, most likely hit", "trials"): believed(case.plain, everything, False),
        ("ours, one trial ahead", "trials"): believed(case.full, everything, False),
    }
    for spared in ("trials", "time", "energy"):
        found[OURS, spared] = believed(case.full, furnace.cost(spared, kelvin, second), True)
    return found


def cases(split: Split, settings: KineticsSection, seed: int) -> Iterator[Case]:
    """Yield the held-out alloys of a fold; the spread is learned on its training alloys."""
    training, tasks = split.training, split.tasks
    equation, kind = training.equation, training.observations.kind
    prior = training.composition_prior(settings.pseudo_tasks, seed)
    noise, cards = prior.prior.noise, split.unseen.alloys
    spread = learn_spread(training, noise, settings.pseudo_tasks, seed)
    priors = prior.of(cards, like_the_learned=True)
    centre, curves = curves_of(equation, kind, priors, tasks.columns, seed)
    believed = [beliefs(s, tasks, centre, curves, noise) for s in (Spread(), spread)]
    with torch.no_grad():
        pooled = equation.predict(kind, training.gaussian.prior.mean[None, None], tasks.columns)
    for row, count in enumerate(tasks.counts()):
        points = tasks.pick(torch.tensor([row]), torch.arange(count)[None])
        group = cards["composition_group"].iloc[row]
        plain, full = (several[row] for several in believed)
        name, mean = split.unseen.names[row], pooled[row, :count]
        own = centre[row, :count]
        yield Case(name, group, points, mean, own, plain, full, priors.mean[row])


def targets_of(observations: Observations, equation: Equation) -> list[float]:
    """Return the multiples of `EVERY` from the tenth to the ninetieth percentile of values."""
    measured = observations.points[equation.observable(observations.kind).column]
    low, high = measured.quantile([0.1, 0.9])
    return (np.arange(np.ceil(low / EVERY), np.floor(high / EVERY) + 1) * EVERY).tolist()


def search(pick: Pick, case: Case, target: float, hits: Tensor) -> tuple[list[int], list[float]]:
    """Return the points that a policy tries until it hits, and the stated chance of each."""
    tried: Tried = ([], [])
    chances: list[float] = []
    while len(chances) < min(BUDGET, len(hits)):
        at, stated = pick(tried, target)
        tried[0].append(at)
        tried[1].append(float(case.measured[at]))
        chances.append(stated)
        if hits[at]:
            break
    return tried[0], chances


def score_policies(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    tolerance: float,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a row per case and policy, and one per trial with its stated chance.

    A miss counts a trial more than the budget, of the median cost. Trials of targets that no point
    meets are among those by which stated chances are judged, and nowhere else.
    """
    targets = targets_of(observations, equation)
    scores, trials = [], []
    for split in splits(observations, equation, settings, seed):
        for case in cases(split, settings, seed):
            kelvin, second = (case.points.columns[n][0] for n in ("temperature_K", "time_s"))
            prices = {s: Furnace().cost(s, kelvin, second) for s in ("time", "energy")}
            for target in targets:
                hits = (case.measured - target).abs() <= tolerance + 1e-9
                for (name, spared), pick in policies(case, split, tolerance, seed).items():
                    if not hits.any() and (name, spared) not in JUDGED:
                        continue
                    tried, chances = search(pick, case, target, hits)
                    for number, (at, stated) in enumerate(zip(tried, chances, strict=True), 1):
                        trials.append((name, spared, number, stated, bool(hits[at])))
                    if not hits.any():
                        continue
                    missed = not hits[tried[-1]]
                    needed = BUDGET + 1 if missed else len(tried)
                    paid = [float(p[tried].sum() + missed * p.median()) for p in prices.values()]
                    own = case.name, case.group, split.number, target
                    scores.append((name, spared, *own, needed, *paid))
        report(f"fold {split.number} of {settings.folds}: {len(split.unseen.names)} alloys")
    heads = ["policy", "spares", "alloy", "composition_group", "fold", "target"]
    table = pd.DataFrame(scores, columns=[*heads, "trials", "hours", "kWh"])
    told = ["policy", "spares", "trial", "stated", "hit"]
    return table, pd.DataFrame(trials, columns=told)


def summarise_policies(
    scores: pd.DataFrame, trials: pd.DataFrame, setting: str, seed: int
) -> pd.DataFrame:
    """Return tidy records: means with 95 % bootstrap intervals over composition groups, paired.

    `minus_offset` is the difference to the offset of the composition's mean curve, `less_than_it`
    the part of its cost that is spared.
    """
    keys = ["alloy", "target"]
    reference = scores[scores["policy"] == REFERENCE].set_index(keys)
    resample = resamples(reference["composition_group"], [seed, 7])
    records = []

    def spared(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return 1 - weighted_mean(values[0], weights) / weighted_mean(values[1], weights)

    for (name, what), block in scores.groupby(["policy", "spares"], sort=False):
        own = block.set_index(keys).loc[reference.index]
        needed = own["trials"].to_numpy(float)
        gap = needed - reference["trials"].to_numpy(float)
        found = {
            "trials": with_interval(weighted_mean, needed, resample),
            "hit_within_3": with_interval(weighted_mean, (needed <= 3).astype(float), resample),
            "trials_minus_offset": with_interval(weighted_mean, gap, resample),
        }
        for column in ("hours", "kWh"):
            pair = np.stack([own[column].to_numpy(), reference[column].to_numpy()])
            found[f"{column}_less_than_offset"] = with_interval(spared, pair, resample)
        said = trials[(trials["policy"] == name) & (trials["spares"] == what)]
        if (name, what) in JUDGED:
            far = float(said["hit"].mean() - said["stated"].mean())
            found["hits_minus_stated"] = dict(value=far, low=np.nan, high=np.nan, n_tasks=len(said))
        records += [
            {
                "benchmark": "kinetics reach",
                "setting": setting,
                "method": name if what == "trials" else f"{name}, for {what}",
                "is_default": (name, what) == (OURS, "trials"),
                "shots": 0,
                "metric": metric,
                **values,
                "seed": seed,
            }
            for metric, values in found.items()
        ]
    return pd.DataFrame(records)


def format_policies(summary: pd.DataFrame) -> str:
    """Return the printed table of a summary, a line per policy."""
    metrics = list(dict.fromkeys(summary["metric"]))
    lines = [f"{'':34s}" + "".join(f"{metric:24s}" for metric in metrics)]
    for method, block in summary.groupby("method", sort=False):
        cells = block.set_index("metric")
        line = f"{method:34s}"
        for metric in (m for m in metrics if m in cells.index):
            row = cells.loc[metric]
            ends = "" if np.isnan(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]"
            line += f"{row['value']:.2f}{ends}".ljust(24)
        lines.append(line.rstrip())
    return "\n".join(lines)
