"""Calibrate a new alloy from a handful of observations."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from matml.bayes.gauss_newton import Fit
from matml.bayes.importance_sampling import Posterior, resampled, sample_posterior
from matml.bayes.likelihood import draw_noise, evaluate
from matml.bayes.posterior_mode import posterior_mode
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Tasks
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import residual_function, to_tasks
from matml.kinetics.data.columns import on_history
from matml.kinetics.data.downsample import downsample
from matml.kinetics.data.observations import Observations
from matml.kinetics.inference.calibration import Calibration
from matml.kinetics.inference.diagnostics import (
    composition_notes,
    contradiction_notes,
    correlation_notes,
    design_notes,
    exchanged_notes,
    left_out_probabilities,
    outlier_notes,
    range_notes,
    start_notes,
    unit_notes,
    unlike_notes,
    untypical_notes,
)
from matml.kinetics.inference.evidence import plateau_notes
from matml.kinetics.inference.population import Population
from matml.kinetics.inference.predict import generic_least_squares
from matml.kinetics.inference.run_offsets import (
    NO_OFFSETS,
    RunOffsets,
    append_offsets,
    offset_notes,
    with_run_numbers,
    with_run_offsets,
)

DRAWS, PROPOSALS = 1000, 16_000

ROBUST_DOF = 2.0
"""Degrees of freedom of single observations' errors where gross ones are to be expected."""

SMALLEST_EFFECTIVE_SAMPLE = 100
"""Effective draws below which the ends of a 90 % interval are noisy: five lie beyond each."""

FEWEST_EFFECTIVE = 20
"""Effective draws below which there is no 90 % interval: one lies beyond each end."""

WIDENINGS = (1.0, 1.5, 2.5, 4.0)
"""Of the normal approximation at the mode, to draw from where the draws are too few."""


