"""Policies that learn the furnace by trials, beside planning with a posterior, on measured steels.

The world is that of `matml.kinetics.furnace`, many steels at once: a trial is the nearest point of
the steel that was not tried; 1 is paid for a hit, which ends the episode, and nothing else. A
policy is told the target and the parameters that composition predicts, and sees its last trial, or
all of them. It is trained on steels drawn from just what planning believes of new ones, learned on
the training groups of a fold; it is tested on the measured steels of the other groups.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from matml.bayes.tasks import Columns
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import Split, splits
from matml.kinetics.evaluation.scores import resamples, weighted_mean, with_interval
from matml.kinetics.reach.spread import beliefs, learn_spread, predicted_by_others
from matml.kinetics.reach.study import (
    BUDGET,
    OURS,
    REFERENCE,
    Case,
    cases,
    policies,
    search,
    targets_of,
)
from matml.kinetics.settings import KineticsSection
from matml.meta.layers import Linear
from matml.meta.policy import (
    best_rate,
    returns_by_steps,
    stacked_paths,
    train_policy,
    weights_of_each,
)
from matml.meta.tasks import BoundModel, Parameters
from matml.meta.vectorised import Stacked

PLANNED = ("random", REFERENCE, "posterior, most likely hit", OURS)
ORDINARY, HISTORY = "ordinary policy", "history policy"
LEARNED: dict[str, tuple[int, str | None]] = {
    "MAML": (1, "maml"),
    "FOMAML": (1, "fomaml"),
    ORDINARY: (1, None),
    HISTORY: (BUDGET - 1, None),
}
"""Trials of the past that a policy sees, and by which rule it is meta-trained at last."""
STEPS = 3
RATE = 0.003
"""Of the inner step."""
RATES = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
"""Of which each policy is given the one that suits it best, on drawn steels."""
FINER = 0.2
"""Part of Adam's rate for the last third: meta-gradients scatter more, and at all of it spoil."""
DISCOUNT = 0.8
"""A trial more makes a hit worth so much less."""
SEEN, LEAST_SPREAD = 4, math.log(0.05)
FARTHEST = 10.0


@dataclass(frozen=True)
class Settings:
    """How policies are trained: batches, tasks and episodes of each, draws a training steel."""

    batches: int = 300
    tasks: int = 32
    episodes: int = 20
    learning_rate: float = 5e-3
    draws: int = 60
    tolerance: float = 1.0


