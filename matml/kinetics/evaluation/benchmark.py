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

from matml.bayes.empirical_bayes import draw_posterior, maximum_a_posteriori, predictive_variance
from matml.bayes.gauss_newton import Fit, GaussianPrior, gauss_newton, inverse_variances, linearise
from matml.bayes.importance_sampling import sample_posterior
from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.kinetics.data.batch import (
    Series,
    common_reference_temperature,
    residual_function,
    to_series,
)
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.methods import LEAST_SQUARES, MEAN
from matml.kinetics.inference.composition_prior import Experience, learn_experience
from matml.kinetics.inference.gradient_start import MetaLearned
from matml.kinetics.inference.population import learn_gaussian, learn_starts
from matml.kinetics.inference.predict import (
    generic_least_squares,
    least_squares_bounds,
    predict_draws,
)
from matml.kinetics.settings import KineticsSection

REFERENCE_METHOD = "hierarchical map"
DEFAULT_METHOD = "conditioned posterior"
METHODS = {
    MEAN: "no adaptation: mean fraction of their observations, or the curve of the population mean",
    LEAST_SQUARES: "multi-start, bounded to twice the typical ranges",
    "least squares, population mean": "the same bounds, started from the learned mean",
    "maml": "gradient steps from a meta-learned start, one rate",
    "meta_sgd": "gradient steps from a meta-learned start, a learned rate per parameter",
    REFERENCE_METHOD: "damped Gauss-Newton to the maximum a posteriori of a Gaussian prior",
    "hierarchical map, in window": "the same, cut to the range of what was ever measured",
    "hierarchical posterior": "posterior mean under that prior, importance resampling",
    "heavy-tailed posterior, no window": "Student-t population and noise per alloy",
    "heavy-tailed posterior": "the same, each draw cut to the range of what was ever measured",
    DEFAULT_METHOD: "the same, its mean over alloys a Gaussian process of the composition",
}
"""Methods by name. The default, which `calibrate` uses, is `DEFAULT_METHOD`."""

Predict: TypeAlias = Callable[[dict[str, Tensor]], tuple[Tensor, Tensor, Tensor]]
"""Columns of new observations [T, M] -> prediction, low and high end of a 90 % band, [T, M]."""


@dataclass(frozen=True)
class Learned:
    """What a fold has learned from its training alloys.

    Attributes
    ----------
    prior, starts
        For the Gaussian hierarchical methods; for MAML and Meta-SGD.
    experiences
        For the heavy-tailed ones, by method.
    widths
        90 % quantile of absolute errors on the training alloys, by method and shots.
    average
        Mean observation of the training alloys on the residual scale.
    """

    prior: GaussianPrior
    experiences: dict[str, Experience]
    starts: dict[str, MetaLearned]
    widths: dict[tuple[str, int], float]
    average: float


def learn_without(
    observations: Observations,
    equation: Equation,
    held: Sequence[str],
    settings: KineticsSection,
    seed: int,
) -> tuple[float | None, Experience]:
    """Return the reference temperature (K, where there is one) and the default population.

    Both are learned without the alloys `held`.
    """
    subset = observations.select([n for n in observations.names if n not in set(held)])
    reference = (
        common_reference_temperature(subset) if equation.needs_reference_temperature else None
    )
    training, kind = to_series(subset, equation, reference), observations.kind
    groups = int(subset.alloys["composition_group"].nunique())
    gaussian = learn_gaussian(equation, kind, training, settings.pseudo_tasks, groups)
    experience = learn_experience(
        equation,
        kind,
        training,
        gaussian.fit,
        gaussian.prior.noise,
        subset.alloys,
        settings.pseudo_tasks,
        seed,
    )
    return reference, experience


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
    method: str,
    equation: Equation,
    kind: str,
    learned: Learned,
    support: Series,
    seed: int,
    alloys: pd.DataFrame,
) -> Predict:
    """Return the method's predictions after it has seen the support of every task.

    `alloys` holds the tasks' rows of the table of alloys; only the default looks at them. The band
    is NaN where the method has none (least squares with no more points than parameters).
    """
    residual = residual_function(equation, kind)
    if method == MEAN:
        width = learned.widths.get((method, support.mask.shape[1]), torch.nan)
        return lambda columns: _unadapted(equation, kind, learned, columns, width)
    if method in learned.starts:
        position = learned.starts[method].adapt(equation, kind, support)
        width = learned.widths.get((method, support.mask.shape[1]), torch.nan)
        return _at(equation, kind, position, lambda j: j.new_full(j.shape[:2], width))
    name = method.removesuffix(", no window")
    if name in learned.experiences:
        experience = learned.experiences[name]
        posterior = sample_posterior(
            residual,
            experience.of(alloys),
            support.columns,
            support.mask,
            support.known_variance,
            seed=seed,
        )
        window = experience.window if name == method else (-torch.inf, torch.inf)
        return lambda columns: predict_draws(
            equation, kind, posterior.draws, posterior.noise, columns, seed, window
        )
    if method.startswith("hierarchical"):
        data = (support.columns, support.mask, support.known_variance)
        fit = maximum_a_posteriori(residual, learned.prior, *data)
        noise = learned.prior.noise
        if method == "hierarchical posterior":
            draws = draw_posterior(residual, fit, learned.prior, *data, seed=seed)
            return lambda columns: predict_draws(equation, kind, draws, noise, columns, seed)
        plain = _at(
            equation,
            kind,
            fit.position,
            lambda j: NORMAL_90 * predictive_variance(fit, j, noise**2).sqrt(),
        )
        if method == REFERENCE_METHOD:
            return plain
        window = learned.experiences[DEFAULT_METHOD].window
        return lambda columns: tuple(part.clamp(*window) for part in plain(columns))
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


