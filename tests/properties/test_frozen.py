"""Baselines on fixed features against refitting them one by one."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from matml.gp.exact import GlobalGP
from matml.meta import GaussianHead
from matml.meta.inner.closed_form import gaussian_loss
from matml.properties.baselines.linear_probe import adapt_global_gp, by_support_alone, pooled_ridge
from matml.properties.baselines.support_only import (
    LENGTHS,
    NOISES,
    PENALTIES,
    PooledRidge,
    support_gp,
    support_ridge,
)
from matml.properties.data.batches import GraphBatches
from matml.properties.networks.closed_form import ClosedHead
from matml.properties.networks.ensemble import NetworkRecipe
from matml.properties.networks.metatrain import episode_batch


@pytest.fixture
def numbers():
    return np.random.default_rng(3)


def test_support_ridge_takes_the_penalty_of_the_lowest_left_out_error(numbers):
    x, y = numbers.normal(size=(3, 7, 5)), numbers.normal(size=(3, 7))
    y[0] = x[0] @ np.arange(5.0)
    query = [numbers.normal(size=(m, 5)) for m in (2, 4, 3)]
    found = support_ridge(x, y, query)
    for own_x, own_y, own_query, prediction in zip(x, y, query, found, strict=True):
        models = [Ridge(penalty * 5) for penalty in PENALTIES]
        errors = [
            np.square(cross_val_predict(m, own_x, own_y, cv=LeaveOneOut()) - own_y).mean()
            for m in models
        ]
        best = models[int(np.argmin(errors))].fit(own_x, own_y)
        np.testing.assert_allclose(prediction, best.predict(own_query), rtol=1e-7)


def test_support_gp_takes_the_kernel_of_the_highest_marginal_likelihood(numbers):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    x = numbers.normal(size=(2, 8, 3))
    y = np.stack([x[0].sum(1), numbers.normal(size=8)])
    query = [numbers.normal(size=(4, 3)) for _ in range(2)]
    found = support_gp(x, y, query)
    for own_x, own_y, own_query, prediction in zip(x, y, query, found, strict=True):
        centred, best = own_y - own_y.mean(), (-np.inf, None)
        for length in LENGTHS:
            for noise in NOISES:
                shape = Matern(length * np.sqrt(3), nu=1.5)
                gram = shape(own_x) + noise * np.eye(8)
                variance = centred @ np.linalg.solve(gram, centred) / 8
                kernel = ConstantKernel(variance) * shape + WhiteKernel(variance * noise)
                process = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0)
                process.fit(own_x, centred)
                best = max(
                    best, (process.log_marginal_likelihood_value_, process), key=lambda v: v[0]
                )
        expected = best[1].predict(own_query) + own_y.mean()
        np.testing.assert_allclose(prediction, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("model", [support_ridge, support_gp])
def test_one_label_is_the_prediction_and_two_are_no_trouble(numbers, model, shots):
    x, y = numbers.normal(size=(4, shots, 6)), numbers.normal(size=(4, shots))
    query = [numbers.normal(size=(3, 6))] * 4
    found = np.stack(model(x, y, query))
    assert np.isfinite(found).all()
    if shots == 1:
        np.testing.assert_allclose(found, np.tile(y, 3), rtol=1e-9)


def test_pooled_ridge_with_a_support_is_the_ridge_of_all_with_its_weights(numbers):
    x, y = numbers.normal(size=(40, 4)) * 3 + 1, numbers.normal(size=40)
    support, labels, query = numbers.normal(size=(3, 4)), numbers.normal(size=3), x[:6] + 0.5
    pooled = PooledRidge(x, y, 0.1)
    centre, scale = x.mean(0), x.std(0)
    alpha = 0.1 * 40 / 5
    everything = (np.vstack([x, support]) - centre) / scale
    weights = np.r_[np.ones(40), np.full(3, 10.0)]
    expected = Ridge(alpha).fit(everything, np.r_[y, labels], sample_weight=weights)
    np.testing.assert_allclose(
        pooled.adapt(support, labels, query, 10.0),
        expected.predict((query - centre) / scale),
        rtol=1e-5,
    )
    plain = Ridge(alpha).fit((x - centre) / scale, y)
    np.testing.assert_allclose(
        pooled.predict(query), plain.predict((query - centre) / scale), rtol=1e-5
    )


@pytest.fixture
def episodes():
    rows = [
        {"episode": i, "part": part, "family": f, "shots": k, "support": s[:k], "query": s[4:]}
        for i, (part, f, k, s) in enumerate(
            (part, f, k, [*range(start, start + 8)])
            for part, f, start in (("validation", "a", 60), ("test", "b", 70))
            for k in (0, 2, 4)
        )
    ]
    return pd.DataFrame(rows)


def test_the_shared_posterior_is_that_of_each_episode(numbers, episodes):
    x, y = numbers.normal(size=(80, 3)), numbers.normal(size=80)
    model = GlobalGP(subset=40, steps=3).fit(x[:60], y[:60])
    found = adapt_global_gp(model, x, y, episodes)
    for episode in episodes.itertuples():
        support = np.array(episode.support, int)
        expected = model.adapt(x[support], y[support], x[episode.query])
        np.testing.assert_allclose(found[episode.episode], expected, rtol=1e-8)


def test_pooled_ridge_is_tuned_on_validation_families_only(numbers, episodes):
    x, y = numbers.normal(size=(80, 3)), numbers.normal(size=80)
    before = pooled_ridge(x, y, np.arange(60), episodes)
    y[74:78] += 100.0
    after = pooled_ridge(x, y, np.arange(60), episodes)
    np.testing.assert_array_equal([*before.values()], [*after.values()])
    assert any(
        name == "support_gp" for _, name, _ in by_support_alone(x, y, np.arange(60), episodes)
    )


@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("method", ["ridge_head", "gp_head"])
def test_a_closed_head_predicts_as_the_whole_network_does(crystals, names, targets, method, shots):
    batches = GraphBatches(crystals, targets)
    recipe = NetworkRecipe(tuple(names), {"width": 8, "layers": 1}, {}, 1, 0.01)
    torch.manual_seed(0)
    network = recipe.build().eval()
    inner = recipe.build_inner(network, method)
    assert isinstance(inner, GaussianHead)
    rows = np.flatnonzero(~np.isnan(targets[:, 0]))[:12]
    support, query = rows[:shots], rows[shots:]
    model = inner.adapt(network, None, episode_batch(batches, support, 0))
    with torch.no_grad():
        expected = model(episode_batch(batches, query, 0))[:, 0].numpy()
        loss = gaussian_loss(inner.read)(model, episode_batch(batches, query, 0))
    assert torch.isfinite(loss)
    head = ClosedHead(network, inner, 0)
    features = head.features(batches)
    labels = targets[support, 0]
    found = head.predict(features[support], labels, features[query])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    before = head.predict(features[:0], labels[:0], features[query])
    with torch.no_grad():
        plain = network(batches.batch(query))[:, 0].numpy()
    np.testing.assert_allclose(before, plain, atol=1e-6)
