"""Observations from records: a dilatometer's length, a calorimeter's heat flow to fractions.

What was measured becomes a fraction by `signals`; every baseline that this rests on is returned
with it, since the fractions are only as good as these lines.
"""

from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.kinetics.data.units import ZERO_CELSIUS
from matml.kinetics.instruments.records import (
    Range,
    Record,
    hold_temperature,
    hold_times,
    passage,
    ramp_segment,
    steady_rate,
)
from matml.kinetics.instruments.segments import HOLD
from matml.kinetics.instruments.signals import (
    CARBON_SOURCE,
    baseline,
    feet_on_a_flank,
    ferrite_lever,
    lever_rule,
    noise_of,
    partial_area,
    stages,
)

UNFINISHED = 0.02
"""Part of all change in the last tenth of a hold from which on it is said to go on."""
ROOM_BEHIND = 0.02
"""Part of a peak's time that a record must go on behind it, to show that it had ended."""
AREA = 4.0
"""Standard deviations of what noise makes of none that a peak's area must have."""


def dilatometer_ramp(
    record: Record,
    parent_K: Range,
    product_K: Range,
    own_path: bool = False,
    carbon_wt_pct: float | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by the lever rule, and the baselines they rest on.

    Parameters
    ----------
    parent_K, product_K
        Temperatures between which the length is that of the parent (product) alone. The reaction
        is counted from the end of the parent's.
    own_path
        Take the record's own temperatures, at any rate, for the history; here and below.
    carbon_wt_pct
        Of a steel whose ferrite leaves all carbon to the austenite (`signals.ferrite_lever`).
    """
    heating = np.mean(product_K) > np.mean(parent_K)
    start, end = (parent_K[1], product_K[0]) if heating else (parent_K[0], product_K[1])
    if (end <= start) if heating else (end >= start):
        raise MatmlError(
            f"{record.path}: the ranges of parent ({parent_K[0]:g} to {parent_K[1]:g} K) and "
            f"product ({product_K[0]:g} to {product_K[1]:g} K) overlap"
        )
    segment, _ = ramp_segment(record, (start, end))
    own = record.part(segment.rows)
    part, rate = _passed(own, start, end, own_path)
    # the same temperatures are passed on the way there and back, in other phases
    parent = baseline(own.temperature_K, own.signal, *parent_K)
    product = baseline(own.temperature_K, own.signal, *product_K)
    fraction = lever_rule(part.temperature_K, part.signal, parent, product)
    stated = {
        "segment": record.told(segment),
        "parent_baseline": _line(parent, parent_K),
        "product_baseline": _line(product, product_K),
    }
    if carbon_wt_pct is not None:
        fraction = fraction * ferrite_lever(part.temperature_K, carbon_wt_pct)
        stated["carbon_in_austenite"] = {"carbon_wt_pct": carbon_wt_pct, "source": CARBON_SOURCE}
    _say_stages(record, part, fraction)
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def dilatometer_hold(
    record: Record,
    hold_s: Range | None,
    parent_K: Range | None,
    product_K: Range | None,
    own_path: bool = False,
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by the lever rule, and the lines they rest on.

    Parameters
    ----------
    hold_s
        Times between which the specimen is held; the reaction is counted from the first. By
        default those of the segment chosen.
    parent_K, product_K
        Temperatures right before and after the hold whose lengths are the baselines. Without them
        the length at the start is the parent's and the length at the end the product's, so that
        the reaction is taken to begin and to end with the hold.
    final_fraction
        Transformed at the end of the hold, where the length there is taken.
    """
    hold_s = hold_times(record, hold_s)
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    few = max(1, len(part.signal) // 100)
    lines: list[tuple[float, float]] = []
    stated: dict[str, Any] = {}
    ends = (part.signal[:few].mean(), part.signal[-few:].mean())
    if product_K is None:
        late = part.signal[-max(few, len(part.signal) // 10) :][:few].mean()
        change = abs(ends[1] - late) / (abs(ends[1] - ends[0]) or 1.0)
        if change > UNFINISHED and final_fraction == 1.0:
            record.notes.append(
                f"unfinished: {100 * change:.0f} % of all change is in the last tenth of the hold, "
                "and its end is taken for all transformed; give --final-fraction or --product"
            )
        stated["final_fraction"] = final_fraction
    for name, given, level, where in zip(
        ("parent", "product"), (parent_K, product_K), ends, _beside(record, hold_s), strict=True
    ):
        if given is None:
            lines.append((float(level), 0.0))
            which = "start" if name == "parent" else "end"
            stated[f"{name}_baseline"] = {
                "length": float(level),
                "from": f"mean of {few} row(s) at the {which} of the hold",
            }
        else:
            line = baseline(record.temperature_K[where], record.signal[where], *given)
            lines.append(line)
            stated[f"{name}_baseline"] = _line(line, given)
    parent, product = lines
    fraction = lever_rule(part.temperature_K, part.signal, parent, product)
    if product_K is None:
        fraction = fraction * final_fraction
    _say_stages(record, part, fraction)
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | stated


def _beside(record: Record, hold_s: Range) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows lie right before and right after a hold: in the segments next to it.

    On the way to the temperature of an earlier segment the specimen may have been of other phases.
    """
    rows = np.arange(len(record.time_s))
    first, last = np.searchsorted(record.time_s, hold_s)
    begins = [s.first for s in record.segments if s.first < first and s.kind != HOLD]
    ends = [s.last for s in record.segments if s.last > last and s.kind != HOLD]
    start, end = max(begins, default=0), min(ends, default=len(rows) - 1)
    return (rows >= start) & (rows < first), (rows > last) & (rows <= end)


def calorimeter_ramp(
    record: Record,
    peak_K: Range,
    own_path: bool = False,
    kind: str = "straight",
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a ramp by partial areas between the feet of the peak.

    Parameters
    ----------
    peak_K
        Temperatures of the feet; the reaction is counted from the first that is passed.
    kind
        Of baseline (`signals.partial_area`).
    final_fraction
        Transformed at the end of the peak.
    """
    segment, (start, end) = ramp_segment(record, peak_K, (peak_K[1], peak_K[0]))
    own = record.part(segment.rows)
    part, rate = _passed(own, start, end, own_path)
    fraction, stated = _areas(record, own, part, kind, final_fraction, "--peak")
    steep = feet_on_a_flank(own.time_s, own.signal, part.time_s[0], part.time_s[-1])
    if steep:
        kelvin = np.interp(steep, part.time_s, part.temperature_K)
        record.notes.append(
            f"a peak is cut: at {' and '.join(map(record.shown, kelvin))} the heat flow crosses "
            "the baseline steeply, as on a flank, and the part within --peak is taken for all; "
            "widen the range to the feet, unless two reactions meet there"
        )
    stated |= {"segment": record.told(segment), "peak_K": [start, end]}
    return _ramp(part, start, rate, fraction), {"rate_K_s": rate, "start_K": start} | stated


def calorimeter_hold(
    record: Record,
    hold_s: Range | None,
    own_path: bool = False,
    kind: str = "straight",
    final_fraction: float = 1.0,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return observations of a hold by partial areas between its ends."""
    hold_s = hold_times(record, hold_s)
    part = record.between(*hold_s)
    kelvin = None if own_path else hold_temperature(part)
    fraction, stated = _areas(record, record, part, kind, final_fraction, "--hold")
    return _hold(part, kelvin, hold_s[0], fraction), {"temperature_K": kelvin} | stated


def _areas(
    record: Record, own: Record, part: Record, kind: str, final_fraction: float, option: str
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the fractions of a peak in a part of a segment, and what they rest on.

    Raises
    ------
    MatmlError
        Where the area is not above what the noise makes of none; the option gave the range.
    """
    feet = float(part.time_s[0]), float(part.time_s[-1])
    fraction, under = partial_area(own.time_s, own.signal, *feet, kind)
    inside = (own.time_s >= feet[0]) & (own.time_s <= feet[1])
    fraction, above = final_fraction * fraction[inside], (own.signal - under)[inside]
    area = float(((above[1:] + above[:-1]) / 2 * np.diff(part.time_s)).sum())
    # the noise of both feet moves all of the baseline
    by_noise = AREA * noise_of(part.signal) * (0.5 + 1 / len(above)) ** 0.5 * (feet[1] - feet[0])
    if abs(area) <= by_noise:
        units = record.temperature_unit.name, record.time_unit.name
        kelvin = [record.shown(float(f(record.temperature_K))) for f in (np.min, np.max)]
        raise MatmlError(
            f"{record.path}: no peak between {record.shown(part.temperature_K[0])} "
            f"({feet[0]:.5g} s) and {record.shown(part.temperature_K[-1])} ({feet[1]:.5g} s): its "
            f"area, {abs(area):.3g}, is not above the {by_noise:.3g} that noise makes; {option} is "
            f"read in {units[option == '--hold']}, as the file has it, and its temperatures go "
            f"from {kelvin[0]} to {kelvin[1]}"
        )
    if own.time_s[-1] - feet[1] < ROOM_BEHIND * (feet[1] - feet[0]) and final_fraction == 1.0:
        record.notes.append(
            "the record ends with the peak: nothing shows that the reaction had ended; where it "
            "had not, give --final-fraction"
        )
    _say_stages(record, part, fraction)
    stated = {
        "baseline": {
            "kind": kind,
            "between_s": list(feet),
            "levels": under[inside][[0, -1]].tolist(),
        },
        "final_fraction": final_fraction,
        "peak_area_signal_s": area,
    }
    return fraction, stated


def _say_stages(record: Record, part: Record, fraction: np.ndarray) -> None:
    """Note where the rate has several maxima: one equation would mix several reactions."""
    found = stages(part.time_s, fraction)
    if len(found) > 1:
        kelvin = np.interp(found, part.time_s, part.temperature_K)
        places = " and ".join(
            f"{record.shown(there)} ({time:.4g} s)"
            for there, time in zip(kelvin, found, strict=True)
        )
        record.notes.append(
            f"overlapping reactions: the rate has {len(found)} maxima, at {places}; one equation "
            "mixes them: narrow the range to one, or calibrate them apart"
        )


def observations_of(
    table: pd.DataFrame, alloy: str, run: str, most: int
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return one record's observations for the tidy CSV, at most so many, and what was counted.

    Rows outside the baselines, and those before anything or after everything has happened, are
    left out. The others are averaged in equal steps of the fraction: within one, the curve is
    nearly straight, and neighbouring rows share their errors.
    """
    inside = table["fraction_transformed"].notna() & (table["time_s"] > 0)
    kept = table[inside]
    value = kept["fraction_transformed"].to_numpy()
    busy = np.flatnonzero((value > 0.005) & (value < 0.995))
    if len(busy) < 5:
        raise MatmlError(
            f"{run}: {len(busy)} row(s) with a fraction between 0.005 and 0.995; look at the "
            "ranges of the baselines or of the peak"
        )
    kept = kept.iloc[busy[0] : busy[-1] + 1].assign(log_time=lambda rows: np.log(rows["time_s"]))
    step = np.floor(kept["fraction_transformed"] * most * (1 - 1e-9))
    thinned = kept.groupby(step).mean().reset_index(drop=True)
    thinned["time_s"] = np.exp(thinned["log_time"])
    shown = pd.DataFrame({"alloy": alloy, "run": run}, index=range(len(thinned)))
    shown["temperature_C"] = (thinned["temperature_K"] - ZERO_CELSIUS).round(3)
    if "start_temperature_K" in thinned:
        shown["start_temperature_C"] = (thinned["start_temperature_K"] - ZERO_CELSIUS).round(3)
    else:
        shown["start_temperature_C"] = np.nan
    shown["time_s"] = thinned["time_s"].map(lambda value: float(f"{value:.6g}"))
    shown["fraction_transformed"] = thinned["fraction_transformed"].round(5)
    counts = {
        "rows": len(table),
        "outside_baselines": int(table["fraction_transformed"].isna().sum()),
        "observations": len(shown),
    }
    return shown, counts


def _passed(
    record: Record, start_K: float, end_K: float, own_path: bool
) -> tuple[Record, float | None]:
    """Return the part of a record between two temperatures, and its constant rate if it has one."""
    if own_path:
        return passage(record, start_K, end_K), None
    rate, part = steady_rate(record, start_K, end_K)
    return part, rate


def _ramp(part: Record, start_K: float, rate: float | None, fraction: np.ndarray) -> pd.DataFrame:
    """Return a ramp's rows; times follow from the rate, since temperature is what counts.

    Without a rate the record's own times and temperatures are a path's.
    """
    if rate is None:
        return _hold(part, part.temperature_K, float(part.time_s[0]), fraction)
    return pd.DataFrame(
        {
            "temperature_K": part.temperature_K,
            "start_temperature_K": start_K,
            "time_s": (part.temperature_K - start_K) / rate,
            "fraction_transformed": fraction,
        }
    )


def _hold(
    part: Record, kelvin: float | np.ndarray | None, start_s: float, fraction: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "temperature_K": part.temperature_K if kelvin is None else kelvin,
            "time_s": part.time_s - start_s,
            "fraction_transformed": fraction,
        }
    )


def _line(line: tuple[float, float], given: Range) -> dict[str, Any]:
    return {
        "intercept_at_0_K": line[0],
        "slope_per_K": line[1],
        "fitted_between_K": list(given),
    }
