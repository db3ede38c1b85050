"""Which of the ranked candidates to show: Pareto fronts, and a shortlist without near copies."""

import bisect
from collections.abc import Sequence

import numpy as np


def dominated_by(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether some row of `others` is as good in all criteria and better in one, [n].

    Parameters
    ----------
    rows, others
        [n, criteria] and [m, criteria], larger is better.
    """
    as_good = np.ones((len(rows), len(others)), dtype=bool)
    better = np.zeros_like(as_good)
    for own, other in zip(rows.T, others.T, strict=True):
        as_good &= other[None, :] >= own[:, None]
        better |= other[None, :] > own[:, None]
    return np.asarray((as_good & better).any(1))


def pareto_fronts(criteria: np.ndarray) -> np.ndarray:
    """Number of the Pareto front of each row, [n]; 1 is not dominated by any other row.

    Efficient non-dominated sort with binary search: Zhang, Tian, Cheng and Jin, IEEE Trans. Evol.
    Comput. 19 (2015) 201.

    Parameters
    ----------
    criteria
        [n, criteria], larger is better.
    """
    order = np.lexsort(-criteria.T[::-1])
    fronts: list[list[int]] = []
    number = np.zeros(len(criteria), dtype=int)
    for row in order:

        def is_dominated(front: list[int], row: int = row) -> bool:
            return bool(dominated_by(criteria[[row]], criteria[front])[0])

        # rows come best first, so a row dominated in one front is dominated in all before it
        place = bisect.bisect_left(fronts, True, key=lambda front: not is_dominated(front))
        if place == len(fronts):
            fronts.append([])
        fronts[place].append(int(row))
        number[row] = place + 1
    return number


def diverse_order(
    scores: np.ndarray, features: np.ndarray, number: int, diversity: float
) -> list[int]:
    """Positions of a shortlist that is good and not all alike, best first.

    Greedy maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): the next entry has the
    largest (1 - diversity) * relevance - diversity * similarity to the nearest one chosen.
    Relevance falls evenly from 1 to 0 with the rank, so that it does not depend on the score's
    scale; similarity is exp(-2 d^2) of the distance d in units of the median distance.

    Parameters
    ----------
    scores
        [n], larger is better; the first choice is the largest.
    features
        [n, features] in which candidates are alike or not.
    diversity
        From 0, by score alone, to below 1.
    """
    order = np.argsort(-scores, kind="stable")
    number = min(number, len(order))
    if diversity == 0 or number < 2:
        return order[:number].tolist()
    relevance = np.empty(len(scores))
    relevance[order] = np.linspace(1, 0, len(order))
    square = np.square(features).sum(1)
    typical = _median_square_distance(features)
    chosen = [int(order[0])]
    nearest = np.zeros(len(scores))
    left = np.ones(len(scores), dtype=bool)
    while len(chosen) < number:
        last = chosen[-1]
        left[last] = False
        apart = np.maximum(square + square[last] - 2 * features @ features[last], 0)
        nearest = np.maximum(nearest, np.exp(-2 * apart / typical))
        value = np.where(left, (1 - diversity) * relevance - diversity * nearest, -np.inf)
        chosen.append(int(np.argmax(value)))
    return chosen


def _median_square_distance(features: np.ndarray) -> float:
    rows = features[:: max(1, len(features) // 300)]
    square = np.square(rows[:, None] - rows[None]).sum(-1)
    above = square[np.triu_indices(len(rows), 1)]
    return float(max(np.median(above), 1e-12)) if len(above) else 1.0


def likeness(features: np.ndarray, rows: Sequence[int]) -> float:
    """Mean similarity of each chosen row to the nearest other chosen one, from 0 to 1."""
    if len(rows) < 2:
        return 0.0
    typical = _median_square_distance(features)
    own = features[np.asarray(rows)]
    square = np.square(own[:, None] - own[None]).sum(-1)
    np.fill_diagonal(square, np.inf)
    return float(np.exp(-2 * square.min(1) / typical).mean())
