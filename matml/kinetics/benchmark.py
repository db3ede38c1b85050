"""How well each method predicts a held-out alloy from K of its observations.

Alloys are split into grouped folds (whole composition groups, so that near-twins never stand on
both sides). For each fold everything is learned on the other folds; each held-out alloy is then
given K random observations, several times, and its other observations are predicted. Every method
gets the same draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from matml.config import KineticsSection
from matml.errors import MatmlError
from matml.kinetics.equations import Equation
from matml.kinetics.learner import MetaLearned
from matml.kinetics.observations import Observations
from matml.kinetics.population import NORMAL_90, learn_gaussian, learn_starts
from matml.kinetics.predict import (
    generic_least_squares,
    least_squares_bounds,
    predict_draws,
)
from matml.kinetics.series import (
    Series,
    common_reference_temperature,
    residual_function,
    to_series,
)
from matml.meta.hierarchical import (
    Fit,
    GaussianPrior,
    draw_posterior,
    gauss_newton,
    inverse_variances,
    linearise,
    maximum_a_posteriori,
    predictive_variance,
)

METHODS = {
    "least squares, generic start": "multi-start, bounded to twice the typical ranges",
    "least squares, population mean": "the same bounds, started from the learned mean",
    "maml": "gradient steps from a meta-learned start, one rate",
    "meta_sgd": "gradient steps from a meta-learned start, a learned rate per parameter",
    "hierarchical map": "damped Gauss-Newton to the maximum a posteriori of the learned prior",
    "hierarchical posterior": "posterior mean under the learned prior, importance resampling",
}
DEFAULT_METHOD = "hierarchical posterior"
"""What `calibrate` uses: the lowest mean error nearly everywhere.

Measured exceptions: MAML with one or two points of the stainless TTT set (few gradient steps do not
extrapolate), the plug-in maximum a posteriori by a few percent on the simulated TTT set, and least
squares with five points or more of the simulated JMAK set, whose population has ten compositions.
"""

Predict: TypeAlias = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor, Tensor]]
"""Columns of new observations [T, M] -> prediction, low and high end of a 90 % band, [T, M]."""


@dataclass(frozen=True)
class Learned:
    """What a fold has learned from its training alloys."""

    prior: GaussianPrior
    starts: dict[str, MetaLearned]
    widths: dict[tuple[str, int], float]


def grouped_folds(observations: Observations, folds: int, seed: int) -> list[list[str]]:
    """Return the held-out alloys of each fold: whole composition groups, folds of similar size.

    Raises
    ------
    MatmlError
        With fewer groups than folds.
    """
    groups = observations.alloys.groupby("composition_group", sort=True)["alloy"].agg(list)
    if len(groups) < folds:
        raise MatmlError(
            f"{len(groups)} composition groups cannot make {folds} folds; lower `folds` or give "
            "more alloys"
        )
    order = np.random.default_rng([seed, 4]).permutation(len(groups))
    held: list[list[str]] = [[] for _ in range(folds)]
    # largest groups first, each to the smallest fold: sizes end up close
    for index in sorted(order, key=lambda i: -len(groups.iloc[i])):
        min(held, key=len).extend(groups.iloc[index])
    return held


def draw_points(counts: Sequence[int], shots: int, draws: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return (alloy of each task [T], picked observations [T, shots]); nested in `shots`.

    Alloys with fewer than `shots` + 2 observations are left out. The picks of a larger `shots`
    begin with those of a smaller one.
    """
    rows, picks = [], []
    for row, count in enumerate(counts):
        if count < shots + 2:
            continue
        for draw in range(draws):
            order = np.random.default_rng([seed, 5, row, draw]).permutation(count)
            rows.append(row)
            picks.append(order[:shots])
    if not rows:
        return torch.zeros(0, dtype=torch.long), torch.zeros((0, shots), dtype=torch.long)
    return torch.tensor(rows), torch.from_numpy(np.stack(picks))


