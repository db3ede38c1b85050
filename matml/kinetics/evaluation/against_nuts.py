"""The default against the same posterior by the No-U-Turn sampler: the gold standard, slowly.

One draw of K points per alloy, all alloys of a fold in one chain; both methods learn, see and
predict the same.
"""

import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from matml.bayes.importance_sampling import sample_posterior
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.benchmark import draw_episodes, splits
from matml.kinetics.evaluation.methods import DEFAULT
from matml.kinetics.evaluation.scores import (
    Average,
    ratio_of,
    resamples,
    weighted_mean,
    with_interval,
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
    rows = []
    for split in splits(observations, equation, settings, seed):
        prior = split.training.composition_prior(settings.pseudo_tasks, seed)
        for shots in settings.shots:
            episodes = draw_episodes(split.tasks, split.unseen.alloys, shots, 1, seed)
            if episodes is None:
                continue
            support, priors = episodes.support, prior.of(episodes.alloys, episodes.support)
            began = time.process_time()
            posterior = sample_posterior(support, priors, seed=seed)
            middle = time.process_time()
            chain = nuts_draws(
                support, priors, posterior.fit, draws=draws, warmup=warmup, seed=seed
            )
            end = time.process_time()
            window = prior.window_for(support, posterior)
            for method, drawn, seconds in (
                (DEFAULT, (posterior.draws, posterior.noise), middle - began),
                (NUTS, chain, end - middle),
            ):
                value, low, high = predict_draws(
                    equation, observations.kind, *drawn, episodes.columns, seed, window
                )
                cards = episodes.alloys[["alloy", "composition_group"]]
                rows.append(
                    cards.rename(columns={"composition_group": "group"}).assign(
                        method=method,
                        shots=shots,
                        rmse=episodes.errors(value).numpy(),
                        coverage_90=episodes.coverage(low, high).numpy(),
                        seconds=seconds / len(support),
                    )
                )
        report(f"fold {split.number} of {settings.folds}: compared with the No-U-Turn sampler")
    return pd.concat(rows, ignore_index=True)


def nuts_records(scores: pd.DataFrame, setting: str, unit: str, seed: int) -> list[dict]:
    """Return tidy records: mean RMSE and coverage of both, their ratio, seconds per alloy.

    Intervals are 95 % bootstrap over composition groups, paired for the ratio.
    """
    records = []
    for shots in sorted(set(scores["shots"].tolist())):
        block = scores[scores["shots"] == shots]
        wide = block.pivot_table(index=["group", "alloy"], columns="method")
        resample = resamples(wide.index.get_level_values("group"), [seed, 17])
        metrics: list[tuple[str, str, np.ndarray, Average]] = [
            (method, name, wide[column, method].to_numpy(), weighted_mean)
            for method in (DEFAULT, NUTS)
            for name, column in (
                (f"rmse_mean / {unit}", "rmse"),
                ("coverage_90", "coverage_90"),
                ("processor time per alloy / s", "seconds"),
            )
        ]
        both = np.stack([wide["rmse", method].to_numpy() for method in (DEFAULT, NUTS)])
        metrics.append((DEFAULT, "rmse_mean_over_nuts", both, ratio_of(weighted_mean)))
        records += [
            {
                "benchmark": "kinetics against NUTS",
                "setting": setting,
                "method": method,
                "is_default": method == DEFAULT,
                "shots": shots,
                "metric": name,
                **with_interval(average, values, resample),
                "seed": seed,
            }
            for method, name, values, average in metrics
        ]
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