def _unadapted(
    equation: Equation, kind: str, learned: Learned, columns: dict[str, Tensor], width: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what is predicted of any new alloy, with a band of one half width."""
    if kind == "fraction":
        # half times differ by decades: one alloy's curve says less of another than the average
        value = torch.full_like(columns["target"], learned.average)
    else:
        value = equation.predict(kind, learned.prior.mean, columns)
    return value, value - width, value + width


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
    alloys: pd.DataFrame,
    settings: KineticsSection,
    seed: int,
) -> Learned:
    """Learn priors, starts, and the starts' error widths by shots from training alloys.

    The widths (90 % quantile of absolute errors on the training alloys) give the methods without a
    posterior (MAML, Meta-SGD, the unadapted mean) a band; it is a little narrow, since the alloys
    were trained on.
    """
    groups = int(alloys["composition_group"].nunique())
    gaussian = learn_gaussian(equation, kind, training, settings.pseudo_tasks, groups)
    prior = gaussian.prior
    experiences = {
        method: learn_experience(
            equation,
            kind,
            training,
            gaussian.fit,
            prior.noise,
            alloys,
            settings.pseudo_tasks,
            seed,
            use_composition=method == DEFAULT_METHOD,
        )
        for method in ("heavy-tailed posterior", DEFAULT_METHOD)
    }
    starts = learn_starts(equation, kind, training, prior, settings, seed)
    average = float((training.mask * training.columns["target"]).sum() / training.mask.sum())
    learned = Learned(prior, experiences, starts, {}, average)
    for method in (MEAN, *starts):
        for shots in settings.shots:
            rows, picks = draw_points(training.counts().tolist(), shots, 4, seed + 1)
            if len(rows) == 0:
                continue
            support = training.points(rows, picks)
            own = alloys.iloc[rows.tolist()]
            predict = fit_method(method, equation, kind, learned, support, seed, own)
            columns, mask = queries_of(training, rows, picks)
            error = (predict(columns)[0] - columns["target"]).abs()[mask > 0]
            learned.widths[method, shots] = float(error.quantile(0.9))
    return learned


def queries_of(series: Series, rows: Tensor, picks: Tensor) -> tuple[dict[str, Tensor], Tensor]:
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
        learned = learn_fold(equation, kind, training, subset.alloys, settings, seed)
        report(f"fold {number} of {settings.folds}: learned from {len(training)} alloys")
        unseen = observations.select(held)
        series = to_series(unseen, equation, reference)
        group = observations.alloys.set_index("alloy")["composition_group"]
        for shots in settings.shots:
            rows, picks = draw_points(series.counts().tolist(), shots, settings.draws, seed)
            if len(rows) == 0:
                continue
            support = series.points(rows, picks)
            columns, mask = queries_of(series, rows, picks)
            alloys = unseen.alloys.iloc[rows.tolist()]
            for method in METHODS:
                predict = fit_method(method, equation, kind, learned, support, seed, alloys)
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
                    name = series.names[item.row]
                    records.append(
                        (method, shots, name, group[name], number, item.rmse, item.coverage)
                    )
    if not records:
        raise MatmlError(
            f"no alloy has at least {min(settings.shots) + 2} observations, which "
            f"{min(settings.shots)} shots and a query need"
        )
    return pd.DataFrame(
        records,
        columns=["method", "shots", "alloy", "composition_group", "fold", "rmse", "coverage_90"],
    )
