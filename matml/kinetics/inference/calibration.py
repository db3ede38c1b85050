"""A calibrated alloy: its parameters, what determined them, and what it predicts."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.gauss_newton import Fit
from matml.bayes.importance_sampling import Posterior
from matml.bayes.likelihood import point_weights
from matml.bayes.task_prior import TaskPriors
from matml.core.statistics import NORMAL_90
from matml.kinetics.data.batch import other_inputs, with_alloy_inputs
from matml.kinetics.data.observations import Observations
from matml.kinetics.equations.form.history import NEAR_STEP
from matml.kinetics.inference.diagnostics import OUTLIER_PROBABILITY
from matml.kinetics.inference.population import Population
from matml.kinetics.inference.predict import NO_WINDOW, Window, predict_draws
from matml.kinetics.inference.run_offsets import NO_OFFSETS, RunOffsets, with_a_new_run

DETERMINED, PARTLY = 0.5, 2.0
"""Width from data over prior width below which data determined a parameter, or partly did."""


@dataclass
class Calibration:
    """One calibrated alloy.

    Attributes
    ----------
    alloy
        Its name.
    population
        The prior.
    observations
        What it was calibrated from: this alloy alone.
    reference_temperature_K
        Of the equation; None where it has none.
    prior
        This alloy's prior, from its composition (batch of one).
    posterior
        Draws of the standardised parameters and of the noise, and the most probable parameters
        with Laplace's covariance (batch of one).
    least_squares
        Standardised parameters of the generic least-squares fit [P].
    chances
        Tail probability of each observation given the others [N]; NaN where there are many.
    notes
        What the data could not determine, and what looks wrong.
    seed
        Of the draws.
    window
        Lowest and highest prediction, widened by the alloy's own observations.
    offsets, runs
        Of runs, and those that were observed.
    """

    alloy: str
    population: Population
    observations: Observations
    reference_temperature_K: float | None
    prior: TaskPriors
    posterior: Posterior
    least_squares: Tensor
    chances: np.ndarray
    notes: list[str]
    seed: int
    window: Window = NO_WINDOW
    offsets: RunOffsets = NO_OFFSETS
    runs: list[str] = field(default_factory=list)

    @property
    def draws(self) -> Tensor:
        """Posterior draws of the standardised parameters [S, P]."""
        return self.posterior.draws[0]

    @property
    def fit(self) -> Fit:
        """Maximum a posteriori and Laplace's covariance (batch of one)."""
        return self.posterior.fit

    @property
    def noise(self) -> float:
        """Standard deviation of an observation of this alloy: posterior median."""
        return float(self.posterior.noise.median())

    def parameters(self) -> pd.DataFrame:
        """Return one row per parameter: estimate, 90 % interval, prior, what determined it."""
        half_width = self.prior.half_width(0.9)[0]
        without = self.width_without_own_prior(half_width)
        values = self.population.equation.values(self.draws)
        least_squares = self.population.equation.values(self.least_squares)
        # what a time is of: the number beside the words
        known = "reference temperature"
        if self.reference_temperature_K is not None:
            known += f", {self.reference_temperature_K:g} K"
        rows = []
        for i, parameter in enumerate(self.population.equation.parameters):
            column = values[parameter.name]
            low, middle, high = column.quantile(column.new_tensor([0.05, 0.5, 0.95])).tolist()
            inner = self.draws[:, i].quantile(column.new_tensor([0.05, 0.95]))
            ratio = float(inner[1] - inner[0]) / float(2 * half_width[i])
            centre = self.prior.mean[0, i]
            ends = [centre + k * half_width[i] for k in (-1, 1)]
            alone = float(without[i])
            label = "data" if alone < DETERMINED else "both" if alone < PARTLY else "prior"
            rows.append(
                {
                    "parameter": parameter.name,
                    "unit": parameter.unit,
                    "most_probable": float(parameter.value(peak(self.draws[:, i]))),
                    "median": middle,
                    "low_90": low,
                    "high_90": high,
                    "prior_median": float(parameter.value(centre)),
                    "prior_low_90": float(parameter.value(ends[0])),
                    "prior_high_90": float(parameter.value(ends[1])),
                    "width_over_prior": ratio,
                    "data_over_prior": min(alone, 1e3),
                    "determined_by": label,
                    "least_squares": float(least_squares[parameter.name]),
                    "description": parameter.description.replace("reference temperature", known),
                }
            )
        return pd.DataFrame(rows)

    def width_without_own_prior(self, half_width: Tensor) -> Tensor:
        """Return each parameter's width if only the others had a prior, over its prior's, [P].

        From the data's information at the most probable parameters. It is large where a parameter
        got narrower only since others did and the population ties them together.
        """
        variance = self.noise**2 + self._known_variance()
        weights = self._point_weights(variance) / variance
        jacobian = self.fit.jacobian[0]
        information = jacobian.mT @ (weights[:, None] * jacobian)
        covariance = self.prior.covariance
        scale = (half_width / NORMAL_90 / covariance.diagonal().sqrt()).square().mean()
        covariance, size = scale * covariance, len(covariance)
        widths = []
        for i in range(size):
            others = [k for k in range(size) if k != i]
            known = torch.zeros_like(covariance)
            rows = torch.tensor(others, dtype=torch.long)
            known[rows[:, None], rows] = torch.linalg.inv(covariance[rows][:, rows])
            # a trace of prior keeps the inverse finite
            known[i, i] = 1e-8 / covariance[i, i]
            variance = torch.linalg.inv(information + known)[i, i]
            widths.append((variance / covariance[i, i]).sqrt())
        return torch.stack(widths)

    def _point_weights(self, variance: Tensor) -> Tensor:
        """Return what each observation counts, [N]: one unless errors are heavy-tailed."""
        squares = self.fit.residuals[0].square()
        return point_weights(squares, variance, self.prior.point_dof)

    def _known_variance(self) -> Tensor:
        """Return the variances that were given with the observations [N]."""
        given = self.observations.points["sigma"].fillna(0.0).to_numpy(float)
        return torch.tensor(given).square()

    def predict(self, columns: dict[str, Tensor]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return prediction, low and high of new observations (90 %) on the residual scale [M].

        Those of an observed run (`run_number`) have its offset as estimated, those of a new run
        (`len(runs)`) one from the offsets' prior, and others none.
        """
        batch = {name: column[None] for name, column in columns.items()}
        equation, draws = self.population.equation, self.posterior.draws
        if self.offsets:
            equation, draws = with_a_new_run(equation, draws, self.runs, self.offsets, self.seed)
        value, low, high = predict_draws(
            equation,
            self.population.kind,
            draws,
            self.posterior.noise,
            batch,
            self.seed,
            self.window,
        )
        return value[0].numpy(), low[0].numpy(), high[0].numpy()

    def residual_table(self) -> pd.DataFrame:
        """Return the observations with prediction, residual in noise units, and an outlier flag."""
        points = self.observations.points.drop(columns=NEAR_STEP, errors="ignore")
        noise = (self.noise**2 + points["sigma"].fillna(0) ** 2) ** 0.5
        residual = self.fit.residuals[0].numpy()
        points["residual"] = -residual
        points["residual_over_noise"] = -residual / noise
        points["probability"] = self.chances
        if math.isfinite(self.prior.point_dof):
            points["weight"] = self._point_weights(torch.from_numpy(noise.to_numpy() ** 2)).numpy()
        far = points["residual_over_noise"].abs() > 3
        points["outlier"] = np.where(
            np.isnan(self.chances), far, self.chances < OUTLIER_PROBABILITY
        )
        return points

    def correlation(self) -> np.ndarray:
        """Return posterior correlations of the parameters [P, P]."""
        size = self.draws.shape[1]
        return np.corrcoef(self.draws.T.numpy()) if size > 1 else np.ones((1, 1))

    def record(self) -> dict[str, Any]:
        """Return the calibration for its JSON."""
        table = self.residual_table()
        rmse = float(np.sqrt((table["residual"] ** 2).mean()))
        return {
            "alloy": self.alloy,
            "equation": self.population.equation.name,
            "kind": self.population.kind,
            "simulated": self.observations.simulated,
            "observations": len(table),
            "reference_temperature_K": self.reference_temperature_K,
            "parameters": self.parameters().to_dict("records"),
            "correlation": {
                "parameters": self.population.equation.parameter_names,
                "matrix": np.round(self.correlation(), 4).tolist(),
            },
            "noise": self.noise,
            "error_dof_of_points": dof if math.isfinite(dof := self.prior.point_dof) else None,
            "noise_of_population": self.population.prior.prior.noise,
            "residual_rmse": rmse,
            "unit": self.population.observable.unit,
            "outliers": int(table["outlier"].sum()),
            "converged": bool(self.fit.converged[0]),
            "effective_draws": round(float(self.posterior.effective[0]), 1),
            "notes": self.notes,
            "seed": self.seed,
        }


def peak(draws: Tensor) -> Tensor:
    """Return the most probable of draws [S] of one quantity, within its central 90 %.

    Of the quantity by itself, as its interval is: where parameters depend on each other, the most
    probable of all their combinations may lie outside the intervals of single ones. By a Gaussian
    kernel of Silverman's width (Density Estimation, 1986, equation 3.31).
    """
    low, high = draws.quantile(draws.new_tensor([0.05, 0.95]))
    inside = draws[(draws >= low) & (draws <= high)]
    quarter = draws.quantile(draws.new_tensor([0.25, 0.75]))
    width = 0.9 * torch.minimum(draws.std(), (quarter[1] - quarter[0]) / 1.34) * len(draws) ** -0.2
    if width <= 0:
        return draws.median()
    squares = ((inside[:, None] - draws) / width).square()
    return inside[torch.exp(-squares / 2).sum(1).argmax()]


def prediction_columns(
    calibration: Calibration, temperature_K: np.ndarray, **others: float | np.ndarray
) -> dict[str, Tensor]:
    """Return input columns for predictions at temperatures [M]; other inputs at their median."""
    columns = {"temperature_K": torch.from_numpy(np.asarray(temperature_K, dtype=float))}
    for name, value in others.items():
        columns[name] = torch.from_numpy(np.broadcast_to(value, temperature_K.shape).astype(float))
    observable = calibration.population.observable
    points = with_alloy_inputs(calibration.observations, observable)
    for name in other_inputs(observable):
        columns[name] = torch.full_like(columns["temperature_K"], float(points[name].median()))
    if calibration.reference_temperature_K is not None:
        columns["reference_temperature_K"] = torch.full_like(
            columns["temperature_K"], calibration.reference_temperature_K
        )
    return columns
