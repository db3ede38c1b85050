"""Measured signals made fractions: dilatometer by the lever rule, calorimeter by partial areas."""

from collections.abc import Sequence

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


CARBON_SOURCE = (
    "lattice parameters of austenite and ferrite: Onink et al., Scripta Metall. Mater. 29 (1993) "
    "1011; of cementite: Kop, Sietsma and van der Zwaag, J. Mater. Sci. 36 (2001) 519"
)


def ferrite_lever(temperature_K: np.ndarray, carbon_wt_pct: float) -> np.ndarray:
    """Return what the lever rule's fraction is to be multiplied by, [N], to be that of ferrite.

    Where ferrite leaves all carbon to the austenite, that expands, and a share of ferrite
    lengthens the specimen by more than the same share of the final ferrite and cementite (Kop,
    Sietsma and van der Zwaag, J. Mater. Sci. 36 (2001) 519). Volumes per atom of iron from the
    lattice parameters of `CARBON_SOURCE`; what enrichment adds to the austenite is linear in the
    fraction. It holds until pearlite begins.
    """
    ratio = carbon_wt_pct / 12.011 / ((100 - carbon_wt_pct) / 55.845)
    kelvin = temperature_K

    def austenite(carbon: float) -> np.ndarray:  # atoms in 100 of iron
        cell = 0.363067 + 0.000783 * carbon
        return (cell * (1 + (24.92 - 0.51 * carbon) * 1e-6 * (kelvin - 1000))) ** 3 / 4

    ferrite = (0.28863 * (1 + 17.5e-6 * (kelvin - 800))) ** 3 / 2
    expansion = (5.311e-6 - 1.942e-9 * kelvin + 9.655e-12 * kelvin**2) * (kelvin - 293)
    cementite = 0.45234 * 0.50883 * 0.67426 * (1 + expansion) ** 3 / 12
    final = ferrite + 3 * ratio * (cementite - ferrite)
    return (final - austenite(100 * ratio)) / (ferrite - austenite(0.0))


BASELINES = ("straight", "step", "tangents")
"""Of a calorimeter's peak: a line between its feet; going over from the level of one foot to
that of the other as the reaction goes on, as a step of the heat capacity does; or from the tangent
before the peak to the tangent behind it."""

EVEN, SMOOTH, FINE = 200, 6, 3
"""Even steps of time in which a rate is looked at, and the widths of its smoothing in them."""
TANGENT = 0.25
"""Length of a tangent's rows, in that of the peak."""
ROUNDS = 30
FLANK = 0.5
"""Part of a peak's greatest steepness from which on a foot is on its flank."""
SURE = 3.0
"""Standard deviations of what noise makes that something must have to be seen."""


