"""The prior of a new alloy given its composition, learned from other alloys.

`matml.bayes.task_prior` learns it from fitted alloys; here the composition becomes features, and
the noise is set by how well the other observations of a training alloy are predicted from a few of
them: observations of one alloy share errors, so that residuals of a fit to hundreds of points say
little about what a handful is worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.empirical_bayes import LearnedPrior
from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.importance_sampling import Posterior, sample_posterior
from matml.bayes.task_prior import (
    CENTRE_VARIANCE,
    ConditionedPrior,
    TaskPriors,
    learn_conditioned_prior,
)
from matml.bayes.tasks import Pointwise, Tasks
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.equations import Equation
from matml.kinetics.inference.informative_times import Timing, timing_candidates

PROCESS_SCALES = {"austenitising_temperature_C": 30.0, "grain_size_ASTM": 1.0}
"""Numeric columns besides the composition that distinguish alloys, with a small difference."""

COMPOSITION_SCALE = 0.1
"""A small difference in the root of an amount in percent.

The root, since the first tenths of a percent of an element do more than the following ones.
"""

NOISE_FACTORS = (0.25, 0.35, 0.5, 0.7, 0.85, 1.0)
NOISE_DOFS = (2.0, 4.0, 8.0, 30.0)
"""What `set_noise` tries: in pooled residuals, and degrees of freedom.

The small ones are for a pool that one misfitted alloy dominates.
"""

GENERIC_DOF = 8.0
"""Degrees of freedom of the generic prior: typical ranges are seldom left by far."""

FIRST_DOF = 4.0
"""Degrees of freedom while the first factor is chosen."""

TIMED_PARTS = (0.95,)
"""What is tried for the part of the times that follow the transformation, besides none."""

EPISODE_SHOTS, EPISODE_QUERIES = (2, 4, 8), 16


UNLIKE = 0.9
"""Probability of that from which on the window of the others holds no more."""

GENERIC_WIDTHS = ((4.0, 0.5), (1.0, 0.5))
"""Factors of the generic prior's covariance, with their probabilities."""

SHARE_INSIDE, SHARE_OUTSIDE, FAR = 0.005, 0.15, 2.0
"""Probability that an alloy is unlike all that were learned from, before any observation.

Outside where an element lies further beyond their range than they differ from each other: `FAR`,
in standard deviations.
"""


def generic_normal(equation: Equation, noise: float) -> GaussianPrior:
    """Return the prior before any alloy is seen: the equation's start and typical ranges."""
    covariance = torch.eye(len(equation.parameters), dtype=torch.float64)
    return GaussianPrior(equation.start(), covariance, noise)


@dataclass(frozen=True)
class Features:
    """How a row of the table of alloys becomes features: (root of amount - centre) / scale.

    Attributes
    ----------
    columns
        Composition and process columns of the training alloys.
    centre, scale
        Of each.
    """

    columns: list[str]
    centre: list[float]
    scale: list[float]

    def of(self, alloys: pd.DataFrame) -> Tensor:
        """Return features [B, F] of alloys.

        An amount that is not given counts as zero where others are; an alloy without any
        composition has NaN throughout. A process value that is not given is the average.
        """
        table = alloys.reindex(columns=self.columns)
        values = _transformed(table)
        amounts = np.array([name not in PROCESS_SCALES for name in self.columns], dtype=bool)
        nothing = np.isnan(values[:, amounts]).all(1) if amounts.any() else np.zeros(0, dtype=bool)
        values = np.where(np.isnan(values) & amounts, 0.0, values)
        features = (values - np.array(self.centre)) / np.array(self.scale)
        features = np.where(np.isnan(features), 0.0, features)
        if amounts.any():
            features[nothing] = np.nan
        return torch.from_numpy(features.reshape(len(alloys), len(self.columns)))

    @staticmethod
    def learn(alloys: pd.DataFrame) -> "Features":
        """Return the features of training alloys: columns that differ among them."""
        candidates = [n for n in [*composition_columns(alloys), *PROCESS_SCALES] if n in alloys]
        numbers = alloys[candidates].apply(pd.to_numeric, errors="coerce")
        names = numbers.columns[numbers.max() > numbers.min()].tolist()
        values = _transformed(alloys[names])
        amounts = np.array([name not in PROCESS_SCALES for name in names], dtype=bool)
        values = np.where(np.isnan(values) & amounts, 0.0, values)
        least = [PROCESS_SCALES.get(name, COMPOSITION_SCALE) for name in names]
        return Features(
            names,
            np.nanmean(values, axis=0).tolist() if names else [],
            np.maximum(np.nanstd(values, axis=0), least).tolist() if names else [],
        )


