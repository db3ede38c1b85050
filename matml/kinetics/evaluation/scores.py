"""Scores of the kinetics benchmark: averages with intervals, tables, tidy records."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pandas as pd

from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.compared import METHODS
from matml.kinetics.evaluation.methods import DEFAULT, REFERENCE, TITLES, method_title

RESAMPLES = 2000

RATIOS = ("coverage_90", "rmse_mean_over_map", "rmse_median_over_map")
"""Metrics without a unit."""

Average: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of values [A] under each row of weights [R, A]."""
    return weights @ values / weights.sum(1)


def weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the median of values [A], each repeated as each row of whole weights [R, A] says."""
    order = values.argsort()
    below = weights[:, order].cumsum(1)
    half = below[:, -1:] / 2
    # the two middle values of an even count; equal where the count is odd
    lower, upper = (below < half).sum(1), (below <= half).sum(1)
    return (values[order][lower] + values[order][np.minimum(upper, len(values) - 1)]) / 2


def ratio_of(average: Average) -> Average:
    """Return the function that divides the averages of two rows of values [2, A]."""
    return lambda values, weights: average(values[0], weights) / average(values[1], weights)


def resamples(groups: pd.Series | pd.Index, seed: list[int]) -> np.ndarray:
    """Return how often each alloy stands in resamples of composition groups [R, A].

    `groups` are those of the alloys [A].
    """
    member, names = pd.factorize(groups)
    chances = np.full(len(names), 1 / len(names))
    drawn = np.random.default_rng(seed).multinomial(len(names), chances, RESAMPLES)
    return drawn[:, member].astype(float)


def with_interval(average: Average, values: np.ndarray, resample: np.ndarray) -> dict[str, float]:
    """Return an average of values [A] or [2, A] over alloys, with its 95 % bootstrap interval."""
    low, high = np.quantile(average(values, resample), [0.025, 0.975])
    alloys = resample.shape[1]
    value = average(values, np.ones((1, alloys)))[0]
    return {"value": float(value), "low": float(low), "high": float(high), "n_tasks": alloys}


def summarise(
    per_alloy: pd.DataFrame, dataset: str, equation: Equation, unit: str, seed: int
) -> pd.DataFrame:
    """Return the tidy scores: RMSE and coverage, paired gap to the default, ratio to the reference.

    The ratio is of mean (median) RMSE over that of `REFERENCE` on the same alloys and draws.

    Intervals are 95 % bootstrap over composition groups (conditions of one alloy share parameters),
    with one set of resamples for all methods, so that the gap (method minus default, positive
    where the default is better) is paired.
    """
    records = []
    for shots in sorted(set(per_alloy["shots"].tolist())):
        block = per_alloy[per_alloy["shots"] == shots]
        wide = block.pivot_table(index="alloy", columns="method", values="rmse")
        cover = block.pivot_table(
            index="alloy", columns="method", values="coverage_90", dropna=False
        )
        names = block.drop_duplicates("alloy").set_index("alloy")["composition_group"]
        resample = resamples(names.loc[wide.index], [seed, 7])
        for method in METHODS:
            values = wide[method].to_numpy()
            gap = values - wide[DEFAULT].to_numpy()
            metrics: dict[str, tuple[np.ndarray, Average]] = {
                "rmse_mean": (values, weighted_mean),
                "rmse_median": (values, weighted_median),
            }
            if method in cover and cover[method].notna().all():
                metrics["coverage_90"] = (cover[method].to_numpy(float), weighted_mean)
            reference = wide[REFERENCE].to_numpy()
            if method != REFERENCE:
                both = np.stack([values, reference])
                metrics["rmse_mean_over_map"] = (both, ratio_of(weighted_mean))
                metrics["rmse_median_over_map"] = (both, ratio_of(weighted_median))
            if method != DEFAULT:
                metrics["rmse_minus_default_mean"] = (gap, weighted_mean)
                metrics["rmse_minus_default_median"] = (gap, weighted_median)
            for metric, (numbers, average) in metrics.items():
                records.append(
                    {
                        "dataset": dataset,
                        "equation": equation.name,
                        "unit": "" if metric in RATIOS else unit,
                        "method": method,
                        "is_default": method == DEFAULT,
                        "shots": shots,
                        "metric": metric,
                        **with_interval(average, numbers, resample),
                        "seed": seed,
                    }
                )
    return pd.DataFrame(records)


def tidy_records(scores: pd.DataFrame) -> list[dict[str, object]]:
    """Return the scores as the records that every benchmark of matml writes with `--json`."""
    return [
        {
            "benchmark": "kinetics",
            "setting": f"{row['dataset']}, {row['equation']}",
            "method": row["method"],
            "is_default": bool(row["is_default"]),
            "shots": int(row["shots"]),
            "metric": f"{row['metric']} / {row['unit']}" if row["unit"] else row["metric"],
            "value": row["value"],
            "low": row["low"],
            "high": row["high"],
            "n_tasks": int(row["n_tasks"]),
            "seed": int(row["seed"]),
        }
        for row in scores.to_dict("records")
    ]


WIDTH = max(map(len, TITLES.values())) + 2
"""Of the printed table's first column."""


def format_table(scores: pd.DataFrame) -> str:
    """Return the printed table: a line per method, a column per number of shots.

    Mean RMSE, its ratio to the reference, and coverage stand with their 95 % interval.
    """
    lines = []
    for metric in ("rmse_mean", "rmse_median", "rmse_mean_over_map", "coverage_90"):
        block = scores[scores["metric"] == metric]
        if block.empty:
            continue
        unit = block["unit"].iloc[0]
        title = f"{metric}{f' / {unit}' if unit else ''}"
        shots = sorted(block["shots"].unique())
        lines.append(f"{title:{WIDTH + 2}s}" + "".join(f"K={k:<18d}" for k in shots))
        cells = block.set_index(["method", "shots"])
        for method in [name for name in METHODS if name in set(block["method"])]:
            mark = "* " if method == DEFAULT else "  "
            row = [
                _cell(cells.loc[(method, k)]) if (method, k) in cells.index else "-" for k in shots
            ]
            lines.append(
                f"{mark}{method_title(method):{WIDTH}s}" + "".join(f"{cell:<20s}" for cell in row)
            )
        lines.append("")
    return "\n".join([*lines, "* the default; in brackets 95 % bootstrap over composition groups"])


def _cell(score: pd.Series) -> str:
    """Return a value with its interval, three significant digits or so."""
    if score["value"] != score["value"]:
        return "-"
    return f"{score['value']:.3f} [{score['low']:.3f},{score['high']:.3f}]"


def winners(scores: pd.DataFrame) -> dict[int, str]:
    """Return the method with the lowest mean RMSE for each number of shots."""
    block = scores[scores["metric"] == "rmse_mean"]
    best = block.loc[block.groupby("shots")["value"].idxmin()]
    return {int(row["shots"]): row["method"] for row in best.to_dict("records")}
