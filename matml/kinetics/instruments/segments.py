"""Heating, holds and cooling of a record told apart, and the one of them that is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

HEATING, HOLD, COOLING = "heating", "hold", "cooling"
LEAST_K, PART = 2.0, 0.01
"""How far straight pieces may stray from the temperatures: in K, and in their span."""
REVERSAL = 0.15
"""Part of the span by which a record may turn back within a segment, as recalescence does."""
LONE_K = 50.0
"""How far off both its neighbours no temperature lies."""
MOST = 2000
"""Rows from which the pieces are found."""


@dataclass(frozen=True)
class Segment:
    """A part of a record in one direction.

    Attributes
    ----------
    kind
        "heating", "hold" or "cooling".
    first, last
        Rows, both in it.
    """

    kind: str
    first: int
    last: int

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.first, self.last + 1)


def lone(kelvin: np.ndarray) -> np.ndarray:
    """Return the places of temperatures [N] that lie far off both neighbours, which agree."""
    before, after = np.diff(kelvin)[:-1], -np.diff(kelvin)[1:]
    far = (np.minimum(before, after) > LONE_K) | (np.maximum(before, after) < -LONE_K)
    return 1 + np.flatnonzero(far & (np.abs(before - after) < LONE_K / 2))


def segments_of(time_s: np.ndarray, temperature_K: np.ndarray) -> list[Segment]:
    """Return the segments of a record in their order.

    From the fewest straight pieces near its temperatures (Ramer, Comput. Graph. Image Process. 1
    (1972) 244; Douglas and Peucker, Cartographica 10 (1973) 112); pieces of one direction in a row
    are one segment, whatever their rates.
    """
    span = float(np.ptp(temperature_K))
    near = max(LEAST_K, PART * span)
    corners = _corners(time_s, temperature_K, near)
    found: list[Segment] = []
    for first, last in pairwise(corners):
        change = temperature_K[last] - temperature_K[first]
        kind = HOLD if abs(change) <= 2 * near else HEATING if change > 0 else COOLING
        found.append(Segment(kind, first, last))
    found = _joined(found)
    small = REVERSAL * span
    for i in range(len(found) - 2, 0, -1):
        before, turn, after = found[i - 1 : i + 2]
        back = abs(temperature_K[turn.last] - temperature_K[turn.first])
        if HOLD not in {before.kind, turn.kind} and before.kind == after.kind and back < small:
            found[i - 1 : i + 2] = [Segment(before.kind, before.first, after.last)]
    return _joined(found)


def _joined(segments: Sequence[Segment]) -> list[Segment]:
    joined: list[Segment] = []
    for segment in segments:
        if joined and joined[-1].kind == segment.kind:
            segment = Segment(segment.kind, joined.pop().first, segment.last)
        joined.append(segment)
    return joined


def _corners(time_s: np.ndarray, temperature_K: np.ndarray, near: float) -> list[int]:
    """Return rows between which straight lines stray from the temperatures by no more than `near`.

    Looked for among rows even in number and in way, so that a quench in a long record is seen.
    """
    count = len(time_s)
    way = np.r_[0.0, np.cumsum(np.abs(np.diff(temperature_K)))]
    even = np.linspace(0, count - 1, min(count, MOST)).round()
    along = np.searchsorted(way, np.linspace(0, way[-1], min(count, MOST)))
    rows = np.unique(np.r_[even, along.clip(0, count - 1)].astype(int))
    time, kelvin = time_s[rows], temperature_K[rows]
    corners, open_pieces = {0, len(rows) - 1}, [(0, len(rows) - 1)]
    while open_pieces:
        first, last = open_pieces.pop()
        if last - first < 2:
            continue
        ends = [first, last]
        stray = np.abs(
            kelvin[first : last + 1] - np.interp(time[first : last + 1], time[ends], kelvin[ends])
        )
        worst = first + int(stray.argmax())
        if stray.max() > near:
            corners.add(worst)
            open_pieces += [(first, worst), (worst, last)]
    return [int(rows[i]) for i in sorted(corners)]
