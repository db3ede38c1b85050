"""Measured signals made fractions: dilatometer by the lever rule, calorimeter by partial areas."""

import numpy as np

from matml.core.errors import MatmlError


def baseline(
    temperature_K: np.ndarray, signal: np.ndarray, low_K: float, high_K: float
) -> tuple[float, float]:
    """Return (intercept, slope) of a straight baseline, least squares between two temperatures.

    Raises
    ------
    MatmlError
        With fewer than three points there.
    """
    inside = (temperature_K >= low_K) & (temperature_K <= high_K)
    if inside.sum() < 3 or np.ptp(temperature_K[inside]) == 0:
        raise MatmlError(
            f"{int(inside.sum())} point(s) between {low_K:g} and {high_K:g} K: a baseline needs at "
            "least 3 at different temperatures; widen its range"
        )
    slope, intercept = np.polyfit(temperature_K[inside], signal[inside], 1)
    return float(intercept), float(slope)


MARGIN = 0.05
"""How far a fraction may lie outside of 0 to 1 and is cut to the ends; farther is NaN."""


def lever_rule(
    temperature_K: np.ndarray,
    length: np.ndarray,
    parent: tuple[float, float],
    product: tuple[float, float],
) -> np.ndarray:
    """Return the fraction transformed, [N], from a dilatometer's length.

    (L - L_parent) / (L_product - L_parent) with both baselines, (intercept, slope), continued to
    each temperature; parent and product are taken to share the volume change linearly.

    Parameters
    ----------
    length
        Or strain; any unit, the baselines' too.
    parent, product
        From `baseline`, above and below the transformation.

    Raises
    ------
    MatmlError
        Where the baselines cross within the temperatures: no lever there.
    """
    first = parent[0] + parent[1] * temperature_K
    gap = product[0] + product[1] * temperature_K - first
    if gap.min() * gap.max() <= 0:
        at = temperature_K[np.abs(gap).argmin()]
        raise MatmlError(
            f"the baselines cross near {at:.0f} K, where no fraction follows from a length; "
            "cut the record or check the ranges of the baselines"
        )
    fraction = (length - first) / gap
    # farther outside of 0 to 1 the baselines do not hold
    outside = (fraction < -MARGIN) | (fraction > 1 + MARGIN)
    return np.where(outside, np.nan, fraction.clip(0, 1))


def partial_area(
    time_s: np.ndarray, heat_flow: np.ndarray, start_s: float, end_s: float
) -> np.ndarray:
    """Return the fraction transformed, [N], from a calorimeter's heat flow.

    The part of the area between the peak and the straight line from its start to its end; 0
    before and 1 after. Heat of transformation and baseline are taken not to change with the
    fraction.

    Raises
    ------
    MatmlError
        Where the peak has no area, or the times do not rise.
    """
    if (np.diff(time_s) <= 0).any():
        raise MatmlError("the times of a heat flow must rise from row to row; sort them")
    ends = np.interp([start_s, end_s], time_s, heat_flow)
    inside = np.unique(np.r_[start_s, time_s[(time_s > start_s) & (time_s < end_s)], end_s])
    above = np.interp(inside, time_s, heat_flow) - np.interp(inside, [start_s, end_s], ends)
    area = np.r_[0.0, np.cumsum((above[1:] + above[:-1]) / 2 * np.diff(inside))]
    if len(inside) < 4 or area[-1] == 0:
        raise MatmlError(
            f"no peak between {start_s:g} and {end_s:g} s; give its start and end within the record"
        )
    return np.interp(time_s, inside, area / area[-1]).clip(0, 1)
