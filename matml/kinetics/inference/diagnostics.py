"""What looks wrong with an alloy's observations, judged by the population, with the evidence."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from matml.bayes.importance_sampling import sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Columns, Tasks
from matml.kinetics.data.alloys import composition_columns
from matml.kinetics.data.columns import APART, WATCHED
from matml.kinetics.data.observations import Observations
from matml.kinetics.data.plausible import LOGARITHMS, look_exchanged
from matml.kinetics.data.units import QUANTITIES, TEMPERATURES, Unit, unit_of
from matml.kinetics.equations import Equation
from matml.kinetics.equations.form.history import NEAR, NEAR_STEP, PATH

SUSPICIOUS_LOG_RATIO = math.log(1e2)
"""Log evidence by which another unit must fit better before a mix-up is named."""

CONFUSED = ("K", "C", "F", "s", "min", "h", "K_per_s", "K_per_min", "per_s", "per_min", "um", "mm")
"""Units that are taken for one another."""

UNLIKE = 0.5
"""Probability of the generic prior from which on it is said first."""

MARGIN = 0.05
"""How far beyond the population's range observations may lie, in its width."""

LINEAR = ("temperature_K", "peak_temperature_K", "hardness_HRC", "Ms_K", "Bs_K")
"""Columns whose ranges are compared as they are; the others by their logarithm."""

OUTLIER_PROBABILITY = 0.001
"""Of an observation, given the others, below which it is flagged."""

LEAST_SHOWN = 1e-6
"""Probability of an outlier below which its size means nothing."""

MOST_LEFT_OUT = 60
"""Observations up to which each is predicted from the others."""

STRONG_CORRELATION = 0.9

WIDE = 3.0
"""Ratio of the highest and lowest temperature from which on these may be times."""

FAR_START_K = 100.0
"""Published formulas of start temperatures are right to about 20 K (standard deviation)."""

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


def unlike_notes(share: float, before: float) -> list[str]:
    """Return what to expect of an alloy that is probably unlike all that were learned from.

    `share` is the probability of that given the observations, `before` by composition and
    temperatures alone.
    """
    if share < UNLIKE:
        return []
    what = "the observations speak against the population"
    if before > 0.5:
        what = "composition or temperatures lie far outside of the population's"
    return [
        f"{what}: with a probability of {share:.2f} the "
        "alloy is unlike all that it was learned from; as far as that, the result is a fit under "
        "the equation's typical ranges alone, near to least squares"
    ]


def range_notes(points: pd.DataFrame, known: dict[str, Any], headers: dict[str, str]) -> list[str]:
    """Return a sentence for each column of an alloy's observations outside of the population's.

    Parameters
    ----------
    known
        Ranges of the population's observations, by column.
    headers
        What the file calls a column, where that differs.
    """
    notes = []
    for column in (name for name in known if name in points and name in WATCHED):
        own = points[column].dropna().to_numpy(float)
        scale = np.asarray if column in LINEAR else np.log
        low, high = scale(known[column])
        margin = MARGIN * (high - low) + 1e-9
        outside = (scale(own) < low - margin) | (scale(own) > high + margin)
        if outside.any():
            header = headers.get(column, column)
            _, unit = unit_of(header)
            notes.append(
                f"outside of what the population has seen ({_span(known[column], column)}): "
                f"{outside.sum()} of {len(own)} observations, {_span(own, column)}, read in "
                f"{unit.name} as the column {header!r} says; what is calibrated there is an "
                f"extrapolation{_inside_otherwise(own, known[column], column, unit)}"
            )
    return notes


def _inside_otherwise(own: np.ndarray, known: list[float], column: str, said: Unit) -> str:
    """Return as what all temperatures or times would lie inside of a range, as a remark.

    That is no evidence for it: an alloy of another class may lie as far off.
    """
    for name, base in LOGARITHMS.items() if column == "time_s" else ():
        with np.errstate(over="ignore"):
            changed = base ** (own / said.factor) * said.factor
        if (known[0] <= changed).all() and (changed <= known[1]).all():
            return f" (as {name} it would lie inside, {_span(changed, column)}: is it?)"
    if said not in TEMPERATURES:
        return ""
    for other in TEMPERATURES:
        changed = (own - said.offset) / said.factor * other.factor + other.offset
        if other is not said and (known[0] <= changed).all() and (changed <= known[1]).all():
            return f" (in {other.name} it would lie inside, {_span(changed, column)}: is it?)"
    return ""


def _span(values: Sequence[float] | np.ndarray, column: str) -> str:
    """Return the range of values with the quantity and its usual unit."""
    quantity, unit = unit_of(column)
    named = f"{quantity.replace('_', ' ')} {min(values):.4g} to {max(values):.4g} {unit.name}"
    return named.replace("_per_", "/")


