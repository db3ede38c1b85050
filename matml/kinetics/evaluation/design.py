"""Do chosen experiments need fewer points than random ones or a regular grid?

Held-out alloys of measured sets: what can be chosen are an alloy's own observations, predicted are
all its others. The population is learned on the other folds; a choice sees inputs only, never a
value that was not chosen before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.importance_sampling import Posterior, sample_posterior
from matml.bayes.tasks import Tasks
from matml.kinetics.data.observations import Observations
from matml.kinetics.design.choose import DRAWS, PROPOSALS, choose
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import splits
from matml.kinetics.evaluation.scores import (
    resamples,
    weighted_mean,
    weighted_median,
    with_interval,
)
from matml.kinetics.inference.composition_prior import CompositionPrior
from matml.kinetics.settings import KineticsSection

STRATEGIES = {
    "chosen": "largest expected reduction of variance over all the alloy's conditions",
    "random": "mean over draws",
    "regular grid": "even in temperature, alternating in fraction or time",
}


def score_designs(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    most: int,
    draws: int,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Return one row per strategy, number of points and alloy: RMSE on its other observations."""
    records = []
    for split in splits(observations, equation, settings, seed, least=most + 2):
        prior = split.training.composition_prior(settings.pseudo_tasks, seed)
        held = _HeldOut(split.tasks, split.unseen.alloys, equation, observations.kind, prior)
        counts = split.tasks.counts()
        orders = {
            "chosen": [held.chosen(most, seed)],
            "random": [
                torch.stack(
                    [
                        torch.from_numpy(
                            np.random.default_rng([seed, 5, row, draw]).permutation(count)[:most]
                        )
                        for row, count in enumerate(counts)
                    ]
                )
                for draw in range(draws)
            ],
        }
        groups = split.unseen.alloys["composition_group"]
        for points in range(1, most + 1):
            grid = torch.stack([held.regular(row, points) for row in range(len(counts))])
            for strategy, several in (orders | {"regular grid": [grid]}).items():
                errors = torch.stack([held.errors(o[:, :points], seed) for o in several]).mean(0)
                records += [
                    (strategy, points, name, group, split.number, float(error))
                    for name, group, error in zip(split.unseen.names, groups, errors, strict=True)
                ]
        report(f"fold {split.number} of {settings.folds}: {len(counts)} alloys")
    columns = ["strategy", "points", "alloy", "composition_group", "fold", "rmse"]
    return pd.DataFrame(records, columns=columns)


@dataclass(frozen=True)
class _HeldOut:
    """Held-out alloys with all their observations, and what is known of them beforehand."""

    tasks: Tasks
    alloys: pd.DataFrame
    equation: Equation
    kind: str
    prior: CompositionPrior

    def posterior(
        self, picks: Tensor, seed: int, draws: int = 300, proposals: int = 2048
    ) -> tuple[Posterior, Tensor]:
        """Return posteriors given picked observations [B, K], K perhaps 0, and their predictions.

        Those of draws at all observations, [B, S, N].
        """
        rows, nothing = torch.arange(len(self.tasks)), picks.shape[1] == 0
        if nothing:
            picks = torch.zeros(len(rows), 1, dtype=torch.long)
        support = self.tasks.pick(rows, picks)
        if nothing:
            support = support.masked(torch.zeros_like(support.mask))
        priors = self.prior.of(self.alloys, support, like_the_learned=nothing)
        posterior = sample_posterior(support, priors, draws=draws, proposals=proposals, seed=seed)
        inputs = {name: column[:, None] for name, column in self.tasks.columns.items()}
        with torch.no_grad():
            value = self.equation.predict(self.kind, posterior.draws[:, :, None], inputs)
        low, high = self.prior.window_for(support, posterior)
        return posterior, value.clamp(low[:, None, None], high[:, None, None])

    def chosen(self, most: int, seed: int) -> Tensor:
        """Return the observations chosen one after the other, each measured before the next."""
        picks = torch.zeros(len(self.tasks), 0, dtype=torch.long)
        for _ in range(most):
            # as `matml kinetics design` does
            posterior, values = self.posterior(picks, seed, DRAWS, PROPOSALS)
            chosen = []
            for row, count in enumerate(self.tasks.counts()):
                own, allowed = values[row, :, :count], torch.ones(count, dtype=torch.bool)
                allowed[picks[row]] = False
                noise = float(posterior.noise[row].median())
                chosen += choose(own, own, noise, 1, allowed)[0]
            picks = torch.cat([picks, torch.tensor(chosen)[:, None]], 1)
        return picks

    def errors(self, picks: Tensor, seed: int) -> Tensor:
        """Return each alloy's RMSE on what was not picked, [B]."""
        _, values = self.posterior(picks, seed)
        mask = self.tasks.mask.scatter(1, picks, 0.0)
        squares = (values.mean(1) - self.tasks.columns["target"]).square()
        return ((mask * squares).sum(1) / mask.sum(1)).sqrt()

    def regular(self, row: int, points: int) -> Tensor:
        """Return the observations nearest to a regular grid of so many conditions."""
        count = int(self.tasks.mask[row].sum())
        columns = self.tasks.columns
        temperature = columns["temperature_K"][row, :count].numpy()
        other = columns["fraction" if "fraction" in columns else "time_s"]
        rank = pd.Series(other[row, :count].numpy()).rank(method="dense").to_numpy()
        rank = (rank - 1) / max(rank.max() - 1, 1)
        low, high = temperature.min(), temperature.max()
        picked: list[int] = []
        for i in range(points):
            at = (i + 0.5) / points
            level = (0.0, 1.0)[i % 2] if rank.max() > 0 else 0.0
            distance = np.abs((temperature - low) / max(high - low, 1e-9) - at) + np.abs(
                rank - level
            )
            distance[picked] = np.inf
            picked.append(int(distance.argmin()))
        return torch.tensor(picked)


