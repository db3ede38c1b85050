"""The stack is a textbook Gaussian process; its weights are learned from what is unseen."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from matml.gp.stack import GPStack, Sequences, Views, family_factors, learn_stack, sequential_loss
from matml.properties.stack.base_models import FamilyModels, Inputs, cross_fitted, training_views
from matml.properties.stack.fit import NOMINAL, StackedPredictor, _scales


def weights(means, variances, noise=0.01, *factors):
    values = (torch.tensor(v, dtype=torch.float64) for v in (means, variances, noise, *factors))
    return GPStack(*values)


def matern(x, length):
    return torch.from_numpy(Matern(length_scale=length, nu=1.5)(x))


@pytest.fixture(scope="module")
def points():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(30, 3))
    return x, np.sin(x[:, 0]) + x[:, 1] + 0.1 * generator.normal(size=30)


def test_conditioning_is_that_of_a_textbook_gaussian_process(points):
    x, y = points
    views = Views(torch.zeros(1, 30).double(), torch.stack([matern(x, 1.0), matern(x, 2.0)]))
    mean, deviation = weights([1.0], [0.5, 2.0]).condition(views, y[:20], 20)
    kernel = ConstantKernel(0.5) * Matern(1.0, nu=1.5) + ConstantKernel(2.0) * Matern(2.0, nu=1.5)
    oracle = GaussianProcessRegressor(kernel, alpha=0.01, optimizer=None).fit(x[:20], y[:20])
    expected, spread = oracle.predict(x[20:], return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    # ours is the deviation of a label, not of the function
    np.testing.assert_allclose(deviation, np.sqrt(spread**2 + 0.01), atol=1e-4)


def test_intervals_follow_the_misfit_of_the_familys_labels(points):
    x, y = points
    views = Views(torch.zeros(1, 30).double(), matern(x, 1.0)[None])
    usual, wild = weights([1.0], [1.0]), weights([1.0], [1.0], 0.01, 3.0, 0.5)
    gram = matern(x[:6], 1.0).numpy() + 0.01 * np.eye(6)
    for scale in (0.1, 1.0, 10.0):
        labels = scale * y[:6]
        mean, deviation = usual.condition(views[np.arange(9)], labels, 6)
        same, t_scale = wild.condition(views[np.arange(9)], labels, 6)
        np.testing.assert_array_equal(mean, same)
        # conjugate update of the inverse gamma distribution: shape 3 / 2, rate 3 * 0.5 / 2
        expected = (1.5 + labels @ np.linalg.solve(gram, labels)) / (3 + 6)
        np.testing.assert_allclose(np.square(t_scale / deviation), expected, rtol=1e-3)


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
    views = Views(own, matern(x, 1.0)[None])
    mean, deviation = weights([0.25, 0.75], [2.0]).condition(views, np.zeros(0), 0)
    np.testing.assert_allclose(mean, 0.25 * own[0] + 0.75 * own[1])
    np.testing.assert_allclose(deviation, np.sqrt(2.01))


def test_learning_finds_the_better_mean_and_the_kernel_that_errors_share():
    generator = np.random.default_rng(0)
    views, labels = [], []
    for _ in range(12):
        x = generator.normal(size=(14, 2))
        covariance = matern(x, 1.0)
        truth = generator.normal(size=14)
        error = np.linalg.cholesky(covariance.numpy() + 1e-9 * np.eye(14)) @ generator.normal(
            size=14
        )
        good = truth + 0.3 * error
        bad = truth + 3 * generator.normal(size=14)
        views.append(
            Views(
                torch.from_numpy(np.stack([good, bad])),
                torch.stack([covariance, torch.eye(14).double()]),
            )
        )
        labels.append(truth)
    stack = learn_stack(Sequences.draw(views, labels), 0.1, steps=400)
    assert stack.mean_weights[0] > 0.9
    assert stack.variances[0] > 2 * stack.variances[1]


def test_the_cost_is_that_of_predicting_one_crystal_after_another(points):
    x, y = points
    means = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 30)))
    views = Views(means, torch.stack([matern(x, 1.0), matern(x, 2.0)]))
    own = weights([0.3, 0.7], [0.5, 2.0])
    rows = [np.arange(8), np.arange(8, 13)]
    drawn = Sequences.draw([views[r] for r in rows], [y[r] for r in rows], orders=2, longest=6)
    # the shorter family is padded to the longest, and the longer one cut
    assert drawn.present.sum(1).tolist() == [6, 6, 5, 5]
    found = sequential_loss(own.mean_weights, own.variances, own.noise, drawn)
    for sequence, cost in zip(range(4), found.tolist(), strict=True):
        n = int(drawn.present[sequence].sum())
        labels = drawn.labels[sequence].numpy()
        whole = Views(drawn.means[sequence], drawn.covariances[sequence])
        each = []
        for k in range(n):
            mean, deviation = own.condition(whole[np.arange(k + 1)], labels[:k], k)
            off = abs(mean[0] - labels[k])
            each.append(np.sqrt(2) * off / deviation[0] + np.log(deviation[0]))
        assert cost == pytest.approx(np.mean(each), rel=1e-3)


def test_each_order_holds_a_crystal_once():
    labels = [np.arange(7.0), np.arange(3.0)]
    views = [Views(torch.from_numpy(y)[None], torch.eye(len(y)).double()[None]) for y in labels]
    drawn = Sequences.draw(views, labels, orders=3)
    for row, present in zip(drawn.labels, drawn.present, strict=True):
        assert len(set(row[present > 0].tolist())) == present.sum()
    assert (drawn.means[:, 0] == drawn.labels).all()
    assert len({tuple(row) for row in drawn.labels[:3].tolist()}) > 1


def test_predictions_of_a_family_come_from_networks_that_have_not_seen_it():
    predictions = np.arange(3.0)[:, None, None] * np.ones((3, 5, 2))
    found = cross_fitted(predictions, np.array([0, 1, 2, -1, 2]))
    assert found[:, 0].tolist() == [0, 1, 2, 1, 2]
    assert predictions[0, 1, 0] == 0
    # two members a fold: 0 and 2 leave out fold 0
    predictions = np.arange(4.0)[:, None, None] * np.ones((4, 3, 2))
    assert cross_fitted(predictions, np.array([0, 1, -1]))[:, 0].tolist() == [1, 2, 1.5]


@pytest.fixture(scope="module")
def fitted():
    generator = np.random.default_rng(3)
    inputs = Inputs(generator.normal(size=(60, 4)), generator.normal(size=(60, 2)))
    targets = inputs.descriptors[:, 0] + 0.5 * inputs.predictions[:, 1]
    models = FamilyModels.fit(inputs, targets, 1, subset=40, steps=5, seed=0)
    return inputs, targets, models


def test_views_of_a_training_family_do_not_depend_on_labels_of_its_fold(fitted):
    inputs, targets, models = fitted
    folds = np.repeat([0, 1, 2], 20)
    members = [np.arange(0, 10), np.arange(10, 20), np.arange(20, 40)]
    before = list(training_views(models, inputs, targets, folds, members))
    changed = np.where(folds == 0, targets + 7, targets)
    after = list(training_views(models, inputs, changed, folds, members))
    for i in (0, 1):
        torch.testing.assert_close(before[i].means, after[i].means)
        torch.testing.assert_close(before[i].covariances, after[i].covariances)
    assert (before[2].means[1:] - after[2].means[1:]).abs().max() > 0.1
    # and a model that saw the family would know its labels better
    seen = models.views(inputs[members[0]])
    error = [np.abs(v.means[2].numpy() - targets[:10]).mean() for v in (seen, before[0])]
    assert error[0] < error[1]


def test_views_are_symmetric_positive_and_the_same_for_any_company(fitted):
    inputs, _, models = fitted
    views = models.views(inputs[np.arange(12)])
    assert views.means.shape == (4, 12)
    for covariance in views.covariances:
        torch.testing.assert_close(covariance, covariance.mT)
        assert torch.linalg.eigvalsh(covariance)[0] > -1e-6
    fewer = models.views(inputs[np.arange(5)])
    torch.testing.assert_close(fewer.covariances, views[np.arange(5)].covariances)
    torch.testing.assert_close(fewer.means, views[np.arange(5)].means)


@pytest.mark.parametrize("shots", [0, 1, 7])
def test_blocks_are_those_of_the_full_covariances(fitted, shots):
    inputs, targets, models = fitted
    support, query = inputs[np.arange(20, 20 + shots)], inputs[np.arange(40, 52)]
    both = Inputs(
        np.vstack([support.descriptors, query.descriptors]),
        np.vstack([support.predictions, query.predictions]),
    )
    views = models.views(both)
    blocks = models.query_views(query, models.anchors(support))
    full = views.covariances
    torch.testing.assert_close(blocks.means, views.means[:, shots:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(blocks.cross, full[:, shots:, :shots], rtol=1e-9, atol=1e-9)
    variances = full.diagonal(dim1=1, dim2=2)[:, shots:]
    torch.testing.assert_close(blocks.variances, variances, rtol=1e-9, atol=1e-9)
    # and so are predictions
    fitted_stack = StackedPredictor(
        models, weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7), {0: 2.0, 5: 1.5}
    )
    labels = targets[20 : 20 + shots]
    expected = fitted_stack.condition(views, labels, shots)
    found = fitted_stack.adapt(support, labels).predict(query)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_a_stack_survives_its_file(fitted, tmp_path):
    inputs, targets, models = fitted
    stack = weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7, 0.01, 4.0, 0.5)
    before = StackedPredictor(models, stack, {0: 2.0, 5: 1.5})
    before.save(tmp_path / "stack.safetensors")
    after = StackedPredictor.load(tmp_path / "stack.safetensors", inputs, targets)
    for support in (np.arange(0), np.arange(6)):
        found = [
            each.adapt(inputs[support], targets[support]).predict(inputs[np.arange(10, 20)])
            for each in (before, after)
        ]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    assert [after.scale(k) for k in (0, 3, 5, 50)] == [2.0, 2.0, 1.5, 1.5]


def scored(errors, first=0):
    """Scores of families, each with the same error throughout."""
    return {first + i: (np.full(n, e), np.full(n, 1 / n)) for i, (e, n) in enumerate(errors)}


def test_interval_scales_count_families_alike():
    narrow = [(1.0, 1)] * 9
    # two of eleven families, however many or few their crystals, are more than a tenth
    assert _scales({0: scored([(3.0, 100), *narrow])})[0] == 1.0
    assert _scales({0: scored([(3.0, 1), (3.0, 100), *narrow])})[0] == 3.0


def test_numbers_of_labels_with_few_families_are_calibrated_together():
    many = scored([(1.0, 5)] * 19 + [(2.0, 5)])
    few = scored([(4.0, 5)] * 3)
    scales = _scales({0: scored([(9.0, 2)] * 20), 2: many, 20: few})
    assert scales[0] == 9.0
    assert scales[2] == 1.0
    # three of twenty families bring errors of 4 for half of their weight, another of 2
    assert scales[20] == 2.0
    assert _scales({5: few}) == {5: NOMINAL}