class Policy(nn.Module):
    """Mean and logarithmic spread of a setting, given what was seen [..., inputs]."""

    stackable = True

    def __init__(self, inputs: int, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(Linear(inputs, width), nn.ReLU(), Linear(width, width), nn.ReLU())
        self.head = Linear(width, 4)

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Return both, [..., 2]."""
        found = self.head(self.body(seen))
        return found[..., :2], (found[..., 2:] - 0.5).clamp(LEAST_SPREAD, 1.0)


@dataclass(frozen=True)
class Steels:
    """Steels with a target each, and how many episodes each is walked.

    Attributes
    ----------
    places, values, given
        Settings [T, N, 2] from -1 to 1, what they give [T, N], and which are points at all [T, N].
    known
        Target and expected parameters, scaled [T, K].
    target
        [T].
    noise
        Standard deviation of a measurement, from trial to trial.
    trials
        Of the past that a policy sees.
    """

    places: Tensor
    values: Tensor
    given: Tensor
    known: Tensor
    target: Tensor
    noise: float
    tolerance: float
    episodes: int
    trials: int = 1
    spreads: bool = True

    def __len__(self) -> int:
        """Return their number."""
        return len(self.target)

    def pick(self, rows: Tensor) -> "Steels":
        """Return some of them."""
        names = ("places", "values", "given", "known", "target")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def inputs(self) -> int:
        """Numbers that a policy sees."""
        return SEEN * self.trials + 1 + self.known.shape[-1]

    @torch.no_grad()
    def walk(
        self, policy: nn.Module, weights: Parameters, generator: torch.Generator
    ) -> tuple[Stacked, Tensor]:
        """Let each task's own policy try; see `matml.meta.policy.World`."""
        data, needed = self.tried(policy, weights, generator)
        return data, (BUDGET + 1 - needed).mean(1)

    @torch.no_grad()
    def tried(
        self, policy: nn.Module, weights: Parameters, generator: torch.Generator
    ) -> tuple[Stacked, Tensor]:
        """Return what was done, and the trials that each episode needed [tasks, episodes].

        A miss counts a trial more than the budget.
        """
        model, shape = BoundModel(policy, weights), (len(self), self.episodes)
        free = self.given[:, None].expand(*shape, -1).clone()
        past = torch.zeros(*shape, self.trials, SEEN)
        here = torch.ones(shape, dtype=torch.bool)
        needed = torch.full(shape, BUDGET + 1.0)
        known = self.known[:, None].expand(*shape, -1)
        seen, actions, rewards, alive = [], [], [], []
        for trial in range(BUDGET):
            left = torch.full((*shape, 1), 1 - trial / BUDGET)
            view = torch.cat([past.flatten(2), left, known], -1)
            mean, log_spread = model(view)
            action = mean
            if self.spreads:
                action = mean + log_spread.exp() * torch.randn(mean.shape, generator=generator)
            apart = (self.places[:, None] - action.clamp(-1, 1)[:, :, None]).square().sum(-1)
            at = torch.where(free, apart, torch.inf).argmin(-1, keepdim=True)
            value = self.values.gather(1, at[..., 0])
            if self.noise:
                value = value + self.noise * torch.randn(shape, generator=generator)
            off = (value - self.target[:, None]) / self.tolerance
            hit = (off.abs() <= 1 + 1e-5) & here
            seen.append(view)
            actions.append(action)
            alive.append(here)
            rewards.append(hit.float())
            needed = torch.where(hit, trial + 1.0, needed)
            free = free.scatter(2, at, False)
            here = here & ~hit & free.any(-1)
            place = self.places[:, None].expand(*shape, -1, -1)
            place = place.gather(2, at[..., None].expand(*shape, 1, 2))[:, :, 0]
            now = [place, off.clamp(-FARTHEST, FARTHEST)[..., None], torch.ones(*shape, 1)]
            past = torch.cat([torch.cat(now, -1)[:, :, None], past], 2)[:, :, : self.trials]
        data, _ = stacked_paths(seen, actions, rewards, alive, DISCOUNT)
        return data, needed


@dataclass(frozen=True)
class Scales:
    """By which settings, targets and parameters are scaled: those of the training steels."""

    lowest: Tensor
    highest: Tensor
    middle: Tensor
    width: Tensor

    @classmethod
    def of(cls, split: Split, expected: Tensor) -> "Scales":
        """Return those of a fold, given the expected parameters of its training steels."""
        tasks = split.training.tasks
        seen = tasks.mask > 0
        places = _settings(tasks.columns)[seen]
        values = tasks.columns["target"][seen]
        middle = torch.cat([values.mean()[None], expected.mean(0)])
        width = torch.cat([values.std()[None], expected.std(0).clamp(min=1e-6)])
        return cls(places.amin(0), places.amax(0), middle, width)

    def steels(
        self,
        columns: Sequence[Columns],
        values: list[Tensor],
        expected: list[Tensor],
        targets: list[float],
        noise: float,
        settings: Settings,
    ) -> Steels:
        """Return tasks of steels with so many conditions each."""
        places = [
            2 * (_settings(own) - self.lowest) / (self.highest - self.lowest) - 1 for own in columns
        ]
        target = torch.tensor(targets, dtype=torch.float64)
        known = (torch.cat([target[:, None], torch.stack(expected)], 1) - self.middle) / self.width
        padded = pad_sequence(values, batch_first=True, padding_value=torch.nan)
        return Steels(
            pad_sequence(places, batch_first=True).clamp(-1, 1).float(),
            padded.nan_to_num().float(),
            ~padded.isnan(),
            known.float(),
            target.float(),
            noise,
            settings.tolerance,
            settings.episodes,
        )


def _settings(columns: Columns) -> Tensor:
    return torch.stack([columns["temperature_K"], columns["time_s"].log10()], -1)


def drawn_steels(
    split: Split,
    targets: list[float],
    pseudo_tasks: float,
    settings: Settings,
    seed: int,
) -> tuple[Steels, Scales]:
    """Return steels drawn from what planning believes of the training ones by other groups.

    Each has the points of a training steel, and a target that one of them meets.
    """
    training = split.training
    noise = training.composition_prior(pseudo_tasks, seed).prior.noise
    spread = learn_spread(training, noise, pseudo_tasks, seed)
    expected, centre, curves = predicted_by_others(training, pseudo_tasks, seed)
    scales = Scales.of(split, expected)
    random = np.random.default_rng([seed, 23])
    columns, values, means, wanted = [], [], [], []
    chances = np.array(spread.chances) / sum(spread.chances)
    for row, belief in enumerate(beliefs(spread, training.tasks, centre, curves, noise)):
        count = len(belief.centre)
        own = {name: column[row, :count] for name, column in training.tasks.columns.items()}
        root = torch.linalg.cholesky(belief.departures + 1e-9 * torch.eye(count).double())
        levels, all_curves = belief.scaled
        for _ in range(settings.draws):
            level = int(random.choice(len(chances), p=chances))
            curve = all_curves[level, random.integers(all_curves.shape[1])]
            normal = torch.from_numpy(random.standard_normal(count))
            value = curve + levels[level].flatten().sqrt() * (root @ normal)
            met = [t for t in targets if bool(((value - t).abs() <= settings.tolerance).any())]
            if met:
                columns.append(own)
                values.append(value)
                means.append(expected[row])
                wanted.append(float(random.choice(met)))
    return scales.steels(columns, values, means, wanted, spread.noise * noise, settings), scales


def train(drawn: Steels, settings: Settings, seed: int) -> dict[str, Policy]:
    """Return the policies of `LEARNED`, trained on drawn steels with as many batches each.

    Two thirds of them are ordinary ones for all: policies that see as much share them.
    """
    found = {}
    generator = torch.Generator().manual_seed(seed)
    last = settings.batches // 3

    def improve(
        policy: Policy,
        name: str,
        world: Steels,
        order: str | None,
        batches: int,
        share: float = 1.0,
    ) -> None:
        train_policy(
            policy,
            lambda own: world.pick(torch.randint(len(world), (settings.tasks,), generator=own)),
            generator,
            rate=None if order is None else RATE,
            second_order=order == "maml",
            batches=batches,
            learning_rate=share * settings.learning_rate,
            title=name,
        )

    torch.manual_seed(seed)
    for trials in sorted({own for own, _ in LEARNED.values()}):
        world = replace(drawn, trials=trials)
        start = Policy(world.inputs)
        improve(start, ORDINARY, world, None, settings.batches - last)
        for name, (seen, order) in LEARNED.items():
            if seen == trials:
                found[name] = copy.deepcopy(start)
                improve(found[name], name, world, order, last, FINER)
    return found


def score(
    observations: Observations,
    equation: Equation,
    kinetics: KineticsSection,
    settings: Settings,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Return the trials of every policy on every measured steel and target that a point meets.

    `steps` is empty for a first search of at most `BUDGET` trials, with the likeliest settings;
    with 0, 1, … it is the mean over episodes after so many policy-gradient steps on that steel.
    """
    targets = targets_of(observations, equation)
    rows = []
    for split in splits(observations, equation, kinetics, seed):
        drawn, scales = drawn_steels(split, targets, kinetics.pseudo_tasks, settings, seed)
        found: list[tuple[Case, float]] = []
        for case in cases(split, kinetics, seed):
            offered = policies(case, split, settings.tolerance, seed)
            for target in targets:
                hits = (case.measured - target).abs() <= settings.tolerance + 1e-9
                if not hits.any():
                    continue
                found.append((case, target))
                for name in PLANNED:
                    tried, _ = search(offered[name, "trials"], case, target, hits)
                    needed = len(tried) if hits[tried[-1]] else BUDGET + 1
                    rows.append((name, np.nan, case.name, case.group, target, float(needed)))
        measured = scales.steels(
            [{name: own[0] for name, own in case.points.columns.items()} for case, _ in found],
            [case.measured for case, _ in found],
            [case.expected for case, _ in found],
            [target for _, target in found],
            0.0,
            settings,
        )
        own = [(case.name, case.group, target) for case, target in found]
        for name, policy in train(drawn, settings, seed).items():
            for steps, values in _adapted(name, policy, drawn, measured, seed).items():
                rows += [(name, steps, *own[i], value) for i, value in enumerate(values.tolist())]
        report(f"fold {split.number} of {kinetics.folds}: {len(found)} steels with a target")
    heads = ["policy", "steps", "alloy", "composition_group", "target", "trials"]
    return pd.DataFrame(rows, columns=heads)


def _adapted(
    name: str, policy: Policy, drawn: Steels, measured: Steels, seed: int
) -> dict[float, Tensor]:
    """Return the trials of a learned policy on measured steels, by steps as of `score`."""
    drawn, measured = (replace(world, trials=LEARNED[name][0]) for world in (drawn, measured))
    generator = torch.Generator().manual_seed(seed + 8)
    likeliest = replace(measured, spreads=False, episodes=1)
    _, needed = likeliest.tried(policy, weights_of_each(policy, len(measured)), generator)
    others = drawn.pick(torch.arange(0, len(drawn), max(1, len(drawn) // len(measured))))
    rate = best_rate(policy, others, STEPS, seed + 7, RATES)
    returns = returns_by_steps(policy, measured, STEPS, generator, rate)
    return {math.nan: needed[:, 0]} | {
        float(step): BUDGET + 1 - own for step, own in enumerate(returns)
    }


def summarise(scores: pd.DataFrame, seed: int) -> list[dict]:
    """Return tidy records: means with 95 % bootstrap intervals over composition groups, paired.

    `shots` is the number of policy-gradient steps of what is told of adaptation; differences are to
    planning in a first search, and to the ordinary policy after as many steps.
    """
    keys, records = ["alloy", "target"], []
    for steps, block in scores.groupby("steps", dropna=False):
        first = bool(np.isnan(steps))
        against, told = (OURS, "planning") if first else (ORDINARY, "ordinary")
        reference = block[block["policy"] == against].set_index(keys)
        resample = resamples(reference["composition_group"], [seed, 7])
        for name, own in block.groupby("policy", sort=False):
            needed = own.set_index(keys).loc[reference.index, "trials"].to_numpy()
            metrics = {
                "trials" if first else "mean_trials": needed,
                f"trials_minus_{told}": needed - reference["trials"].to_numpy(),
            }
            if first:
                metrics["hit_within_3"] = (needed <= 3).astype(float)
            for metric, values in metrics.items():
                records.append(
                    {
                        "benchmark": "furnace",
                        "setting": "first search" if first else "adapted",
                        "method": name,
                        "is_default": name == OURS,
                        "shots": 0 if first else int(steps),
                        "metric": metric,
                        **with_interval(weighted_mean, values, resample),
                        "seed": seed,
                    }
                )
    return records
