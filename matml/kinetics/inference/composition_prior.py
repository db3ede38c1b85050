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
from matml.kinetics.data.batch import PROCESS_SCALES, Features
from matml.kinetics.equations import Equation
from matml.kinetics.inference.informative_times import Timing, timing_candidates

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

GENERIC_WIDTHS = ((4.0, 0.2), (1.0, 0.8))
"""Factors of the generic prior's covariance, with their probabilities."""

FAR, FAR_K = 2.0, 150.0
"""In roots of percent, and in K: an element, or the mean temperature of the observations, as far as
that beyond the range of the training alloys, such as 12 % of chromium where they have none to 2 %,
makes it two to one that an alloy is unlike them."""

UNLIKE_NOISE_DOF = 2.0
"""Degrees of freedom of the noise, at most, of an alloy whose composition is so far away."""

MEASURABLE = {"ttt": (-2.0, 7.0), "hardness": (-20.0, 80.0)}
"""Range of what anybody measures, on the residual scale, by kind of observation: a time of a TTT
diagram lies between 0.01 s and four months. Elsewhere equations keep to it by themselves."""


def generic_normal(equation: Equation, noise: float) -> GaussianPrior:
    """Return the prior before any alloy is seen: the equation's start and typical ranges."""
    covariance = torch.eye(len(equation.parameters), dtype=torch.float64)
    return GaussianPrior(equation.start(), covariance, noise)


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
    equation, kind
        Its typical ranges are the prior of an alloy that is unlike all that were learned from; and
        the kind of observation.
    groups
        Of composition among the training alloys: how many it was learned from independently.
    temperature_K
        Lowest and highest of their observations; None where these have none.
    """

    prior: ConditionedPrior
    features: Features
    window: tuple[float, float]
    equation: Equation
    kind: str
    groups: int
    temperature_K: tuple[float, float] | None = None

    @staticmethod
    def generic(equation: Equation, kind: str) -> "CompositionPrior":
        """Return the prior where nothing was learned: typical ranges, and a usual noise."""
        noise = equation.observable(kind).typical_noise
        normal, size = generic_normal(equation, noise), len(equation.parameters)
        nothing = normal.mean.new_zeros
        prior = ConditionedPrior(
            normal.mean,
            # the centre of a population would be as uncertain as `CENTRE_VARIANCE` says
            normal.covariance / (1 + CENTRE_VARIANCE),
            *(nothing(0, 0), nothing(0, size), nothing(0), 0.0, 1.0, GENERIC_DOF, noise),
            noise_dof=FIRST_DOF,
        )
        window = -math.inf, math.inf
        return CompositionPrior(prior, Features([], [], []), window, equation, kind, 0)

    def of(
        self, alloys: pd.DataFrame, tasks: Tasks | None = None, *, like_the_learned: bool = False
    ) -> TaskPriors:
        """Return the priors of alloys, rows of their table: what was learned, or else anything.

        `tasks` are their observations, of which only the temperatures count here.
        `like_the_learned` leaves the latter out, for an alloy of which nothing is measured: what
        to measure first is not to be led by what is improbable.
        """
        learned = self.prior.of(self.features.of(alloys))
        if like_the_learned or not len(self.prior.positions):
            return learned
        share = self.unlike(alloys, tasks)
        if (share > 0.5).all():
            learned = replace(learned, noise_dof=min(learned.noise_dof, UNLIKE_NOISE_DOF))
        generic = generic_normal(self.equation, self.prior.noise)
        return learned.with_generic(generic, share, GENERIC_WIDTHS)

    def unlike(self, alloys: pd.DataFrame, tasks: Tasks | None = None) -> Tensor:
        """Return the probability of each alloy to be unlike all that were learned from, [B].

        Before any value is measured: that of the next one after so many groups of which none was
        (Laplace's rule of succession), and more the further an element, or the temperatures of the
        observations, lie beyond their range.
        """
        share = 1 / (self.groups + 2)
        far = self._beyond(alloys) / FAR
        if self.temperature_K is not None and tasks is not None:
            low, high = self.temperature_K
            kelvin, mask = tasks.columns["temperature_K"], tasks.mask
            beyond = torch.maximum(low - kelvin, kelvin - high).clamp(min=0.0)
            far = torch.maximum(far, (mask * beyond).sum(1) / mask.sum(1).clamp(min=1) / FAR_K)
        return 1 - (1 - share) * torch.exp(-(far**4))

    def _beyond(self, alloys: pd.DataFrame) -> Tensor:
        """Return how far an element lies beyond the training alloys, in roots of percent, [B]."""
        chosen = [i for i, n in enumerate(self.features.columns) if n not in PROCESS_SCALES]
        known = self.prior.features[:, chosen]
        if not torch.isfinite(known).any():
            return torch.zeros(len(alloys), dtype=torch.float64)
        own = self.features.of(alloys)[:, chosen]
        low, high = known.nan_to_num(torch.inf).amin(0), known.nan_to_num(-torch.inf).amax(0)
        beyond = torch.maximum(low - own, own - high).clamp(min=0.0).nan_to_num(0.0)
        return (beyond * own.new_tensor(self.features.scale)[chosen]).amax(1)

    def window_for(self, tasks: Tasks, posterior: Posterior) -> tuple[Tensor, Tensor]:
        """Return the lowest and highest prediction of each alloy [B], by what was measured of it.

        An end that own observations lie beyond is none, and none holds for an alloy that is
        probably unlike all that were learned from: then it is that of what anybody measures.
        """
        target = tasks.columns["target"]
        unlike = posterior.generic > UNLIKE
        ends = []
        widest = MEASURABLE.get(self.kind, (-math.inf, math.inf))
        for end, far, sign in zip(self.window, widest, (-1.0, 1.0), strict=True):
            beyond, further = ((tasks.mask * (sign * (target - e) > 0)).any(1) for e in (end, far))
            open_end, far_end, given = target.new_tensor([sign * torch.inf, far, end])
            found = torch.where(beyond | unlike | (sign * (given - far_end) > 0), far_end, given)
            ends.append(torch.where(further, open_end, found))
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
    def from_record(
        stored: dict[str, Any], equation: Equation, kind: str, card: dict[str, Any]
    ) -> "CompositionPrior":
        """Return the prior of a record, learned with an equation from what the card says.

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
        seen = card.get("temperature_K")
        return CompositionPrior(
            prior,
            Features(columns, list(stored["feature_centre"]), list(stored["feature_scale"])),
            (low, high),
            equation,
            kind,
            int(card["composition_groups"]),
            (float(seen[0]), float(seen[1])) if seen else None,
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
    groups, seen = int(alloys["composition_group"].nunique()), None
    if "temperature_K" in tasks.columns:
        kelvin = tasks.columns["temperature_K"][tasks.mask > 0]
        seen = float(kelvin.min()), float(kelvin.max())
    return CompositionPrior(prior, features, window, equation, kind, groups, seen)


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
