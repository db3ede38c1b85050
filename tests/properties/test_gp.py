"""Gaussian processes agree with independent ones, and learn what episodes teach."""

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from matml.gp.cross_covariance import SINGLE_FROM
from matml.gp.exact import GlobalGP
from matml.gp.residual import ResidualGP, learn_residual_gp
from matml.properties.predictor.few_shot import FewShotPredictor


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 5))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * generator.normal(size=120)
    return x, y


@pytest.fixture(scope="module")
def fitted(data):
    x, y = data
    return GlobalGP(subset=80, steps=40).fit(x[:80], y[:80])


def test_global_gp_predicts(data, fitted):
    x, y = data
    error = np.abs(fitted.predict(x[80:]) - y[80:]).mean()
    assert error < 0.3 * np.abs(y[80:] - y[:80].mean()).mean()


def test_conditioning_on_a_support_equals_fitting_to_all_rows(data, fitted):
    x, y = data
    updated = fitted.adapt(x[80:90], y[80:90], x[90:])
    whole = fitted.refit(x[:90], y[:90]).predict(x[90:])
    np.testing.assert_allclose(updated, whole, atol=1e-8)


def test_prepared_rows_in_single_precision_equal_the_plain_posterior():
    """On the crystals that the shipped model was trained on, at them and beside them."""
    predictor = FewShotPredictor.load()
    models = predictor.fitted_stack("formation_energy_eV_per_atom").models
    for gp in (models.residual, models.descriptors, models.augmented):
        assert len(gp.x) >= SINGLE_FROM
        some = gp.x[::40]
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=some.shape))
        x = torch.cat([some, some + 0.05 * noise, some + 2 * noise])
        features = x.numpy() * gp.scale + gp.centre
        mean, covariance = gp.posterior(features)
        block, before = gp.at(features, gp.anchor(features[:5]))
        prior = gp.prior(features)
        spread = covariance.diagonal()
        np.testing.assert_allclose(block.mean, mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(block.cross, covariance[:, :5], atol=1e-8 * prior.max())
        np.testing.assert_allclose(before.variance, prior.diagonal(), rtol=1e-9)
        off = (block.variance - spread).abs()
        assert (off <= 1e-5 * prior.diagonal()).all()
        # what is rounded off is far below what is not known, the noise included
        assert (off <= 1e-3 * (spread + gp.noise * gp.deviation**2)).all()
        assert (block.variance > 0).all()


def test_hyper_parameters_survive_storage(data, fitted):
    x, y = data
    again = GlobalGP.from_hyper_parameters(fitted.hyper_parameters()).refit(x[:80], y[:80])
    np.testing.assert_allclose(again.predict(x[80:]), fitted.predict(x[80:]), atol=1e-10)


def test_residual_gp_equals_scikit_learn(data):
    x, y = data
    model = ResidualGP(np.zeros(5), np.ones(5), shift=0.3, variance=0.7, noise=0.1, length=0.8)
    mean, deviation = model.correct(x[:10], y[:10], x[10:20])
    kernel = ConstantKernel(0.3) + 0.7 * Matern(0.8 * np.sqrt(5), nu=1.5) + WhiteKernel(0.1 + 1e-6)
    oracle = GaussianProcessRegressor(kernel, optimizer=None).fit(x[:10], y[:10])
    expected, expected_deviation = oracle.predict(x[10:20], return_std=True)
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(deviation, expected_deviation, atol=1e-5)


def test_no_support_means_no_correction(data):
    x, _ = data
    model = ResidualGP(np.zeros(5), np.ones(5), shift=0.3, variance=0.7, noise=0.1, length=0.8)
    mean, deviation = model.correct(x[:0], np.zeros(0), x[:4])
    np.testing.assert_allclose(mean, 0)
    np.testing.assert_allclose(deviation, np.sqrt(1.1), rtol=1e-6)


@pytest.mark.parametrize("shifted", [True, False])
def test_learns_whether_families_are_shifted(shifted):
    generator = np.random.default_rng(1)
    features = generator.normal(size=(400, 3))
    residuals = 0.1 * generator.normal(size=400)
    if shifted:
        residuals += np.repeat(generator.normal(size=20), 20)
    episodes = []
    for family in range(20):
        rows = generator.permutation(np.arange(20 * family, 20 * family + 20))
        episodes.append((rows[:5], rows[5:]))
    model = learn_residual_gp(features, residuals, episodes)
    support, query = episodes[0]
    correction, _ = model.correct(features[support], residuals[support], features[query])
    left = np.abs(residuals[query] - correction).mean()
    if shifted:
        assert model.shift > 5 * model.noise
        assert left < 0.5 * np.abs(residuals[query]).mean()
    else:
        assert model.shift < model.noise
        assert left < 1.1 * np.abs(residuals[query]).mean()
