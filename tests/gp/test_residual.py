"""The residual process is scikit-learn's, and learns what episodes teach."""

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from matml.gp.residual import ResidualGP, learn_residual_gp


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 5))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * generator.normal(size=120)
    return x, y


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