def fit_method(
    method: str, equation: Equation, kind: str, learned: Learned, support: Series, seed: int
) -> Predict:
    """Return the method's predictions after it has seen the support of every task.

    The band is NaN where the method has none (least squares with no more points than parameters).
    """
    residual = residual_function(equation, kind)
    if method in learned.starts:
        position = learned.starts[method].adapt(equation, kind, support)
        width = learned.widths.get((method, support.mask.shape[1]), torch.nan)
        return _at(equation, kind, position, lambda j: j.new_full(j.shape[:2], width))
    if method.startswith("hierarchical"):
        data = (support.columns, support.mask, support.known_variance)
        fit = maximum_a_posteriori(residual, learned.prior, *data)
        noise = learned.prior.noise
        if method == "hierarchical posterior":
            draws = draw_posterior(residual, fit, learned.prior, *data, seed=seed)
            return lambda columns: predict_draws(equation, kind, draws, noise, columns, seed)
        return _at(
            equation,
            kind,
            fit.position,
            lambda j: NORMAL_90 * predictive_variance(fit, j, noise**2).sqrt(),
        )
    noise = equation.observable(kind).typical_noise
    weights = inverse_variances(support.mask, support.known_variance, noise)
    if method == "least squares, population mean":
        fit = gauss_newton(
            residual,
            learned.prior.mean,
            support.columns,
            weights,
            bounds=least_squares_bounds(equation),
        )
    else:
        fit = generic_least_squares(equation, kind, support, seed)
    return _at(equation, kind, fit.position, lambda j: _least_squares_band(fit, j, weights, noise))


