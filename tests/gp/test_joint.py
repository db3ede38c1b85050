"""A process over many crystals says what the same one written out does."""

import numpy as np
import pytest
import torch

from matml.gp import joint
from matml.gp.exact import GlobalGP
from matml.gp.joint import JointProcess, WideProcess
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Episode
from matml.screening.acquire import acquisition


@pytest.fixture(scope="module")
def processes():
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 4))
    process = GlobalGP(subset=30, steps=5).fit(x[:30], np.sin(x[:30, 0]))
    written = process.joint(x[30:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("matml.gp.exact.WRITTEN_OUT", 100)
        patch.setattr(joint, "CHUNK", 50)
        return written, process.joint(x[30:])


def test_only_what_is_asked_for_is_made(processes):
    written, wide = processes
    assert isinstance(written, JointProcess)
    assert isinstance(wide, WideProcess)
    torch.testing.assert_close(wide.mean, written.mean)
    torch.testing.assert_close(wide.variance(), written.variance())
    wide.prepare([3, 100])
    torch.testing.assert_close(wide.beside([100, 7, 3]), written.beside([100, 7, 3]))
    assert sorted(wide.known) == [3, 7, 100]
    assert wide.beside([]).shape == (120, 0)


def test_pools_predict_and_choose_alike(processes, monkeypatch):
    first, second = (JointPool(each, each.noise) for each in processes)
    labels = np.random.default_rng(1).normal(size=120)
    episodes = [
        Episode(rows, labels[rows], np.arange(60, 120))
        for rows in (np.arange(0), np.arange(5), np.arange(3, 40, 4))
    ]
    for one, other in zip(first.predict(episodes), second.predict(episodes), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    rows = [1, 50, 119]
    mean, covariance = first.joint(rows, labels[rows])
    some = np.array([9, 4, 77])
    np.testing.assert_allclose(first.joint(rows, labels[rows], some)[1], covariance[:, some])
    turned, _ = second.turned().joint(rows, -labels[rows], some)
    np.testing.assert_allclose(turned, -mean, rtol=1e-6)
    wanted = acquisition.acquisition("information", first, rows, labels[rows])
    monkeypatch.setattr(acquisition, "WRITTEN_OUT", 100)
    monkeypatch.setattr(acquisition, "STANDING_FOR_ALL", 120)
    found = acquisition.acquisition("information", second, rows, labels[rows])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