def summarise_designs(scores: pd.DataFrame, dataset: str, unit: str, seed: int) -> pd.DataFrame:
    """Return tidy records: RMSE by strategy and points, and points needed for random's last error.

    An alloy that never gets there counts as one more than was tried. Intervals are 95 % bootstrap
    over composition groups.
    """
    most = int(scores["points"].max())
    first = scores.drop_duplicates("alloy").set_index("alloy")["composition_group"]
    resample = resamples(first, [seed, 7])
    wide = scores.pivot_table(index="alloy", columns=["strategy", "points"], values="rmse")
    wide = wide.loc[first.index]
    goal = wide["random"][most].to_numpy()
    measured, needed = [], {}
    for strategy in STRATEGIES:
        reached = wide[strategy].to_numpy() <= goal[:, None] + 1e-12
        needed[strategy] = np.where(reached.any(1), reached.argmax(1) + 1, most + 1).astype(float)
    for strategy in STRATEGIES:
        measured.append((strategy, most, f"points_for_error_of_{most}_random", needed[strategy]))
        more = needed[strategy] - needed["regular grid"]
        measured.append((strategy, most, "points_more_than_the_grid", more))
        for points in range(1, most + 1):
            measured.append((strategy, points, "rmse", wide[strategy][points].to_numpy()))
    records = []
    for strategy, points, name, values in measured:
        averages = (
            {"median": weighted_median, "mean": weighted_mean}
            if name != "rmse"
            else {"mean": weighted_mean, "median": weighted_median}
        )
        for label, average in averages.items():
            records.append(
                {
                    "benchmark": "kinetics design",
                    "setting": dataset,
                    "method": strategy,
                    "is_default": strategy == "chosen",
                    "shots": points,
                    "metric": f"{name}_{label}" + (f" / {unit}" if name == "rmse" else ""),
                    **with_interval(average, values, resample),
                    "seed": seed,
                }
            )
    return pd.DataFrame(records)


def format_designs(summary: pd.DataFrame) -> str:
    """Return the printed table of a summary."""
    lines = []
    for metric, block in summary.groupby("metric", sort=False):
        shots = sorted(block["shots"].unique())
        head = "".join(f"{k:<8d}" for k in shots) if len(shots) > 1 else "[95 % interval]"
        lines.append(f"{metric:38s}{head}")
        for strategy in STRATEGIES:
            rows = block[block["method"] == strategy].sort_values("shots")
            if len(rows) > 1:
                cells = "".join(f"{value:<8.3f}" for value in rows["value"])
            else:
                row = rows.iloc[0]
                cells = f"{row['value']:.2f} [{row['low']:.1f}, {row['high']:.1f}]"
            lines.append(f"  {strategy:36s}{cells}")
    return "\n".join(lines)
