"""Do chosen experiments need fewer points than random ones or a regular grid?

Held-out alloys of measured sets: what can be chosen are an alloy's own observations, predicted are
all its others. The population is learned on the other folds; a choice sees inputs only, never a
value that was not chosen before.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.importance_sampling import Posterior, sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.kinetics.data.batch import Series, residual_function, to_series
from matml.kinetics.data.observations import Observations
from matml.kinetics.design.choose import choose
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import grouped_folds, learn_without
from matml.kinetics.evaluation.scores import weighted_mean, weighted_median
from matml.kinetics.inference.composition_prior import Experience
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
    kind, records = observations.kind, []
    group = observations.alloys.set_index("alloy")["composition_group"]
    for number, held in enumerate(grouped_folds(observations, settings.folds, seed), start=1):
        reference, experience = learn_without(observations, equation, held, settings, seed)
        names = [n for n in held if (observations.points["alloy"] == n).sum() >= most + 2]
        unseen = observations.select(names)
        series = to_series(unseen, equation, reference)
        priors = experience.of(unseen.alloys)
        shared = equation, kind, experience, series, priors
        orders = {"chosen": [_chosen_orders(*shared, most, seed)]}
        counts = series.counts().tolist()
        orders["random"] = [
            torch.stack(
                [
                    torch.from_numpy(
                        np.random.default_rng([seed, 5, row, draw]).permutation(count)[:most]
                    )
                    for row, count in enumerate(counts)
                ]
            )
            for draw in range(draws)
        ]
        for points in range(1, most + 1):
            grid = torch.stack([_regular(series, row, points) for row in range(len(series))])
            for strategy, several in (orders | {"regular grid": [grid]}).items():
                errors = torch.stack(
                    [_errors(*shared, order[:, :points], seed) for order in several]
                ).mean(0)
                records += [
                    (strategy, points, name, group[name], number, float(error))
                    for name, error in zip(series.names, errors, strict=True)
                ]
        report(f"fold {number} of {settings.folds}: {len(names)} alloys")
    columns = ["strategy", "points", "alloy", "composition_group", "fold", "rmse"]
    return pd.DataFrame(records, columns=columns)


def _posterior(
    equation: Equation, kind: str, priors: TaskPriors, series: Series, picks: Tensor, seed: int
) -> Posterior:
    """Return the posteriors of alloys given picked observations [B, K]; K may be 0."""
    if picks.shape[1] == 0:
        picks = torch.zeros(len(series), 1, dtype=torch.long)
        support = series.points(torch.arange(len(series)), picks)
        mask = torch.zeros_like(support.mask)
    else:
        support = series.points(torch.arange(len(series)), picks)
        mask = support.mask
    return sample_posterior(
        residual_function(equation, kind),
        priors,
        support.columns,
        mask,
        support.known_variance,
        draws=300,
        seed=seed,
    )


def _values(
    equation: Equation, kind: str, experience: Experience, posterior: Posterior, series: Series
) -> Tensor:
    """Return predictions of draws at all observations, [B, S, N]."""
    with torch.no_grad():
        inputs = {name: column[:, None] for name, column in series.columns.items()}
        value = equation.predict(kind, posterior.draws[:, :, None], inputs)
    return value.clamp(*experience.window)


def _chosen_orders(
    equation: Equation,
    kind: str,
    experience: Experience,
    series: Series,
    priors: TaskPriors,
    most: int,
    seed: int,
) -> Tensor:
    """Return the observations chosen one after the other, each measured before the next."""
    picks = torch.zeros(len(series), 0, dtype=torch.long)
    for _ in range(most):
        posterior = _posterior(equation, kind, priors, series, picks, seed)
        values = _values(equation, kind, experience, posterior, series)
        chosen = []
        for row, count in enumerate(series.counts().tolist()):
            own = values[row, :, :count]
            noise = float(posterior.noise[row].median())
            (gain,) = choose(own, own, noise, 1)[1]
            gain[picks[row]] = -1.0
            chosen.append(int(gain.argmax()))
        picks = torch.cat([picks, torch.tensor(chosen)[:, None]], 1)
    return picks


def _regular(series: Series, row: int, points: int) -> Tensor:
    """Return the observations nearest to a regular grid of so many conditions."""
    count = int(series.mask[row].sum())
    temperature = series.columns["temperature_K"][row, :count].numpy()
    other = series.columns["fraction" if "fraction" in series.columns else "time_s"]
    rank = pd.Series(other[row, :count].numpy()).rank(method="dense").to_numpy()
    rank = (rank - 1) / max(rank.max() - 1, 1)
    low, high = temperature.min(), temperature.max()
    picked: list[int] = []
    for i in range(points):
        at = (i + 0.5) / points
        level = (0.0, 1.0)[i % 2] if rank.max() > 0 else 0.0
        distance = np.abs((temperature - low) / max(high - low, 1e-9) - at) + np.abs(rank - level)
        distance[picked] = np.inf
        picked.append(int(distance.argmin()))
    return torch.tensor(picked)


def _errors(
    equation: Equation,
    kind: str,
    experience: Experience,
    series: Series,
    priors: TaskPriors,
    picks: Tensor,
    seed: int,
) -> Tensor:
    """Return each alloy's RMSE on what was not picked, [B]."""
    posterior = _posterior(equation, kind, priors, series, picks, seed)
    value = _values(equation, kind, experience, posterior, series).mean(1)
    mask = series.mask.clone().scatter_(1, picks, 0.0)
    squared = (mask * (value - series.columns["target"]).square()).sum(1) / mask.sum(1)
    return squared.sqrt()


def summarise_designs(scores: pd.DataFrame, dataset: str, unit: str, seed: int) -> pd.DataFrame:
    """Return tidy records: RMSE by strategy and points, and points needed for random's last error.

    An alloy that never gets there counts as one more than was tried. Intervals are 95 % bootstrap
    over composition groups.
    """
    most = int(scores["points"].max())
    first = scores.drop_duplicates("alloy").set_index("alloy")["composition_group"]
    member, groups = pd.factorize(first)
    drawn = np.random.default_rng([seed, 7]).multinomial(
        len(groups), np.full(len(groups), 1 / len(groups)), 2000
    )
    resample, once = drawn[:, member].astype(float), np.ones((1, len(first)))
    wide = scores.pivot_table(index="alloy", columns=["strategy", "points"], values="rmse")
    wide = wide.loc[first.index]
    goal = wide["random"][most].to_numpy()
    measured = []
    for strategy in STRATEGIES:
        reached = wide[strategy].to_numpy() <= goal[:, None] + 1e-12
        needed = np.where(reached.any(1), reached.argmax(1) + 1, most + 1).astype(float)
        measured.append((strategy, most, f"points_for_error_of_{most}_random", needed))
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
            low, high = np.quantile(average(values, resample), [0.025, 0.975])
            records.append(
                {
                    "benchmark": "kinetics design",
                    "setting": dataset,
                    "method": strategy,
                    "is_default": strategy == "chosen",
                    "shots": points,
                    "metric": f"{name}_{label}" + (f" / {unit}" if name == "rmse" else ""),
                    "value": float(average(values, once)[0]),
                    "low": float(low),
                    "high": float(high),
                    "n_tasks": len(values),
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