def _transformed(table: pd.DataFrame) -> np.ndarray:
    """Return the columns as numbers, amounts by their root, [B, F]."""
    numbers = table.apply(pd.to_numeric, errors="coerce")
    values = np.array(numbers, dtype=float).reshape(table.shape)
    for i, name in enumerate(table.columns):
        if name not in PROCESS_SCALES:
            values[:, i] = np.sqrt(np.maximum(values[:, i], 0.0))
    return values


@dataclass(frozen=True)
class CompositionPrior:
    """The learned prior over alloys: what `calibrate` uses.

    Attributes
    ----------
    prior
        Over standardised parameters, given features.
    features
        Of the table of alloys.
    window
        Range of what was ever measured, on the residual scale: a measurement lies on the axis of a
        diagram or scale, however far the equation runs beyond it.
    equation
        Its typical ranges are the prior of an alloy that is unlike all that were learned from.
    """

    prior: ConditionedPrior
    features: Features
    window: tuple[float, float]
    equation: Equation

    @staticmethod
    def generic(equation: Equation, noise: float) -> "CompositionPrior":
        """Return the prior where nothing was learned: typical ranges, and a usual noise."""
        normal, size = generic_normal(equation, noise), len(equation.parameters)
        nothing = normal.mean.new_zeros
        prior = ConditionedPrior(
            normal.mean,
            # the centre of a population would be as uncertain as `CENTRE_VARIANCE` says
            normal.covariance / (1 + CENTRE_VARIANCE),
            *(nothing(0, 0), nothing(0, size), nothing(0), 0.0, 1.0, GENERIC_DOF, noise),
            noise_dof=FIRST_DOF,
        )
        return CompositionPrior(prior, Features([], [], []), (-math.inf, math.inf), equation)

    def of(self, alloys: pd.DataFrame, *, like_the_learned: bool = False) -> TaskPriors:
        """Return the priors of alloys, rows of their table: what was learned, or else anything.

        `like_the_learned` leaves the latter out, for an alloy of which nothing is measured: what
        to measure first is not to be led by what is improbable.
        """
        learned = self.prior.of(self.features.of(alloys))
        if like_the_learned or not len(self.prior.positions):
            return learned
        features, known = self.features.of(alloys), self.prior.features
        share = torch.full((len(alloys),), SHARE_INSIDE, dtype=torch.float64)
        if known.shape[1]:
            low, high = known.nan_to_num(torch.inf).amin(0), known.nan_to_num(-torch.inf).amax(0)
            far = (features < low - FAR) | (features > high + FAR)
            share[far.any(1)] = SHARE_OUTSIDE
        generic = generic_normal(self.equation, self.prior.noise)
        return learned.with_generic(generic, share, GENERIC_WIDTHS)

    def window_for(self, tasks: Tasks, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest prediction of each alloy [B], by what was measured of it.

        An end that own observations lie beyond is none, and none holds for an alloy that is
        probably unlike all that were learned from.
        """
        target = tasks.columns["target"]
        unlike = posterior.generic > UNLIKE
        ends = []
        for end, sign in zip(self.window, (-1.0, 1.0), strict=True):
            beyond = (tasks.mask * (sign * (target - end) > 0)).any(1) | unlike
            open_end, given = target.new_tensor([sign * torch.inf, end])
            ends.append(torch.where(beyond, open_end, given))
        return ends[0], ends[1]

    def to_record(self) -> dict[str, Any]:
        """Return what `from_record` reads."""
        p, timing = self.prior, None
        if isinstance(p.log_design, Timing):
            timing = {"informative": p.log_design.informative, "span": p.log_design.span}
        return {
            "centre": p.centre.tolist(),
            "covariance": p.covariance.tolist(),
            "amplitude": p.amplitude,
            "length": p.length,
            "dof": p.dof,
            "noise": p.noise,
            "noise_dof": p.noise_dof,
            "feature_columns": self.features.columns,
            "feature_centre": self.features.centre,
            "feature_scale": self.features.scale,
            "alloy_features": [
                [None if value != value else value for value in row] for row in p.features.tolist()
            ],
            "alloy_positions": p.positions.tolist(),
            "alloy_weights": p.weights.tolist(),
            "window": list(self.window),
            "timing": timing,
        }

    @staticmethod
    def from_record(stored: dict[str, Any], equation: Equation) -> "CompositionPrior":
        """Return the prior of a record, learned with an equation.

        Raises
        ------
        KeyError, TypeError, ValueError
            Where the record is damaged.
        """

        def tensor(name: str) -> Tensor:
            return torch.tensor(stored[name], dtype=torch.float64)

        columns = list(stored["feature_columns"])
        rows = [
            [np.nan if value is None else float(value) for value in row]
            for row in stored["alloy_features"]
        ]
        features = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(columns))
        timing = stored.get("timing")
        prior = ConditionedPrior(
            tensor("centre"),
            tensor("covariance"),
            features,
            tensor("alloy_positions"),
            tensor("alloy_weights"),
            float(stored["amplitude"]),
            float(stored["length"]),
            float(stored["dof"]),
            float(stored["noise"]),
            float(stored["noise_dof"]),
            log_design=Timing(equation, float(timing["informative"]), float(timing["span"]))
            if timing
            else None,
        )
        size = len(equation.parameters)
        numbers = prior.centre, prior.covariance, prior.positions, prior.weights
        if not all(bool(torch.isfinite(part).all()) for part in numbers):
            raise ValueError("centre, covariance, alloy_positions or alloy_weights are not finite")
        if not len(columns) == len(stored["feature_centre"]) == len(stored["feature_scale"]):
            raise ValueError("feature_columns, feature_centre and feature_scale do not fit")
        shapes = [part.shape for part in numbers]
        if shapes != [(size,), (size, size), (len(rows), size), (len(rows),)]:
            raise ValueError("centre, covariance, alloy_positions or alloy_weights do not fit")
        positive = prior.noise, prior.noise_dof, prior.dof, prior.length
        if not all(value > 0 for value in positive) or (prior.weights <= 0).any():
            raise ValueError("noise, noise_dof, dof, length and alloy_weights are positive")
        if not prior.amplitude >= 0:
            raise ValueError("the amplitude is negative")
        if torch.linalg.eigvalsh(prior.covariance)[0] <= 0:
            raise ValueError("the covariance is not positive definite")
        low, high = (float(end) for end in stored["window"])
        return CompositionPrior(
            prior,
            Features(columns, list(stored["feature_centre"]), list(stored["feature_scale"])),
            (low, high),
            equation,
        )


def learn_composition_prior(
    equation: Equation,
    kind: str,
    tasks: Tasks,
    fitted: LearnedPrior,
    alloys: pd.DataFrame,
    pseudo_tasks: float,
    seed: int,
    *,
    use_composition: bool = True,
) -> CompositionPrior:
    """Return the prior learned from fitted alloys.

    Parameters
    ----------
    tasks, fitted
        Training alloys, and their fit under a common Gaussian prior with its noise.
    alloys
        Their rows in the table of alloys.
    pseudo_tasks
        Weight of the generic covariance, in alloys.
    use_composition
        Without it the prior has heavy tails but one centre for all alloys.
    """
    features = Features.learn(alloys if use_composition else alloys[["alloy"]])
    prior, training = learn_conditioned_prior(
        fitted.fit.position,
        fitted.fit.covariance,
        features.of(alloys),
        alloys["composition_group"].tolist(),
        fitted.prior.noise,
        pseudo_tasks=pseudo_tasks,
    )
    designs = timing_candidates(equation, kind, tasks, TIMED_PARTS)
    training = set_noise(tasks, training, designs, seed)
    noise = training.noise
    measured = tasks.columns["target"][tasks.mask > 0]
    window = (float(measured.min()) - 2 * noise, float(measured.max()) + 2 * noise)
    prior = replace(
        prior, noise=noise, noise_dof=training.noise_dof, log_design=training.log_design
    )
    return CompositionPrior(prior, features, window, equation)


def set_noise(
    tasks: Tasks, training: TaskPriors, designs: Sequence[Pointwise | None], seed: int
) -> TaskPriors:
    """Return the priors with the best noise, its degrees of freedom and use of the times.

    Best by the mean log predictive density of up to 16 observations of each training alloy, given
    a few others and the alloy's prior predicted from other groups.

    Parameters
    ----------
    designs
        Candidates for what observation times say about a task (`TaskPriors.log_design`).
    """
    rows, support, query = _episodes(tasks, seed)
    if len(rows) == 0:
        return training
    inputs = {name: column[:, None] for name, column in query.columns.items()}

    def with_noise(tried: TaskPriors, factor: float, dof: float) -> TaskPriors:
        return replace(tried, noise=factor * training.noise, noise_dof=dof)

    def score(tried: TaskPriors) -> float:
        posterior = sample_posterior(support, tried[rows], draws=100, proposals=600, seed=seed)
        variance = posterior.noise[:, :, None].square() + query.known_variance[:, None]
        with torch.no_grad():
            error = query.residual(posterior.draws[:, :, None], inputs).square() / variance
        density = torch.logsumexp(-(error + variance.log()) / 2, 1)
        return float(((query.mask * density).sum(1) / query.mask.sum(1)).mean())

    # one after the other: they hardly depend on each other
    best = training
    if len(designs) > 1:
        tried = [with_noise(replace(training, log_design=d), 1.0, FIRST_DOF) for d in designs]
        best = max(tried, key=score)

    @cache  # some pairs come up twice
    def density(factor: float, dof: float) -> float:
        return score(with_noise(best, factor, dof))

    factor = max(NOISE_FACTORS, key=lambda tried: density(tried, FIRST_DOF))
    dof = max(NOISE_DOFS, key=lambda tried: density(factor, tried))
    factor = max(NOISE_FACTORS, key=lambda tried: density(tried, dof))
    return with_noise(best, factor, dof)


def _episodes(tasks: Tasks, seed: int) -> tuple[Tensor, Tasks, Tasks]:
    """Return (alloy of each episode, support, query); alloys with too few points are left out.

    One batch: supports of fewer than the most shots are masked.
    """
    generator = np.random.default_rng([seed, 11])
    most = max(EPISODE_SHOTS)
    width = min(most + EPISODE_QUERIES, tasks.mask.shape[1])
    rows, picks, used = [], [], []
    for row, count in enumerate(tasks.counts()):
        for shots in EPISODE_SHOTS:
            if count >= shots + 4:
                # padding follows an alloy's own observations, so that the order holds both
                others = np.arange(count, tasks.mask.shape[1])
                rows.append(row)
                picks.append(np.concatenate([generator.permutation(count), others])[:width])
                used.append(np.arange(width) < shots)
    index = torch.tensor(rows, dtype=torch.long)
    if not rows:
        return index, tasks, tasks
    picked, in_support = (torch.from_numpy(np.stack(table)) for table in (picks, used))
    query = tasks.pick(index, picked)
    support = tasks.pick(index, picked[:, :most]).masked(in_support[:, :most].to(query.mask))
    return index, support, query.masked(query.mask * (1 - in_support.to(query.mask)))
