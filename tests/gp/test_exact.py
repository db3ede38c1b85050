"""The global process predicts, and what it prepares equals the plain posterior."""

import numpy as np
import pytest
import torch

from matml.gp.exact import GlobalGP
from matml.gp.rows import SINGLE_FROM


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


def test_prepared_rows_in_single_precision_equal_the_plain_posterior(shipped):
    """On the crystals that the shipped model was trained on, at them and beside them."""
    models = shipped.fitted("formation_energy_eV_per_atom").method.fitted.models
    known = shipped.training
    column = shipped.recipe.properties.index("formation_energy_eV_per_atom")
    rows = ~known["targets"][:, column].isnan()
    plain = known["descriptors"][rows].numpy()
    both = np.hstack([plain, known["predictions"][rows].numpy()])
    for gp, own in ((models.residual, both), (models.descriptors, plain), (models.augmented, both)):
        assert len(own) >= SINGLE_FROM
        some = torch.from_numpy(gp.standardisation.apply(own[::40]))
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=some.shape))
        x = torch.cat([some, some + 0.05 * noise, some + 2 * noise])
        features = x.numpy() * gp.standardisation.deviation + gp.standardisation.mean
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