def unit_notes(
    task: Tasks,
    priors: TaskPriors,
    measured: str,
    known: dict[str, Any],
    headers: dict[str, str],
) -> list[str]:
    """Return a warning where a column seems to be in another unit than it says.

    The evidence of the observations in the other unit, under the alloy's prior, is compared with
    their evidence as given. That prior has room for alloys unlike the population, so that these are
    not accused. Outside of the population's range nothing can be
    said of units, in either way.

    Parameters
    ----------
    task, priors
        The alloy's observations and prior (batch of one).
    measured
        Column of the measured value.
    known
        Ranges of the population's observations, by column.
    headers
        What the file calls a column, where that differs.
    """

    def inside(column: str, values: Tensor) -> bool:
        low, high = known[column]
        return bool(low <= values.median() <= high) and bool((values > 0).all())

    tried: list[Columns] = [task.columns]
    found: list[tuple[str, Unit, _Reading, float, Tensor, Tensor]] = []
    for column in (name for name in known if name in WATCHED):
        # the target is on the residual scale, which is log10 unless the column is linear
        target, log10 = column == measured, column not in LINEAR
        if not target and column not in task.columns:
            continue
        given = task.columns["target" if target else column]
        given = 10**given if target and log10 else given
        quantity, said = unit_of(headers.get(column, column))
        for reading in _readings(quantity, said, logarithms=NEAR_STEP not in task.columns):
            changed = reading.usual(given)
            if not inside(column, given) or not inside(column, changed):
                continue
            columns = dict(task.columns)
            jacobian = 0.0
            if target:
                columns["target"] = changed.log10() if log10 else changed
                # of what is measured on the residual scale, by what is given
                stretched = (
                    reading.slope(given) * given / changed if log10 else reading.slope(given)
                )
                jacobian = float(stretched.log().sum())
            else:
                columns[column] = changed
            if column == "time_s" and NEAR_STEP in columns:
                columns[NEAR_STEP] = reading.usual(columns[NEAR_STEP])
            if column == "temperature_K":
                nodes = [temperature for temperature, _ in PATH]
                for held in ("start_temperature_K", *nodes, *NEAR):
                    if held in columns:
                        columns[held] = reading.usual(columns[held])
            tried.append(columns)
            found.append((column, said, reading, jacobian, given[0], changed[0]))
    if not found:
        return []
    notes, (as_given, *so_read) = [], _log_evidences(task, priors, tried)
    for (column, said, reading, jacobian, given, changed), evidence in zip(
        found, so_read, strict=True
    ):
        if (gain := evidence + jacobian - as_given) > SUSPICIOUS_LOG_RATIO:
            notes.append(
                f"column {headers.get(column, column)!r} may hold {reading.name}, not "
                f"{said.name}: so read, the observations are e^{gain:.0f} times as probable "
                f"({_span(given.numpy(), column)} as given, "
                f"{_span(changed.numpy(), column)} so read; the population has seen "
                f"{_span(known[column], column)})"
            )
    return notes


def _log_evidences(task: Tasks, priors: TaskPriors, readings: Sequence[Columns]) -> list[float]:
    """Return the log evidence of a task's observations [1, N], read in several ways."""
    rows = torch.zeros(len(readings), dtype=torch.long)
    columns = {name: torch.cat([own[name] for own in readings]) for name in task.columns}
    whole = replace(task[rows], columns=columns)
    return sample_posterior(whole, priors[rows], draws=1).log_evidence.tolist()


@dataclass(frozen=True)
class _Reading:
    """As what else a column may be read that is called `said`: in another unit, or a logarithm."""

    name: str
    said: Unit
    other: Unit | None
    base: float = 1.0

    def usual(self, given: Tensor) -> Tensor:
        """Return numbers [...] in the usual unit, so read, of those as the column is called."""
        own = (given - self.said.offset) / self.said.factor
        if self.other is None:
            return self.base**own * self.said.factor
        return own * self.other.factor + self.other.offset

    def slope(self, given: Tensor) -> Tensor:
        """Return the derivative of `usual`."""
        if self.other is None:
            return math.log(self.base) * self.usual(given) / self.said.factor
        return torch.full_like(given, self.other.factor / self.said.factor)


def _readings(quantity: str, said: Unit, *, logarithms: bool) -> Iterator[_Reading]:
    """Yield as what else a column may be read."""
    for other in QUANTITIES[quantity]:
        if other is not said and {other.name, said.name} <= set(CONFUSED):
            yield _Reading(other.name, said, other)
    for name, base in LOGARITHMS.items() if quantity == "time" and logarithms else ():
        yield _Reading(f"{name} of {said.name}", said, None, base)


