"""Pareto fronts against the definition, and shortlists that are not all alike."""

import numpy as np
import pytest

from matml.screening.select.diversity import diverse_order, dominated_by, likeness, pareto_fronts


def fronts_by_definition(criteria):
    left, number, front = set(range(len(criteria))), {}, 0
    while left:
        front += 1
        best = [
            i
            for i in left
            if not any(
                (criteria[j] >= criteria[i]).all() and (criteria[j] > criteria[i]).any()
                for j in left
            )
        ]
        number |= dict.fromkeys(best, front)
        left -= set(best)
    return [number[i] for i in range(len(criteria))]


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_fronts(columns):
    # few distinct values, so that there are ties and equal rows
    criteria = np.random.default_rng(columns).integers(0, 6, (80, columns)).astype(float)
    assert pareto_fronts(criteria).tolist() == fronts_by_definition(criteria)


def test_equal_rows_do_not_dominate_each_other():
    rows = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]])
    assert dominated_by(rows, rows).tolist() == [False, False, True]


def test_diversity_spreads_the_shortlist():
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(8, 5)) * 4
    features = np.repeat(centres, 20, 0) + 0.01 * generator.normal(size=(160, 5))
    # the best twenty are one cluster
    scores = -np.arange(160.0)
    plain = diverse_order(scores, features, 8, 0)
    spread = diverse_order(scores, features, 8, 0.5)
    assert plain == list(range(8))
    assert spread[0] == 0
    assert len(set(spread)) == 8
    assert len({i // 20 for i in plain}) == 1
    assert len({i // 20 for i in spread}) >= 5
    assert likeness(features, spread) < 0.7 < 0.99 < likeness(features, plain)


def test_fewer_candidates_than_wanted():
    assert sorted(diverse_order(np.array([1.0, 2.0]), np.eye(2), 5, 0.3)) == [0, 1]