def calibrate(
    population: Population,
    observations: Observations,
    alloy: str,
    seed: int,
    *,
    point_dof: float = math.inf,
    offsets: RunOffsets = NO_OFFSETS,
    judged: bool = True,
) -> Calibration:
    """Calibrate one alloy of some observations under a population.

    Parameters
    ----------
    point_dof
        Degrees of freedom of single observations' errors; `ROBUST_DOF` lets a gross one pull
        little.
    offsets
        Errors that the observations of a run share.
    judged
        Whether observations and units are judged, and generic least squares fitted beside, which
        takes three quarters of the time. The draws are the same without.

    Raises
    ------
    MatmlError
        Where the alloy is not there, or was observed in another way than the population.
    """
    if observations.kind != population.kind:
        raise MatmlError(
            f"the data are {observations.kind!r} observations, the population was learned from "
            f"{population.kind!r}; learn one from such data"
        )
    if alloy not in observations.names:
        raise MatmlError(
            f"alloy {alloy!r} has no usable observation; there are {', '.join(observations.names)}"
        )
    given, measured = observations.select([alloy]), population.observable.column
    moving = on_history(given.points)
    own = replace(given, points=downsample(given.points, measured, moving))
    plain = population.equation
    runs: list[str] = []
    if offsets:
        own, runs = with_run_numbers(own, offsets)
        population = replace(population, equation=with_run_offsets(plain, runs, offsets))
    added = population.equation.parameters[len(plain.parameters) :]
    reference, assumed = population.reference_temperature(own)
    task = to_tasks(own, population.equation, reference)
    prior = replace(population.prior.of(own.alloys, task), point_dof=point_dof)
    if added:
        prior = append_offsets(prior, len(added))
    # many observations need fewer proposals: the posterior is then nearly normal
    proposals = max(DRAWS, min(PROPOSALS, 4_000_000 // len(own.points)))
    posterior = sample_posterior(task, prior, draws=DRAWS, proposals=proposals, seed=seed)
    mode = posterior_mode(task, prior, posterior.draws, posterior.fit.position)
    least_squares = torch.full_like(mode.position[0, : len(plain.parameters)], math.nan)
    chances = np.full(len(own.points), math.nan)
    known = population.data_card
    notes = population.assumed() + range_notes(own.points, known, own.headers)
    before = float(population.prior.unlike(own.alloys, task))
    notes += unlike_notes(float(posterior.generic), before)
    if judged:
        least_squares = generic_least_squares(
            replace(task, residual=residual_function(plain, population.kind)),
            plain,
            population.observable.typical_noise,
            seed,
        ).position[0]
        chances = left_out_probabilities(task, prior, seed)
        notes += unit_notes(task, prior, measured, known, own.headers)
        notes += exchanged_notes(task, prior, own.headers)
        notes += plateau_notes(own, plain, seed)
    if not known.get("alloys"):
        bounds = torch.tensor([0.05, 0.95], dtype=torch.float64)
        drawn = posterior.draws[0].quantile(bounds, 0)
        ends = [
            (float(p.value(drawn[0, i])), float(p.value(drawn[1, i])))
            for i, p in enumerate(plain.parameters)
        ]
        notes += untypical_notes(plain, ends, own)
    notes += composition_notes(known.get("composition", {}), own.alloys)
    notes += design_notes(given.points, moving)
    if len(own.points) < len(given.points):
        notes.append(
            f"{len(given.points)} observations averaged to {len(own.points)}: neighbouring points "
            "of a record share its errors"
        )
    notes += assumed
    effective = float(posterior.effective[0])
    if effective < FEWEST_EFFECTIVE:
        posterior = redrawn(task, prior, posterior, mode, proposals, seed)
        effective = float(posterior.effective[0])
    if effective < FEWEST_EFFECTIVE:
        notes.append(
            f"intervals are those of the normal approximation at the most probable parameters, "
            f"and may be much too narrow: the {DRAWS} posterior draws counted as {effective:.0f} "
            "independent ones (often because observations contradict the population); check by "
            "--mcmc"
        )
    elif effective < SMALLEST_EFFECTIVE_SAMPLE:
        notes.append(
            f"intervals are rough: the {DRAWS} posterior draws count as {effective:.0f} "
            "independent ones (often because observations contradict the population)"
        )
    notes += contradiction_notes(own.points, population.prior.prior.noise)
    notes += offset_notes(
        [p.name for p in added],
        posterior.draws[0, :, len(plain.parameters) :],
        [p.scale for p in added],
    )
    result = Calibration(
        alloy,
        population,
        own,
        reference,
        prior,
        replace(posterior, fit=mode),
        torch.nn.functional.pad(least_squares, (0, len(added))),
        chances,
        notes,
        seed,
        population.prior.window_for(task, posterior),
        offsets,
        runs,
    )
    residuals = result.residual_table()
    result.notes += outlier_notes(residuals) + start_notes(residuals)
    result.notes += correlation_notes(population.equation.parameter_names, result.correlation())
    return result


def redrawn(
    task: Tasks, prior: TaskPriors, found: Posterior, mode: Fit, proposals: int, seed: int
) -> Posterior:
    """Return a posterior with draws anew from around its mode; one task.

    By importance from the normal approximation there, as wide as gives most effective draws; if
    these are still too few, draws from that approximation itself, with the effective number that
    was found before. Where there is none, the posterior as it is.
    """
    factor, failed = torch.linalg.cholesky_ex(mode.covariance[0])
    if failed or not torch.isfinite(factor).all():
        return found
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((1, proposals, len(factor)), generator=generator, dtype=torch.float64)
    steps, log_density = normal @ factor.mT, -normal.square().sum(-1) / 2
    best = found.effective[0].new_tensor(0.0)
    for widening in WIDENINGS:
        points = mode.position[:, None] + widening * steps
        known = evaluate(task, prior, points)
        log_weights = torch.nan_to_num(known.log_posterior - log_density, nan=-math.inf)
        importance = torch.softmax(log_weights, 1)
        effective = 1 / importance.square().sum()
        if effective > best:
            best, draws, misfits, weights = effective, points[0], known.misfits[0], importance
    if best < FEWEST_EFFECTIVE:
        draws, best = mode.position + steps[0, :DRAWS], found.effective[0]
        misfits = evaluate(task, prior, draws[None]).misfits[0]
    else:
        picks = resampled(weights, DRAWS)[0]
        draws, misfits = draws[picks], misfits[picks]
    noise = draw_noise(misfits[None], task, prior, generator)
    return replace(found, draws=draws[None], noise=noise, effective=best[None])


def calibrate_without_outliers(
    population: Population,
    observations: Observations,
    alloy: str,
    seed: int,
    *,
    point_dof: float = math.inf,
    offsets: RunOffsets = NO_OFFSETS,
) -> Calibration:
    """Calibrate one alloy, and where observations are flagged, again without them.

    At most a fifth of the observations is left out, the least probable first.
    """
    first = calibrate(population, observations, alloy, seed, point_dof=point_dof, offsets=offsets)
    table = first.residual_table()
    flagged = table[table["outlier"]].sort_values("probability")["line"].tolist()
    flagged = flagged[: len(table) // 5]
    if not flagged:
        return first
    own = observations.select([alloy])
    kept = own.keep(~own.points["line"].isin(flagged))
    again = calibrate(population, kept, alloy, seed, point_dof=point_dof, offsets=offsets)
    lines = ", ".join(str(line) for line in flagged)
    again.notes.insert(0, f"left out as improbable given the others: line(s) {lines}")
    return again


def pick_points(observations: Observations, alloy: str, count: int, seed: int) -> Observations:
    """Return `count` random observations of the alloy (all where it has fewer)."""
    own = observations.select([alloy])
    order = np.random.default_rng([seed, 8]).permutation(len(own.points))[:count]
    return own.keep(own.points.index.isin(order))


def held_out_scores(calibration: Calibration, everything: Observations) -> dict[str, Any]:
    """Return errors on the alloy's other observations: calibrated, and generic least squares."""
    own = everything.select([calibration.alloy])
    rest = own.keep(~own.points["line"].isin(calibration.observations.points["line"]))
    if rest.points.empty:
        return {}
    if calibration.offsets:
        rest, _ = with_run_numbers(rest, calibration.offsets, calibration.runs)
    equation, kind = calibration.population.equation, calibration.population.kind
    task = to_tasks(rest, equation, calibration.reference_temperature_K)
    columns = {name: column[0] for name, column in task.columns.items()}
    value, low, high = calibration.predict(columns)
    target = columns["target"].numpy()
    generic = equation.predict(kind, calibration.least_squares, columns).numpy()
    return {
        "other_observations": len(target),
        "rmse": float(np.sqrt(((value - target) ** 2).mean())),
        "rmse_least_squares_generic_start": float(np.sqrt(((generic - target) ** 2).mean())),
        "coverage_90": float(((low <= target) & (target <= high)).mean()),
        "unit": calibration.population.observable.unit,
    }
