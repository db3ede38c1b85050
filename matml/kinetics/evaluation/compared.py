"""What the compared methods do: each sees the supports of tasks and predicts the rest."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from matml.bayes.empirical_bayes import maximum_a_posteriori, predictive_variance
from matml.bayes.gauss_newton import Fit, GaussianPrior, gauss_newton
from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Columns, Tasks, linearise
from matml.core.statistics import NORMAL_90
from matml.kinetics.equations import Equation
from matml.kinetics.evaluation.gradient_start import MetaLearned
from matml.kinetics.evaluation.methods import (
    DEFAULT,
    GRADIENT_METHODS,
    HEAVY_TAILED,
    LEAST_SQUARES,
    LEAST_SQUARES_FROM_MEAN,
    MEAN,
    REFERENCE,
)
from matml.kinetics.inference.composition_prior import CompositionPrior
from matml.kinetics.inference.predict import (
    NO_WINDOW,
    generic_least_squares,
    least_squares_bounds,
    predict_draws,
)

Band: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Prediction, low and high end of a 90 % band, each [T, M]."""

Predict: TypeAlias = Callable[[Columns], Band]
"""Columns of new observations [T, M] -> their band, NaN where a method has none."""


@dataclass(frozen=True)
class Fold:
    """What is learned from the training alloys of a fold.

    Attributes
    ----------
    equation, kind
        Equation and kind of observation.
    gaussian
        For the methods under a common Gaussian prior.
    heavy_tailed
        Priors of the heavy-tailed methods, by method.
    starts
        Of `GRADIENT_METHODS`, by method.
    average
        Mean observation on the residual scale.
    widths
        Half width of the band of methods without a posterior, by method and shots.
    """

    equation: Equation
    kind: str
    gaussian: GaussianPrior
    heavy_tailed: dict[str, CompositionPrior]
    starts: dict[str, MetaLearned]
    average: float
    widths: dict[tuple[str, int], float] = field(default_factory=dict)

    def predict(self, position: Tensor, columns: Columns) -> Tensor:
        """Return predictions on the residual scale at parameters [..., P]."""
        return self.equation.predict(self.kind, position, columns)

    def width(self, method: str, support: Tasks) -> float:
        """Return the half width of a method's band; NaN before it is known."""
        return self.widths.get((method, support.mask.shape[1]), torch.nan)

    def around(self, position: Tensor, half: Callable[[Tensor], Tensor]) -> Predict:
        """Return predictions at parameters [T, P], half a band wide as the Jacobian says."""

        def predict(columns: Columns) -> Band:
            value, jacobian = linearise(self.predict, position, columns)
            width = half(jacobian)
            return value, value - width, value + width

        return predict


class FitMethod(Protocol):
    """`fit(fold, support, alloys, seed)`: what a method predicts after it has seen supports.

    `alloys` are the tasks' rows of the table of alloys.
    """

    def __call__(  # noqa: D102
        self, fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int
    ) -> Predict: ...


def _unadapted(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """No adaptation: the mean observation, or the curve of the population mean."""
    width = fold.width(MEAN, support)

    def predict(columns: Columns) -> Band:
        if fold.kind == "fraction":
            # half times differ by decades: one alloy's curve says less of another than the average
            value = torch.full_like(columns["target"], fold.average)
        else:
            value = fold.predict(fold.gaussian.mean, columns)
        return value, value - width, value + width

    return predict


def _generic(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """Least squares from many starts, bounded to twice the typical ranges."""
    noise = fold.equation.observable(fold.kind).typical_noise
    fit = generic_least_squares(support, fold.equation, noise, seed)
    return fold.around(fit.position, _student(fit, support, noise))


def _from_mean(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """Least squares in the same bounds, started from the population mean."""
    noise = fold.equation.observable(fold.kind).typical_noise
    bounds = least_squares_bounds(fold.equation)
    weights = support.weights(noise)
    fit = gauss_newton(support.linearise, fold.gaussian.mean, weights, bounds=bounds)
    return fold.around(fit.position, _student(fit, support, noise))


def _student(fit: Fit, support: Tasks, noise: float) -> Callable[[Tensor], Tensor]:
    """Return the textbook half width of a prediction from nonlinear least squares (Student t).

    NaN with no more points than parameters.
    """
    weights, dof = support.weights(noise), support.mask.shape[1] - fit.position.shape[1]

    def half(jacobian: Tensor) -> Tensor:
        if dof <= 0:
            return jacobian.new_full(jacobian.shape[:2], torch.nan)
        variance = (weights * fit.residuals.square()).sum(1) / dof
        total = predictive_variance(fit, jacobian) + noise**2
        return stats.t.ppf(0.95, dof) * (variance[:, None] * total).sqrt()

    return half


def _gradient_steps(method: str) -> FitMethod:
    """Gradient steps from a meta-learned start."""

    def fit(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
        position = fold.starts[method].adapt(fold.equation, fold.kind, support)
        width = fold.width(method, support)
        return fold.around(position, lambda j: j.new_full(j.shape[:2], width))

    return fit


def _map(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """The most probable parameters under a Gaussian prior, by damped Gauss-Newton."""
    fit = maximum_a_posteriori(support, fold.gaussian)
    noise = fold.gaussian.noise
    return fold.around(
        fit.position, lambda j: NORMAL_90 * (predictive_variance(fit, j) + noise**2).sqrt()
    )


def _map_in_window(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """The same, cut to the range of what was ever measured."""
    predict, window = _map(fold, support, alloys, seed), fold.heavy_tailed[DEFAULT].window

    def cut(columns: Columns) -> Band:
        value, low, high = predict(columns)
        return value.clamp(*window), low.clamp(*window), high.clamp(*window)

    return cut


def _gaussian_posterior(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
    """The posterior mean under that prior."""
    posterior = sample_posterior(support, TaskPriors.normal(fold.gaussian, len(support)), seed=seed)
    return lambda columns: predict_draws(
        fold.equation, fold.kind, posterior.draws, fold.gaussian.noise, columns, seed
    )


def _posterior(prior_of: str, *, in_window: bool = True) -> FitMethod:
    """The posterior mean under a heavy-tailed prior, perhaps cut to what was ever measured."""

    def fit(fold: Fold, support: Tasks, alloys: pd.DataFrame, seed: int) -> Predict:
        prior = fold.heavy_tailed[prior_of]
        posterior = sample_posterior(support, prior.of(alloys, support), seed=seed)
        window = prior.window_for(support, posterior) if in_window else NO_WINDOW
        return lambda columns: predict_draws(
            fold.equation, fold.kind, posterior.draws, posterior.noise, columns, seed, window
        )

    return fit


METHODS: dict[str, FitMethod] = {
    MEAN: _unadapted,
    LEAST_SQUARES: _generic,
    LEAST_SQUARES_FROM_MEAN: _from_mean,
    **{name: _gradient_steps(name) for name in GRADIENT_METHODS},
    REFERENCE: _map,
    f"{REFERENCE}, in window": _map_in_window,
    "hierarchical posterior": _gaussian_posterior,
    f"{HEAVY_TAILED}, no window": _posterior(HEAVY_TAILED, in_window=False),
    HEAVY_TAILED: _posterior(HEAVY_TAILED),
    DEFAULT: _posterior(DEFAULT),
}
"""By name, in the order of the tables."""
