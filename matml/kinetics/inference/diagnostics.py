"""What looks wrong with an alloy's observations, judged by the population, with the evidence."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Columns, Tasks
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.columns import APART
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.equations.form.history import NEAR, NEAR_STEP, PATH

SUSPICIOUS_LOG_RATIO = math.log(1e2)
"""Log evidence by which changed units must fit better before a mix-up is named.

On 22 alloys of the two measured sets held out, 3, 6 or 10 points each, none was suspected wrongly;
Celsius given as kelvin was found in 36 to 91 %, hours given as seconds in 9 to 100 % (few with
hardness, where time counts by its logarithm times 0.1).
"""

UNIT_MIX_UPS = (
    ("temperature_K", lambda t: t + ZERO_CELSIUS, "temperatures look like Celsius given as kelvin"),
    ("temperature_K", lambda t: t - ZERO_CELSIUS, "temperatures look like kelvin given as Celsius"),
    ("time_s", lambda t: t * 3600, "times look like hours given as seconds"),
    ("time_s", lambda t: t * 60, "times look like minutes given as seconds"),
    ("time_s", lambda t: t / 3600, "times look like seconds that were multiplied by 3600"),
)
"""Column, what would put it right, what it would mean."""

OUTLIER_PROBABILITY = 0.001
"""Of an observation, given the others, below which it is flagged."""

LEAST_SHOWN = 1e-6
"""Probability of an outlier below which its size means nothing."""

MOST_LEFT_OUT = 60
"""Observations up to which each is predicted from the others."""

STRONG_CORRELATION = 0.9

ONE_TEMPERATURE_K, ONE_FRACTION = 2.0, 0.02
"""Ranges of observations within which nothing is learned of how things change with them."""


def design_notes(points: pd.DataFrame, moving: np.ndarray) -> list[str]:
    """Return what the design of one alloy's observations cannot determine, one sentence each.

    `moving` says which of them lie on a ramp or path.
    """
    notes = []
    count = len(points)
    if count == 1:
        notes.append(
            "one observation: it fixes one combination of parameters; the rest comes from the prior"
        )
    elif "temperature_K" in points and not moving.any():
        if np.ptp(points["temperature_K"]) <= ONE_TEMPERATURE_K:
            notes.append(
                "one temperature: how the rate depends on temperature comes from the prior alone"
            )
    elif "peak_temperature_K" in points and np.ptp(points["heating_rate_K_per_s"]) == 0:
        notes.append("one heating rate: the activation energy comes from the prior alone")
    if count > 1 and "fraction" in points and len(set(points["fraction"])) == 1:
        notes.append("one fraction: the exponent comes from the prior alone")
    if "fraction_transformed" in points:
        inside = points["fraction_transformed"].between(0.02, 0.98)
        if count > 1 and inside.all() and np.ptp(points["fraction_transformed"]) <= ONE_FRACTION:
            notes.append("one fraction: the exponent comes from the prior alone")
        if not inside.any():
            notes.append("no fraction between 0.02 and 0.98: only bounds on the time are measured")
    return notes


def unit_notes(
    task: Tasks, priors: TaskPriors, measured: str, known: dict[str, list[float]]
) -> list[str]:
    """Return a warning where kelvin and Celsius, or hours, minutes and seconds, seem mixed up.

    The evidence of the observations under the alloy's prior is compared with that of the same
    observations in changed units, which must lie inside the population's range.

    Parameters
    ----------
    task, priors
        The alloy's observations and prior (batch of one).
    measured
        Column of the measured value.
    known
        Ranges of the population's observations, by column.
    """
    measures_time = measured == "time_s"

    def evidence(columns: Columns) -> float:
        changed = replace(task, columns=columns)
        return float(sample_posterior(changed, priors, draws=1).log_evidence[0])

    def raw(columns: Columns, column: str) -> Tensor:
        if column == "time_s" and measures_time:
            return 10 ** columns["target"]
        return columns[column]

    as_given, notes = None, []
    for column, corrected, meaning in UNIT_MIX_UPS:
        if column not in known:
            continue
        given = raw(task.columns, column)
        changed = corrected(given)
        low, high = known[column]
        if not low <= float(changed.median()) <= high or (changed <= 0).any():
            continue
        if as_given is None:
            as_given = evidence(task.columns)
        columns = dict(task.columns)
        if column == "time_s" and measures_time:
            columns["target"] = changed.log10()
        else:
            columns[column] = changed
            if column == "time_s" and NEAR_STEP in columns:
                columns[NEAR_STEP] = corrected(columns[NEAR_STEP])
            if column == "temperature_K":
                nodes = [temperature for temperature, _ in PATH]
                histories = ["start_temperature_K", *nodes, *NEAR]
                columns |= {n: corrected(columns[n]) for n in histories if n in columns}
        gain = evidence(columns) - as_given
        if gain > SUSPICIOUS_LOG_RATIO:
            unit = column.rsplit("_", 1)[1]
            notes.append(
                f"{meaning}: corrected, the observations are e^{gain:.0f} times as probable under "
                f"the population ({given.min():.4g} to {given.max():.4g} {unit} given, "
                f"{changed.min():.4g} to {changed.max():.4g} {unit} corrected; learned from "
                f"{low:.4g} to {high:.4g} {unit})"
            )
    return notes


def composition_notes(known: dict[str, list[float]], alloys: pd.DataFrame) -> list[str]:
    """Return a warning for each element of an alloy outside the range of the training alloys."""
    row = alloys.iloc[0]
    notes = []
    for name in composition_columns(alloys):
        if name in known and row[name] == row[name]:
            low, high = known[name]
            margin = 0.1 * (high - low) + 1e-9
            if not low - margin <= row[name] <= high + margin:
                notes.append(
                    f"{name} = {row[name]:g} is outside the range of the training "
                    f"alloys ({low:g} to {high:g}): "
                    "the prior is an extrapolation"
                )
    return notes


def contradiction_notes(points: pd.DataFrame, noise: float) -> list[str]:
    """Return a note for pairs of observations that no curve of this kind can both meet.

    At one temperature a transformed fraction and a grain size never fall with time, a hardness
    after tempering never rises, and a TTT curve has one time for one fraction. Pairs count where
    they disagree by more than four standard deviations of their difference.

    Parameters
    ----------
    points
        Observations of one alloy.
    noise
        Standard deviation of an observation, on the residual scale.
    """
    if "fraction" in points:
        value, keys = np.log10(points["time_s"]), ["temperature_K", "fraction"]
        what = "times at one temperature and fraction differ"
    elif "fraction_transformed" in points:
        value, keys = points["fraction_transformed"], ["temperature_K"]
        what = "the fraction falls with time"
    elif "grain_size_um" in points:
        value, keys = np.log10(points["grain_size_um"]), ["temperature_K"]
        what = "the grain size falls with time (log10)"
    elif "particle_radius_nm" in points:
        value, keys = np.log10(points["particle_radius_nm"]), ["temperature_K"]
        what = "the radius falls with time (log10)"
    elif "hardness_HRC" in points:
        value, keys = -points["hardness_HRC"], ["temperature_K"]
        what = "the hardness rises with time"
    else:
        return []
    keys += [name for name in APART if name in points and name != "run"]
    notes = []
    table = points.assign(value=value)
    for _, block in table.groupby(keys, sort=False):
        block = block.sort_values("time_s", kind="stable")
        if len(block) < 2:
            continue
        highest = block["value"].cummax()
        drop = (highest - block["value"]).to_numpy()
        if "fraction" in points:
            drop = (block["value"] - block["value"].cummin()).to_numpy()
        worst = int(drop.argmax())
        if drop[worst] > 4 * math.sqrt(2) * noise:
            value = block["value"].to_numpy()
            other = int(value.argmin() if "fraction" in points else value[:worst].argmax())
            lines = f"lines {block['line'].iloc[other]} and {block['line'].iloc[worst]}"
            notes.append(
                f"contradictory observations at {block['temperature_K'].iloc[0]:.0f} K: {what} by "
                f"{drop[worst]:.3g}, {drop[worst] / noise:.0f} noise widths ({lines})"
            )
    return notes


def left_out_probabilities(task: Tasks, priors: TaskPriors, seed: int) -> np.ndarray:
    """Return each observation's two-sided tail probability given the alloy's others, [N].

    NaN where there are too many to leave each out, or only one.
    """
    (count,) = task.counts()
    if not 2 <= count <= MOST_LEFT_OUT:
        return np.full(count, np.nan)
    rows = torch.zeros(count, dtype=torch.long)
    batch = task.pick(rows, torch.arange(count).expand(count, count))
    others = batch.masked(batch.mask * (1 - torch.eye(count, dtype=batch.mask.dtype)))
    posterior = sample_posterior(others, priors[rows], seed=seed)
    own = {name: column[0, :count, None] for name, column in task.columns.items()}
    with torch.no_grad():
        error = task.residual(posterior.draws, own)
    spread = (posterior.noise.square() + task.known_variance[0, :count, None]).sqrt()
    below = torch.special.ndtr(-error / spread).mean(1)
    return (2 * torch.minimum(below, 1 - below)).numpy()


def outlier_notes(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each observation of a table of residuals that is flagged."""
    notes = []
    for row in table[table["outlier"]].to_dict("records"):
        chance = ""
        if row["probability"] >= 0:
            # none is impossible: 0 is what rounding leaves
            least = row["probability"] < LEAST_SHOWN
            said = f"less than {LEAST_SHOWN:g}" if least else f"{row['probability']:.1g}"
            chance = f", {said} probable given the others"
        far = f"{row['residual_over_noise']:+.1f} noise widths off the fit"
        notes.append(f"line {row['line']}: {far}{chance}; check it")
    return notes


def correlation_notes(names: list[str], correlation: np.ndarray) -> list[str]:
    """Return a note for each pair of parameters that the data determine only together."""
    return [
        f"{names[i]} and {names[k]} are determined together rather than singly "
        f"(correlation {correlation[i, k]:+.2f})"
        for i in range(len(names))
        for k in range(i)
        if abs(correlation[i, k]) > STRONG_CORRELATION
    ]
