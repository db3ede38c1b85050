"""Calibrate a new alloy from a handful of observations."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.posterior_mode import most_probable_of_all
from matml.core.errors import MatmlError
from matml.kinetics.data.batch import common_reference_temperature, residual_function, to_series
from matml.kinetics.data.downsample import thin
from matml.kinetics.data.observations import Observations, determined_by_design
from matml.kinetics.inference.calibration import Calibration
from matml.kinetics.inference.diagnostics import (
    composition_notes,
    contradiction_notes,
    correlation_notes,
    left_out_probabilities,
    unit_notes,
)
from matml.kinetics.inference.population import Population
from matml.kinetics.inference.predict import generic_least_squares
from matml.kinetics.inference.run_offsets import (
    NO_OFFSETS,
    RunOffsets,
    append_offsets,
    number_runs,
    offset_notes,
    with_run_offsets,
)

DRAWS, PROPOSALS = 1000, 16_000

ROBUST_DOF = 2.0
"""Degrees of freedom of single observations' errors where gross ones are to be expected."""

LEAST_SHOWN = 1e-6
"""Probability of an outlier below which its size means nothing."""

SMALLEST_EFFECTIVE_SAMPLE = 100
"""Effective draws below which the ends of a 90 % interval are noisy: five lie beyond each."""


def reference_temperature(
    population: Population, own: Observations
) -> tuple[float | None, list[str]]:
    """Return the reference temperature of an alloy's equation, and what was assumed of it."""
    if not population.equation.needs_reference_temperature:
        return None, []
    given = own.alloys["reference_temperature_K"].iloc[0]
    if given == given:
        return float(given), []
    if not population.data_card.get("reference_temperatures_given"):
        return population.reference_temperature_K, []
    middle = common_reference_temperature(own)
    return middle, [f"no reference_temperature_K given: {middle:.0f} K, the middle of the data"]


def calibrate(
    population: Population,
    observations: Observations,
    alloy: str,
    seed: int,
    *,
    point_dof: float = math.inf,
    offsets: RunOffsets = NO_OFFSETS,
) -> Calibration:
    """Calibrate one alloy of some observations under a population.

    Parameters
    ----------
    point_dof
        Degrees of freedom of single observations' errors; `ROBUST_DOF` lets a gross one pull
        little.
    offsets
        Errors that the observations of a run share.

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
    own = observations.select([alloy])
    equation = population.equation
    notes = determined_by_design(own.points)
    measured = equation.observable(population.kind).column
    thinned = thin(own.points, measured)
    if len(thinned) < len(own.points):
        notes.append(
            f"{len(own.points)} observations averaged to {len(thinned)}: neighbouring points of a "
            "record share its errors"
        )
        own.points = thinned
    reference, assumed = reference_temperature(population, own)
    notes += assumed
    prior = replace(population.experience.of(own.alloys), point_dof=point_dof)
    plain, extra, runs = equation, 0, []
    if offsets:
        runs = number_runs(own, offsets)
        equation = with_run_offsets(plain, runs, offsets)
        extra = len(equation.parameters) - len(plain.parameters)
        prior = append_offsets(prior, extra)
        population = replace(population, equation=equation)
    series = to_series(own, equation, reference)
    residual = residual_function(equation, population.kind)
    data = (series.columns, series.mask, series.known_variance)
    # many observations need fewer proposals: the posterior is then nearly normal
    proposals = max(DRAWS, min(PROPOSALS, 4_000_000 // len(own.points)))
    posterior = sample_posterior(
        residual, prior, *data, draws=DRAWS, proposals=proposals, seed=seed
    )
    mode = most_probable_of_all(residual, prior, *data, posterior)
    posterior = replace(posterior, fit=mode)
    effective = float(posterior.effective[0])
    if effective < SMALLEST_EFFECTIVE_SAMPLE:
        notes.append(
            f"intervals are rough: the {DRAWS} posterior draws count as {effective:.0f} "
            "independent ones (often observations that contradict the population)"
        )
    known = population.data_card
    ranges = {name: known[name] for name in ("temperature_K", "time_s") if name in known}
    notes += unit_notes(equation, population.kind, prior, series, ranges)
    notes += composition_notes(known.get("composition", {}), own)
    notes += contradiction_notes(own.points, population.experience.prior.noise)
    chances = left_out_probabilities(equation, population.kind, prior, series, seed)
    least_squares = generic_least_squares(plain, population.kind, series, seed).position[0]
    least_squares = torch.nn.functional.pad(least_squares, (0, extra))
    added = equation.parameters[len(plain.parameters) :]
    notes += offset_notes(
        [p.name for p in added],
        posterior.draws[0, :, posterior.draws.shape[2] - extra :],
        [p.scale for p in added],
    )
    result = Calibration(
        alloy,
        population,
        own,
        reference,
        prior,
        posterior,
        least_squares,
        chances,
        notes,
        seed,
        offsets,
        runs,
    )
    outliers = result.residual_table()
    for row in outliers[outliers["outlier"]].itertuples():
        chance = ""
        if row.probability >= 0:
            # none is impossible: 0 is what rounding leaves
            least = row.probability < LEAST_SHOWN
            share = f"less than {LEAST_SHOWN:g}" if least else f"{row.probability:.1g}"
            chance = f", {share} probable given the others"
        notes.append(
            f"line {row.line}: {row.residual_over_noise:+.1f} noise widths off the fit{chance}; "
            "check it"
        )
    notes += correlation_notes(equation.parameter_names, result.correlation())
    return result


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
    kept = observations.select([alloy])
    kept.points = kept.points[~kept.points["line"].isin(flagged)].reset_index(drop=True)
    again = calibrate(population, kept, alloy, seed, point_dof=point_dof, offsets=offsets)
    lines = ", ".join(str(line) for line in flagged)
    again.notes.insert(0, f"left out as improbable given the others: line(s) {lines}")
    return again


def pick_points(observations: Observations, alloy: str, count: int, seed: int) -> Observations:
    """Return the alloy's observations thinned to `count` random ones (all where it has fewer)."""
    own = observations.select([alloy])
    if len(own.points) > count:
        order = np.random.default_rng([seed, 8]).permutation(len(own.points))[:count]
        own.points = own.points.iloc[np.sort(order)].reset_index(drop=True)
    return own


def held_out_scores(calibration: Calibration, everything: Observations) -> dict[str, Any]:
    """Return errors on the alloy's other observations: calibrated, and generic least squares."""
    own = everything.select([calibration.alloy])
    used = set(calibration.observations.points["line"])
    rest = own.points[~own.points["line"].isin(used)].reset_index(drop=True)
    if rest.empty:
        return {}
    own.points = rest
    if calibration.offsets:
        number_runs(own, calibration.offsets, calibration.runs)
    equation, kind = calibration.population.equation, calibration.population.kind
    series = to_series(own, equation, calibration.reference_temperature_K)
    columns = {name: column[0] for name, column in series.columns.items()}
    value, low, high = calibration.predict(columns)
    target = columns["target"].numpy()
    generic = equation.predict(kind, calibration.least_squares, columns).numpy()
    return {
        "other_observations": len(target),
        "rmse": float(np.sqrt(((value - target) ** 2).mean())),
        "rmse_least_squares_generic_start": float(np.sqrt(((generic - target) ** 2).mean())),
        "coverage_90": float(((low <= target) & (target <= high)).mean()),
        "unit": equation.observable(kind).unit,
    }