def _at(
    equation: Equation, kind: str, position: Tensor, width: Callable[[Tensor], Tensor]
) -> Predict:
    """Return predictions at fitted parameters [T, P] with a symmetric band from the Jacobian."""

    def predict(columns: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        value, jacobian = linearise(
            lambda z, inputs: equation.predict(kind, z, inputs), position, columns
        )
        half = width(jacobian)
        return value, value - half, value + half

    return predict


def _least_squares_band(fit: Fit, jacobian: Tensor, weights: Tensor, noise: float) -> Tensor:
    """Return the textbook half width of a prediction from nonlinear least squares (Student t)."""
    count, size = weights.shape[1], fit.position.shape[1]
    if count <= size:
        return jacobian.new_full(jacobian.shape[:2], torch.nan)
    variance = (weights * fit.residuals.square()).sum(1) / (count - size)
    spread = (jacobian @ fit.covariance * jacobian).sum(2)
    quantile = stats.t.ppf(0.95, count - size)
    return quantile * (variance[:, None] * (spread + noise**2)).sqrt()


def learn_fold(
    equation: Equation,
    kind: str,
    training: Series,
    groups: int,
    settings: KineticsSection,
    seed: int,
) -> Learned:
    """Learn prior, starts, and the starts' error widths by shots from training alloys.

    The widths (90 % quantile of absolute errors on the training alloys) give MAML and Meta-SGD,
    which have no posterior, a band; it is a little narrow, since the alloys were trained on.
    """
    prior = learn_gaussian(equation, kind, training, settings.pseudo_tasks, groups).prior
    starts = learn_starts(equation, kind, training, settings, seed)
    learned = Learned(prior, starts, {})
    for method in starts:
        for shots in settings.shots:
            rows, picks = draw_points(training.counts().tolist(), shots, 4, seed + 1)
            if len(rows) == 0:
                continue
            support = training.points(rows, picks)
            predict = fit_method(method, equation, kind, learned, support, seed)
            columns, mask = _queries(training, rows, picks)
            error = (predict(columns)[0] - columns["target"]).abs()[mask > 0]
            learned.widths[method, shots] = float(error.quantile(0.9))
    return learned


def _queries(series: Series, rows: Tensor, picks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return each task's columns [T, N], and the mask of what was not picked [T, N]."""
    columns = {name: column[rows] for name, column in series.columns.items()}
    mask = series.mask[rows].clone()
    mask.scatter_(1, picks, 0.0)
    return columns, mask


def score_alloys(
    observations: Observations,
    equation: Equation,
    settings: KineticsSection,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Return one row per method, shots and alloy: mean RMSE and coverage over the draws."""
    kind = observations.kind
    records = []
    for number, held in enumerate(grouped_folds(observations, settings.folds, seed), start=1):
        training_names = [name for name in observations.names if name not in set(held)]
        subset = observations.select(training_names)
        reference = (
            common_reference_temperature(subset) if equation.needs_reference_temperature else None
        )
        training = to_series(subset, equation, reference)
        groups = int(subset.alloys["composition_group"].nunique())
        learned = learn_fold(equation, kind, training, groups, settings, seed)
        report(f"fold {number} of {settings.folds}: learned from {len(training)} alloys")
        series = to_series(observations.select(held), equation, reference)
        for shots in settings.shots:
            rows, picks = draw_points(series.counts().tolist(), shots, settings.draws, seed)
            if len(rows) == 0:
                continue
            support = series.points(rows, picks)
            columns, mask = _queries(series, rows, picks)
            for method in METHODS:
                predict = fit_method(method, equation, kind, learned, support, seed)
                value, low, high = predict(columns)
                truth = columns["target"]
                squared = (mask * (value - truth).square()).sum(1) / mask.sum(1)
                inside = (mask * ((low <= truth) & (truth <= high))).sum(1) / mask.sum(1)
                inside = torch.where(low.isnan().any(1), torch.nan, inside)
                table = (
                    pd.DataFrame(
                        {"row": rows.numpy(), "rmse": squared.sqrt().numpy(), "coverage": inside}
                    )
                    .groupby("row", as_index=False)
                    .mean()
                )
                for item in table.itertuples():
                    records.append(
                        (method, shots, series.names[item.row], number, item.rmse, item.coverage)
                    )
    if not records:
        raise MatmlError(
            f"no alloy has at least {min(settings.shots) + 2} observations, which "
            f"{min(settings.shots)} shots and a query need"
        )
    return pd.DataFrame(
        records, columns=["method", "shots", "alloy", "fold", "rmse", "coverage_90"]
    )


def summarise(
    per_alloy: pd.DataFrame, dataset: str, equation: Equation, unit: str, seed: int
) -> pd.DataFrame:
    """Return the tidy scores: mean and median RMSE, coverage, and the paired gap to the default.

    Intervals are 95 % bootstrap over alloys, with one set of resamples for all methods, so that
    the gap (method minus default, positive where the default is better) is paired.
    """
    records = []
    for shots, block in per_alloy.groupby("shots", sort=True):
        wide = block.pivot_table(index="alloy", columns="method", values="rmse")
        cover = block.pivot_table(
            index="alloy", columns="method", values="coverage_90", dropna=False
        )
        generator = np.random.default_rng([seed, 7])
        resample = generator.integers(0, len(wide), (2000, len(wide)))
        for method in METHODS:
            values = wide[method].to_numpy()
            gap = values - wide[DEFAULT_METHOD].to_numpy()
            metrics: dict[str, tuple[np.ndarray, Callable[..., np.ndarray]]] = {
                "rmse_mean": (values, np.mean),
                "rmse_median": (values, np.median),
            }
            if method in cover and cover[method].notna().all():
                metrics["coverage_90"] = (cover[method].to_numpy(float), np.mean)
            if method != DEFAULT_METHOD:
                metrics["rmse_minus_default_mean"] = (gap, np.mean)
                metrics["rmse_minus_default_median"] = (gap, np.median)
            for metric, (numbers, average) in metrics.items():
                low, high = np.quantile(average(numbers[resample], axis=1), [0.025, 0.975])
                records.append(
                    {
                        "dataset": dataset,
                        "equation": equation.name,
                        "unit": "" if metric == "coverage_90" else unit,
                        "method": method,
                        "is_default": method == DEFAULT_METHOD,
                        "shots": int(shots),
                        "metric": metric,
                        "value": float(average(numbers)),
                        "low": float(low),
                        "high": float(high),
                        "n_tasks": len(values),
                        "seed": seed,
                    }
                )
    return pd.DataFrame(records)


def tidy_records(scores: pd.DataFrame) -> list[dict[str, object]]:
    """Return the scores as the records that every benchmark of matml writes with `--json`."""
    return [
        {
            "benchmark": "kinetics",
            "setting": f"{row.dataset}, {row.equation}",
            "method": row.method,
            "is_default": bool(row.is_default),
            "shots": int(row.shots),
            "metric": f"{row.metric} / {row.unit}" if row.unit else row.metric,
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "n_tasks": int(row.n_tasks),
            "seed": int(row.seed),
        }
        for row in scores.itertuples()
    ]


def format_table(scores: pd.DataFrame) -> str:
    """Return the printed table: a line per method, a column per number of shots."""
    lines = []
    for metric in ("rmse_mean", "rmse_median", "coverage_90"):
        block = scores[scores["metric"] == metric]
        wide = block.pivot_table(index="method", columns="shots", values="value")
        unit = block["unit"].iloc[0] if len(block) else ""
        title = f"{metric}{f' / {unit}' if unit else ''}"
        lines.append(f"{title:34s}" + "".join(f"K={k:<8d}" for k in wide.columns))
        for method in [name for name in METHODS if name in wide.index]:
            cells = "".join("-".ljust(10) if v != v else f"{v:<10.3f}" for v in wide.loc[method])
            mark = "* " if method == DEFAULT_METHOD else "  "
            lines.append(f"{mark}{method:32s}{cells}")
        lines.append("")
    return "\n".join([*lines, "* the default"])


def winners(scores: pd.DataFrame) -> dict[int, str]:
    """Return the method with the lowest mean RMSE for each number of shots."""
    block = scores[scores["metric"] == "rmse_mean"]
    best = block.loc[block.groupby("shots")["value"].idxmin()]
    return {int(row.shots): row.method for row in best.itertuples()}