def partial_area(
    time_s: np.ndarray, heat_flow: np.ndarray, start_s: float, end_s: float, kind: str = "straight"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the fraction transformed, [N], from a calorimeter's heat flow, and the baseline [N].

    The part of the area between the peak and its baseline; 0 before the peak and 1 after. Heat of
    transformation is taken not to change with the fraction. Baselines that follow the fraction
    (step, tangents) are found by repetition (van der Plaats, Thermochim. Acta 72 (1984) 77).

    Parameters
    ----------
    start_s, end_s
        Feet of the peak.
    kind
        One of `BASELINES`.

    Raises
    ------
    MatmlError
        Where the peak has no area, the times do not rise, or there are no rows for a tangent.
    """
    if (np.diff(time_s) <= 0).any():
        raise MatmlError("the times of a heat flow must rise from row to row; sort them")
    feet = np.array([start_s, end_s])
    inside = np.unique(np.r_[start_s, time_s[(time_s > start_s) & (time_s < end_s)], end_s])
    levels = np.interp(feet, time_s, heat_flow)
    before, after = np.array([0.0, levels[0]]), np.array([0.0, levels[1]])
    if kind == "tangents":
        before = _tangent(time_s, heat_flow, start_s - TANGENT * (end_s - start_s), start_s)
        after = _tangent(time_s, heat_flow, end_s, end_s + TANGENT * (end_s - start_s))
    heat, line = np.interp(inside, time_s, heat_flow), np.interp(inside, feet, levels)
    fraction = _area_fraction(inside, heat - line)
    for _ in range(0 if kind == "straight" else ROUNDS):
        line = (1 - fraction) * np.polyval(before, inside) + fraction * np.polyval(after, inside)
        fraction = _area_fraction(inside, heat - line)
    return np.interp(time_s, inside, fraction), np.interp(time_s, inside, line)


def _area_fraction(time_s: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return the part of the area until each time, [N], between 0 and 1."""
    area = np.r_[0.0, np.cumsum((above[1:] + above[:-1]) / 2 * np.diff(time_s))]
    if len(time_s) < 4 or area[-1] == 0:
        raise MatmlError(
            f"no peak between {time_s[0]:g} and {time_s[-1]:g} s; give its start and end within "
            "the record"
        )
    return (area / area[-1]).clip(0, 1)


def noise_of(signal: np.ndarray, lags: Sequence[int] = ()) -> float:
    """Return the standard deviation of the noise in a signal [N], by its second differences.

    By default of near rows and of rows a twentieth of the signal apart, as noise may be smoothed.
    """
    lags = lags or (1, max(1, len(signal) // 20))
    bends = [signal[2 * k :] - 2 * signal[k:-k] + signal[: -2 * k] for k in lags]
    return max(float(np.median(np.abs(bend))) for bend in bends) / (0.6745 * 6**0.5)


def feet_on_a_flank(
    time_s: np.ndarray, heat_flow: np.ndarray, start_s: float, end_s: float
) -> list[float]:
    """Return those of a peak's feet, start and end, at which the heat flow is steep.

    Beside a foot on the baseline it goes along the line through both feet; on a flank it crosses
    that line about as steeply as anywhere in the peak.
    """
    from scipy.ndimage import gaussian_filter1d

    reach = TANGENT * (end_s - start_s)
    even = np.linspace(max(time_s[0], start_s - reach), min(time_s[-1], end_s + reach), EVEN)
    step = even[1] - even[0]
    levels = np.interp([start_s, end_s], time_s, heat_flow)
    along = (levels[1] - levels[0]) / (end_s - start_s) * step
    heat = _means(even, time_s, heat_flow)
    steep = np.abs(gaussian_filter1d(heat, FINE, order=1, mode="nearest") - along)
    inside = (even >= start_s) & (even <= end_s)
    own = heat_flow[(time_s >= start_s) & (time_s <= end_s)]
    spacing = inside.sum() / len(own)
    shaking = noise_of(own, [1]) * (spacing / (4 * np.pi**0.5 * FINE**3)) ** 0.5
    feet = [foot for foot in (start_s, end_s) if even[0] < foot < even[-1]]
    least = max(FLANK * steep[inside].max(), SURE * shaking)
    return [foot for foot in feet if np.interp(foot, even, steep) > least]


def _means(even: np.ndarray, time_s: np.ndarray, signal: np.ndarray) -> np.ndarray:
    """Return the means of a signal around even times; beyond its own times its ends."""
    half = (even[1] - even[0]) / 2
    edges = np.r_[even - half, even[-1] + half]
    time = np.r_[min(edges[0], time_s[0]) - half, time_s, max(edges[-1], time_s[-1]) + half]
    level = np.r_[signal[0], signal, signal[-1]]
    area = np.r_[0.0, np.cumsum((level[1:] + level[:-1]) / 2 * np.diff(time))]
    return np.diff(np.interp(edges, time, area)) / (2 * half)


def _tangent(time_s: np.ndarray, heat_flow: np.ndarray, start_s: float, end_s: float) -> np.ndarray:
    inside = (time_s >= start_s) & (time_s <= end_s)
    if inside.sum() < 3:
        raise MatmlError(
            f"{int(inside.sum())} row(s) between {start_s:g} and {end_s:g} s: a tangent needs at "
            "least 3; give feet further inside of the segment, or another --baseline"
        )
    return np.polyfit(time_s[inside], heat_flow[inside], 1)


FEWEST_FOR_STAGES = 30
CONVEX = 0.1
"""Part of the greatest downward curvature of a rate that it is curved upwards between two."""


def stages(time_s: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Return the times at which a reaction is fastest, in s: several where reactions overlap.

    Maxima of the smoothed rate that stand out, and shoulders: maxima of its downward curvature.
    """
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    busy = np.flatnonzero((fraction > 0.005) & (fraction < 0.995 * np.nanmax(fraction)))
    if len(busy) < FEWEST_FOR_STAGES:
        return np.empty(0)
    start, end = time_s[busy[0]], time_s[busy[-1]]
    good = np.isfinite(fraction)
    even = np.linspace(start - 0.2 * (end - start), end + 0.2 * (end - start), EVEN)
    value = _means(even, time_s[good], fraction[good])
    rate = gaussian_filter1d(value, SMOOTH, order=1)
    bend = -gaussian_filter1d(value, SMOOTH, order=3)
    # what white noise of the rows is after this smoothing: by the norm of its third derivative
    spacing = EVEN / 1.4 / len(busy)
    shaking = noise_of(fraction[good], [1]) * (spacing * 15 / (16 * np.pi**0.5 * SMOOTH**7)) ** 0.5
    found, _ = find_peaks(bend, prominence=max(0.3 * bend.max(), 2 * SURE * shaking))
    found = found[rate[found] > 0.15 * rate.max()]
    least = max(CONVEX * bend.max(), SURE * shaking)
    # between two reactions the rate is convex; along the level rate of one it only shakes
    kept: list[int] = []
    for place in found:
        if kept and bend[kept[-1] : place].min() > -least:
            kept[-1] = max(kept[-1], place, key=lambda i: bend[i])
        else:
            kept.append(int(place))
    return even[kept]
