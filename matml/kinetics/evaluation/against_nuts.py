"""The default against the same posterior by the No-U-Turn sampler: the gold standard, slowly.

One draw of K points per alloy, all alloys of a fold in one chain; both methods learn, see and
predict the same.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.batch import residual_function, to_series
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import (
    DEFAULT_METHOD,
    draw_points,
    grouped_folds,
    learn_without,
    queries_of,
)
from matml.kinetics.inference.nuts import nuts_draws
from matml.kinetics.inference.predict import predict_draws
from matml.kinetics.settings import KineticsSection

NUTS = "no-u-turn sampler"


def score_nuts(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
    *,
    draws: int = 300,
    warmup: int = 200,
) -> pd.DataFrame:
    """Return one row per method, shots and alloy: RMSE, coverage, processor time in seconds.

    `draws` and `warmup` are the sampler's.
    """
    kind, residual = observations.kind, residual_function(equation, observations.kind)
    rows = []
    for number, held in enumerate(grouped_folds(observations, settings.folds, seed), start=1):
        reference, experience = learn_without(observations, equation, held, settings, seed)
        unseen = observations.select(held)
        series = to_series(unseen, equation, reference)
        for shots in settings.shots:
            tasks, picks = draw_points(series.counts().tolist(), shots, 1, seed)
            if len(tasks) == 0:
                continue
            support = series.points(tasks, picks)
            priors = experience.of(unseen.alloys.iloc[tasks.tolist()])
            data = support.columns, support.mask, support.known_variance
            began = time.process_time()
            posterior = sample_posterior(residual, priors, *data, seed=seed)
            middle = time.process_time()
            chain = nuts_draws(
                residual, priors, support, posterior.fit, draws=draws, warmup=warmup, seed=seed
            )
            end = time.process_time()
            columns, mask = queries_of(series, tasks, picks)
            truth = columns["target"]
            for method, drawn, seconds in (
                (DEFAULT_METHOD, (posterior.draws, posterior.noise), middle - began),
                (NUTS, chain, end - middle),
            ):
                value, low, high = predict_draws(
                    equation, kind, *drawn, columns, seed, experience.window
                )
                error = ((mask * (value - truth).square()).sum(1) / mask.sum(1)).sqrt()
                inside = (mask * ((low <= truth) & (truth <= high))).sum(1) / mask.sum(1)
                for i, task in enumerate(tasks.tolist()):
                    card = unseen.alloys.iloc[task]
                    named = (method, shots, card["alloy"], card["composition_group"])
                    found = float(error[i]), float(inside[i]), seconds / len(tasks)
                    rows.append((*named, *found))
        report(f"fold {number} of {settings.folds}: compared with the No-U-Turn sampler")
    columns = ["method", "shots", "alloy", "group", "rmse", "coverage_90", "seconds"]
    return pd.DataFrame(rows, columns=columns)


def nuts_records(scores: pd.DataFrame, setting: str, unit: str, seed: int) -> list[dict]:
    """Return tidy records: mean RMSE and coverage of both, their ratio, seconds per alloy.

    Intervals are 95 % bootstrap over composition groups, paired for the ratio.
    """
    records = []
    for shots, block in scores.groupby("shots"):
        wide = block.pivot_table(index=["group", "alloy"], columns="method")
        groups = wide.index.get_level_values("group").unique()
        generator = np.random.default_rng([seed, 17])
        weights = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), 2000)
        member = groups.get_indexer(wide.index.get_level_values("group"))
        resample = weights[:, member].astype(float)

        def add(method, metric, values, over=None, shots=shots, wide=wide, resample=resample):
            below = np.ones(len(values)) if over is None else over
            again = resample @ values / (resample @ below)
            low, high = np.quantile(again, [0.025, 0.975])
            records.append(
                {
                    "benchmark": "kinetics against NUTS",
                    "setting": setting,
                    "method": method,
                    "is_default": method == DEFAULT_METHOD,
                    "shots": int(shots),
                    "metric": metric,
                    "value": float(values.sum() / below.sum()),
                    "low": float(low),
                    "high": float(high),
                    "n_tasks": len(wide),
                    "seed": seed,
                }
            )

        for method in (DEFAULT_METHOD, NUTS):
            add(method, f"rmse_mean / {unit}", wide["rmse", method].to_numpy())
            add(method, "coverage_90", wide["coverage_90", method].to_numpy())
            add(method, "processor time per alloy / s", wide["seconds", method].to_numpy())
        mine, theirs = (wide["rmse", m].to_numpy() for m in (DEFAULT_METHOD, NUTS))
        add(DEFAULT_METHOD, "rmse_mean_over_nuts", mine, theirs)
    return records


def format_nuts(records: list[dict]) -> str:
    """Return the printed lines."""
    lines = ["default against the No-U-Turn sampler on the same posterior, one draw per alloy"]
    for r in records:
        lines.append(
            f"  K={r['shots']:<4d}{r['method']:24s}{r['metric']:32s}{r['value']:.4g} "
            f"[{r['low']:.4g}, {r['high']:.4g}], {r['n_tasks']} alloys"
        )
    return "\n".join(lines)
