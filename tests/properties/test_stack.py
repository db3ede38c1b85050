"""The base models do not know a family that they are asked about; the stack stands on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.gp.shifts import CASES
from matml.gp.stack import GPStack
from matml.gp.trend import FLAT, Trend
from matml.properties.stack.base_models import BaseModels, Inputs, cross_fitted
from matml.properties.stack.calibrate import Scores, above_hull, scales_of
from matml.properties.stack.fit import StackedPredictor


def weights(means, variances, noise=0.01, *factors):
    values = (torch.tensor(v, dtype=torch.float64) for v in (means, variances, noise, *factors))
    return GPStack(*values)


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
    models = BaseModels.fit(inputs, targets, 1, subset=40, steps=5, seed=0)
    return inputs, targets, models


def test_predictions_of_a_training_family_do_not_depend_on_labels_of_its_fold(fitted):
    inputs, targets, models = fitted
    folds = np.repeat([0, 1, 2], 20)
    members = [np.arange(0, 10), np.arange(10, 20), np.arange(20, 40)]
    before = models.cross_fitted(inputs, targets, folds, members)
    changed = np.where(folds == 0, targets + 7, targets)
    after = models.refit(inputs, changed).cross_fitted(inputs, changed, folds, members)
    for i in (0, 1):
        torch.testing.assert_close(before[i].means, after[i].means)
        torch.testing.assert_close(before[i].covariances, after[i].covariances)
    assert (before[2].means[1:] - after[2].means[1:]).abs().max() > 0.1
    # and a model that saw the family would know its labels better
    seen = models.predict(inputs[members[0]])
    error = [np.abs(v.means[2].numpy() - targets[:10]).mean() for v in (seen, before[0])]
    assert error[0] < error[1]


def test_covariances_are_symmetric_positive_and_the_same_for_any_company(fitted):
    inputs, _, models = fitted
    said = models.predict(inputs[np.arange(12)])
    assert said.means.shape == (4, 12)
    for covariance in said.covariances:
        torch.testing.assert_close(covariance, covariance.mT)
        assert torch.linalg.eigvalsh(covariance)[0] > -1e-6
    fewer = models.predict(inputs[np.arange(5)])
    torch.testing.assert_close(fewer.covariances, said[np.arange(5)].covariances)
    torch.testing.assert_close(fewer.means, said[np.arange(5)].means)


def test_models_of_many_crystals_are_learned_again_without_a_family(fitted):
    """In one block, which is exact, as in closed form."""
    inputs, targets, models = fitted
    options = {"subset": 40, "steps": 5, "seed": 0}
    many = BaseModels.fit(inputs, targets, 1, **options, exact_up_to=50)
    assert many.augmented.partitioned
    assert not models.augmented.partitioned
    folds = np.repeat([0, 1, 2], 20)
    members = [np.arange(10, 20), np.arange(40, 55), np.arange(0, 10)]
    wanted = models.cross_fitted(inputs, targets, folds, members)
    for own, other in zip(many.cross_fitted(inputs, targets, folds, members), wanted, strict=True):
        torch.testing.assert_close(own.means, other.means, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(own.covariances, other.covariances, rtol=1e-5, atol=1e-5)


def test_a_large_pool_is_not_written_out(fitted, monkeypatch):
    inputs, targets, models = fitted
    stack = replace(weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7), cases=CASES)
    predictor = StackedPredictor(models, stack, {0: 2.0})
    pools = [predictor.over(inputs)]
    monkeypatch.setattr("matml.properties.stack.fit.WRITTEN_OUT", 50)
    pools.append(predictor.over(inputs))
    assert [type(pool).__name__ for pool in pools] == ["JointProcess", "WideProcess"]
    for rows in (np.arange(0), np.arange(8)):
        found = [stack.predict(pool, rows, targets[rows], np.arange(20, 60)) for pool in pools]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-7)


@pytest.mark.parametrize("shots", [0, 1, 7])
def test_blocks_are_those_of_the_full_covariances(fitted, shots):
    inputs, targets, models = fitted
    support, query = inputs[np.arange(20, 20 + shots)], inputs[np.arange(40, 52)]
    both = Inputs(
        np.vstack([support.descriptors, query.descriptors]),
        np.vstack([support.predictions, query.predictions]),
    )
    said = models.predict(both)
    blocks = models.predict_beside(query, models.encode(support))
    full = said.covariances
    torch.testing.assert_close(blocks.means, said.means[:, shots:], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(blocks.cross, full[:, shots:, :shots], rtol=1e-9, atol=1e-9)
    variances = full.diagonal(dim1=1, dim2=2)[:, shots:]
    torch.testing.assert_close(blocks.variances, variances, rtol=1e-9, atol=1e-9)
    # and so are predictions
    fitted_stack = StackedPredictor(
        models, weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7), {0: 2.0, 5: 1.5}
    )
    labels = targets[20 : 20 + shots]
    joint, stack = fitted_stack.stack.joint(said), fitted_stack.stack
    expected = stack.predict(joint, range(shots), labels, range(shots, shots + 12))
    *found, before = fitted_stack.adapt(support, labels).predict(query)
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    _, first = stack.predict(joint, [], labels[:0], range(shots, shots + 12))
    np.testing.assert_allclose(before, first, rtol=1e-8)


def test_a_stack_survives_its_file(fitted, tmp_path):
    inputs, targets, models = fitted
    stack = weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7, 0.01, 4.0, 0.5)
    stack = replace(stack, cases=CASES)
    stack = replace(stack, trend=Trend(0.3, -1.0, 2.0))
    before = StackedPredictor(models, stack, {0: 2.0, 5: 1.5}, (0.1, 1.7))
    before.save(tmp_path / "stack.safetensors")
    after = StackedPredictor.load(tmp_path / "stack.safetensors", inputs, targets)
    for support in (np.arange(0), np.arange(6)):
        found = [
            each.adapt(inputs[support], targets[support]).predict(inputs[np.arange(10, 20)])
            for each in (before, after)
        ]
        np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    assert [after.scale(k) for k in (0, 3, 5, 50)] == [2.0, 2.0, 1.5, 1.5]
    assert after.hypothetical == (0.1, 1.7)


def test_energies_above_the_hull_tell_what_hypothetical_crystals_have_in_addition(fitted):
    inputs, _, models = fitted
    random = np.random.default_rng(0)
    hull = [np.where(np.arange(20) < 10, 0.0, 0.2) for _ in range(12)]
    families = {
        i: Scores(
            np.arange(20),
            np.zeros(20),
            0.1 * random.normal(size=20) - own,
            np.full(20, 0.1),
            np.full(20, 1 / 20),
        )
        for i, own in enumerate(hull)
    }
    # families for validation come after those that were left out in turn, and tell nothing
    families[12] = replace(families[0], error=np.full(20, 50.0))
    found = above_hull(families, hull, FLAT, 1.645)
    assert found[0] == pytest.approx(0.2, abs=0.03)
    assert 1 <= found[1] < 1.2
    # a few that lie electronvolts above the hull move it little
    far = families | {
        0: replace(families[0], error=families[0].error - 3.0 * (hull[0].cumsum() > 1.5))
    }
    assert above_hull(far, hull, FLAT, 1.645)[0] == pytest.approx(found[0], abs=0.02)
    assert above_hull(families, [0 * own for own in hull], FLAT, 1.645) is None
    assert above_hull(families, [own + np.nan for own in hull], FLAT, 1.645) is None
    plain = StackedPredictor(models, weights([0.1, 0.2, 0.3, 0.4], [0.1] * 7), {0: 2.0}, found)
    query = inputs[np.arange(5)]
    (usual, narrow, _), (mean, wide, _) = (
        each.adapt(inputs[np.arange(0)], np.zeros(0)).predict(query)
        for each in (plain, plain.of_hypothetical())
    )
    np.testing.assert_allclose(mean - usual, found[0])
    np.testing.assert_allclose(wide / narrow, found[1])
    with pytest.raises(MatmlError, match="do not tell how hypothetical crystals differ"):
        replace(plain, hypothetical=None).of_hypothetical()


def scored(errors, first=0):
    """Scores of families, each with the same error throughout."""
    one = [np.ones(n) for _, n in errors]
    return {
        first + i: Scores(np.arange(n), 0 * one[i], e * one[i], one[i], one[i] / n)
        for i, (e, n) in enumerate(errors)
    }


def test_interval_scales_count_families_alike():
    narrow = [(1.0, 1)] * 9
    # two of eleven families, however many or few their crystals, are more than a tenth
    assert scales_of({0: scored([(3.0, 100), *narrow])}, FLAT)[0] == 1.0
    assert scales_of({0: scored([(3.0, 1), (3.0, 100), *narrow])}, FLAT)[0] == 3.0


def test_numbers_of_labels_with_few_families_are_calibrated_together():
    many = scored([(1.0, 5)] * 19 + [(2.0, 5)])
    few = scored([(4.0, 5)] * 3)
    scales = scales_of({0: scored([(9.0, 2)] * 20), 2: many, 20: few}, FLAT)
    assert scales[0] == 9.0
    assert scales[2] == 1.0
    # three of twenty families bring errors of 4 for half of their weight, another of 2
    assert scales[20] == 2.0
    assert scales_of({5: few}, FLAT) == {5: NORMAL_90}
