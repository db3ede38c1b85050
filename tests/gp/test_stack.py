"""The stack is a textbook Gaussian process; its weights are learned from what is unseen."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from matml.gp.sequences import Predictions, Sequences
from matml.gp.shifts import CASES
from matml.gp.stack import WIDEST, GPStack, family_factors, learn_stack, sequential_loss
from matml.gp.trend import Trend


def weights(means, variances, noise=0.01, *factors):
    values = (torch.tensor(v, dtype=torch.float64) for v in (means, variances, noise, *factors))
    return GPStack(*values)


def conditioned(stack, predictions, labels, shots):
    """Mean and scale of the crystals behind the first, which are labelled."""
    query = range(shots, predictions.means.shape[1])
    return stack.predict(stack.joint(predictions), range(shots), labels, query)


def matern(x, length):
    return torch.from_numpy(Matern(length_scale=length, nu=1.5)(x))


@pytest.fixture(scope="module")
def points():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(30, 3))
    return x, np.sin(x[:, 0]) + x[:, 1] + 0.1 * generator.normal(size=30)


def test_conditioning_is_that_of_a_textbook_gaussian_process(points):
    x, y = points
    said = Predictions(torch.zeros(1, 30).double(), torch.stack([matern(x, 1.0), matern(x, 2.0)]))
    mean, deviation = conditioned(weights([1.0], [0.5, 2.0]), said, y[:20], 20)
    kernel = ConstantKernel(0.5) * Matern(1.0, nu=1.5) + ConstantKernel(2.0) * Matern(2.0, nu=1.5)
    oracle = GaussianProcessRegressor(kernel, alpha=0.01, optimizer=None).fit(x[:20], y[:20])
    expected, spread = oracle.predict(x[20:], return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    # ours is the deviation of a label, not of the function
    np.testing.assert_allclose(deviation, np.sqrt(spread**2 + 0.01), atol=1e-4)


def test_intervals_follow_the_misfit_of_the_familys_labels(points):
    x, y = points
    said = Predictions(torch.zeros(1, 30).double(), matern(x, 1.0)[None])
    usual, wild = weights([1.0], [1.0]), weights([1.0], [1.0], 0.01, 3.0, 0.5)
    gram = matern(x[:6], 1.0).numpy() + 0.01 * np.eye(6)
    for scale in (0.1, 1.0, 2.0):
        labels = scale * y[:6]
        mean, deviation = conditioned(usual, said[np.arange(9)], labels, 6)
        same, t_scale = conditioned(wild, said[np.arange(9)], labels, 6)
        np.testing.assert_array_equal(mean, same)
        # conjugate update of the inverse gamma distribution: shape 3 / 2, rate 3 * 0.5 / 2
        expected = (1.5 + labels @ np.linalg.solve(gram, labels)) / (3 + 6)
        np.testing.assert_allclose(np.square(t_scale / deviation), expected, rtol=1e-3)


def test_one_odd_label_does_not_widen_all_intervals_without_end(points, monkeypatch):
    x, y = points
    said = Predictions(torch.zeros(1, 30).double(), matern(x, 1.0)[None])[np.arange(9)]
    stack = weights([1.0], [1.0], 0.01, 3.0, 0.5)
    odd = np.r_[y[:5], 100.0]
    _, before = conditioned(
        stack, Predictions(said.means[:, 6:], said.covariances[:, 6:, 6:]), odd[:0], 0
    )
    _, deviation = conditioned(stack, said, odd, 6)
    np.testing.assert_allclose(deviation, WIDEST * before)
    # labels that speak against the mean itself are not held
    stack = replace(stack, cases=CASES)
    _, held = conditioned(stack, said, y[:6] + 100, 6)
    monkeypatch.setattr("matml.gp.stack.WIDEST", np.inf)
    _, free = conditioned(stack, said, y[:6] + 100, 6)
    np.testing.assert_array_equal(held, free)


def test_degrees_of_freedom_and_scale_are_found_again():
    generator = np.random.default_rng(4)
    for freedom, spread in ((4.0, 0.5), (12.0, 2.0)):
        factors = freedom * spread / generator.chisquare(freedom, 4000)
        crystals = generator.integers(4, 26, 4000)
        found = family_factors(factors * generator.chisquare(crystals), crystals)
        np.testing.assert_allclose(found, (freedom, spread), rtol=0.1)
    # families that are all alike
    assert family_factors(generator.chisquare(crystals), crystals)[0] > 50


def test_without_labels_the_mean_is_the_weighted_one(points):
    x, _ = points
    own = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 30)))
    said = Predictions(own, matern(x, 1.0)[None])
    mean, deviation = conditioned(weights([0.25, 0.75], [2.0]), said, np.zeros(0), 0)
    np.testing.assert_allclose(mean, 0.25 * own[0] + 0.75 * own[1])
    np.testing.assert_allclose(deviation, np.sqrt(2.01))


def test_learning_finds_the_better_mean_and_the_kernel_that_errors_share():
    generator = np.random.default_rng(0)
    said, labels = [], []
    for _ in range(12):
        x = generator.normal(size=(14, 2))
        covariance = matern(x, 1.0)
        truth = generator.normal(size=14)
        error = np.linalg.cholesky(covariance.numpy() + 1e-9 * np.eye(14)) @ generator.normal(
            size=14
        )
        good = truth + 0.3 * error
        bad = truth + 3 * generator.normal(size=14)
        said.append(
            Predictions(
                torch.from_numpy(np.stack([good, bad])),
                torch.stack([covariance, torch.eye(14).double()]),
            )
        )
        labels.append(truth)
    stack = learn_stack(Sequences.draw(said, labels), 0.1, steps=400)
    assert stack.mean_weights[0] > 0.9
    assert stack.variances[0] > 2 * stack.variances[1]


def test_the_cost_is_that_of_predicting_one_crystal_after_another(points):
    x, y = points
    means = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 30)))
    said = Predictions(means, torch.stack([matern(x, 1.0), matern(x, 2.0)]))
    own = weights([0.3, 0.7], [0.5, 2.0])
    rows = [np.arange(8), np.arange(8, 13)]
    drawn = Sequences.draw([said[r] for r in rows], [y[r] for r in rows], orders=2, longest=6)
    # the shorter family is padded to the longest, and the longer one cut
    assert drawn.present.sum(1).tolist() == [6, 6, 5, 5]
    found = sequential_loss(own.mean_weights, own.variances, own.noise, drawn)
    for sequence, cost in zip(range(4), found.tolist(), strict=True):
        n = int(drawn.present[sequence].sum())
        labels = drawn.labels[sequence].numpy()
        whole = Predictions(drawn.means[sequence], drawn.covariances[sequence])
        each = []
        for k in range(n):
            mean, deviation = conditioned(own, whole[np.arange(k + 1)], labels[:k], k)
            off = abs(mean[0] - labels[k])
            each.append(np.sqrt(2) * off / deviation[0] + np.log(deviation[0]))
        assert cost == pytest.approx(np.mean(each), rel=1e-3)


def test_each_order_holds_a_crystal_once():
    labels = [np.arange(7.0), np.arange(3.0)]
    said = [
        Predictions(torch.from_numpy(y)[None], torch.eye(len(y)).double()[None]) for y in labels
    ]
    drawn = Sequences.draw(said, labels, orders=3)
    for row, present in zip(drawn.labels, drawn.present, strict=True):
        assert len(set(row[present > 0].tolist())) == present.sum()
    assert (drawn.means[:, 0] == drawn.labels).all()
    assert len({tuple(row) for row in drawn.labels[:3].tolist()}) > 1


def test_a_trend_widens_by_the_prediction_and_is_in_the_bound_of_deviations(points):
    x, y = points
    own = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 30)))
    said = Predictions(own, matern(x, 1.0)[None])[np.arange(9)]
    plain = weights([1.0], [1.0], 0.01, 3.0, 0.5)
    rising = replace(plain, trend=Trend(0.5, -1.0, 1.0))
    for shots in (0, 5):
        mean, deviation = conditioned(plain, said, y[:shots], shots)
        same, wider = conditioned(rising, said, y[:shots], shots)
        np.testing.assert_array_equal(same, mean)
        np.testing.assert_allclose(wider, deviation * np.exp(0.5 * np.clip(mean, -1, 1)))
    odd = np.r_[y[:5], 100.0]
    _, before = conditioned(
        rising, Predictions(said.means[:, 6:], said.covariances[:, 6:, 6:]), odd[:0], 0
    )
    _, deviation = conditioned(rising, said, odd, 6)
    assert (deviation <= WIDEST * before * (1 + 1e-9)).all()


def test_a_moved_stack_has_another_mean_and_wider_intervals_until_labels_tell(points):
    x, y = points
    own = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 30)))
    said = Predictions(own, matern(x, 1.0)[None])
    plain = weights([1.0], [1.0])
    moved = plain.moved(0.8, 2.0)
    for shots in (0, 20):
        mean, deviation = conditioned(plain, said, y[:shots], shots)
        other, wider = conditioned(moved, said, y[:shots], shots)
        np.testing.assert_allclose(wider, 2 * deviation, rtol=1e-4)
        if not shots:
            np.testing.assert_allclose(other, mean + 0.8)
    # labels all around a crystal outvote what was added
    near = said[np.r_[np.arange(20), 3]]
    (found,), _ = conditioned(moved, near, y[:20], 20)
    assert abs(found - y[3]) < 0.1