def exchanged_notes(task: Tasks, priors: TaskPriors, headers: dict[str, str]) -> list[str]:
    """Return a warning where temperatures and times seem to stand in each other's column.

    Parameters as of `unit_notes`; alloys on a ramp or path are not looked at.
    """
    kelvin, second = (task.columns.get(name) for name in ("temperature_K", "time_s"))
    if kelvin is None or second is None or "start_temperature_K" in task.columns:
        return []
    names = [headers.get(name, name) for name in ("temperature_K", "time_s")]
    (_, degree), (_, clock) = map(unit_of, names)
    warm, time = (kelvin - degree.offset) / degree.factor, second / clock.factor
    if not look_exchanged(warm[0].numpy(), time[0].numpy(), WIDE):
        return []
    other = {"temperature_K": time * degree.factor + degree.offset, "time_s": warm * clock.factor}
    if (reference := task.columns.get("reference_temperature_K")) is not None:
        # within the data where nothing else gives it
        low, high = other["temperature_K"].aminmax()
        other["reference_temperature_K"] = reference.clamp(low, high)
    given, changed = _log_evidences(task, priors, [task.columns, dict(task.columns) | other])
    if changed - given <= SUSPICIOUS_LOG_RATIO:
        return []
    return [
        f"are the columns {names[0]!r} and {names[1]!r} exchanged? Then the observations are "
        f"e^{changed - given:.0f} times as probable"
    ]


def untypical_notes(
    equation: Equation, ends: Sequence[tuple[float, float]], own: Observations
) -> list[str]:
    """Return a sentence for each parameter that lies outside of the equation's typical range.

    Where nothing else was measured, that is all that tells a column in another unit.

    Parameters
    ----------
    ends
        Of the 90 % interval of each parameter, in its unit.
    own
        Observations whose columns are named.
    """
    columns = [own.headers.get(name, name) for name in WATCHED if name in own.points]
    return [
        f"{p.name} = {low:.3g}{f' to {high:.3g}' * (low < high)} {p.unit}".rstrip()
        + f" lies outside of the equation's typical range, {p.low:g} to {p.high:g}: are the "
        f"columns {', '.join(columns)} in the units that they name?"
        for p, (low, high) in zip(equation.parameters, ends, strict=True)
        if high < p.low or low > p.high
    ]


def start_notes(residuals: pd.DataFrame) -> list[str]:
    """Return a sentence for each start temperature far from where the alloy's equation has it."""
    notes = []
    for column in (name for name in ("Ms_K", "Bs_K") if name in residuals):
        for row in residuals[residuals["residual"].abs() > FAR_START_K].to_dict("records"):
            value, off = row[column], row["residual"]
            notes.append(
                f"line {row['line']}: {column[:2]} = {value:.0f} K lies {off:+.0f} K from what "
                "composition and equation say: is it in the unit that its column names, and the "
                "composition in wt %?"
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
    after tempering never rises, and a TTT curve has one time for one fraction; a peak never comes
    earlier at a higher rate. Pairs count where
    they disagree by more than four standard deviations of their difference.

    Parameters
    ----------
    points
        Observations of one alloy.
    noise
        Standard deviation of an observation, on the residual scale.
    """
    order, keys = "time_s", ["temperature_K"]
    if "fraction" in points:
        value, keys = np.log10(points["time_s"]), ["temperature_K", "fraction"]
        what = "times at one temperature and fraction differ"
    elif "fraction_transformed" in points:
        value = points["fraction_transformed"]
        what = "the fraction falls with time"
    elif "grain_size_um" in points:
        value = np.log10(points["grain_size_um"])
        what = "the grain size falls with time (log10)"
    elif "particle_radius_nm" in points:
        value = np.log10(points["particle_radius_nm"])
        what = "the radius falls with time (log10)"
    elif "hardness_HRC" in points:
        value = -points["hardness_HRC"]
        what = "the hardness rises with time"
    elif "peak_temperature_K" in points:
        order, keys, value = "heating_rate_K_per_s", [], points["peak_temperature_K"]
        what = "the peak comes earlier at a higher heating rate"
    else:
        return []
    keys += [name for name in APART if name in points and name not in ("run", order)]
    notes = []
    table = points.assign(value=value)
    # where nothing else can differ all are one group
    for _, block in table.groupby(keys or np.zeros(len(table)), sort=False):
        block = block.sort_values(order, kind="stable")
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
            where = f" at {block['temperature_K'].iloc[0]:.0f} K" if order == "time_s" else ""
            lines = f"lines {block['line'].iloc[other]} and {block['line'].iloc[worst]}"
            notes.append(
                f"contradictory observations{where}: {what} by {drop[worst]:.3g}, "
                f"{drop[worst] / noise:.0f} noise widths ({lines})"
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
