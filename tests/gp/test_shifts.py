"""A mean that may be shifted: held against the same thing written out."""

import math

import pytest
import torch
from scipy.stats import multivariate_t

from matml.gp.condition import condition
from matml.gp.shifts import CASES, Shifted, student_likelihood

K, M = 6, 4
FREEDOM, SPREAD = torch.tensor(4.0).double(), torch.tensor(0.7).double()
NOISE = torch.tensor(0.05).double()


@pytest.fixture
def process():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(K + M, 3, generator=generator, dtype=torch.float64)
    mean = torch.randn(K + M, generator=generator, dtype=torch.float64)
    return mean, torch.exp(-torch.cdist(x, x).square() / 4)


def given(process, labels, cases):
    mean, covariance = process
    known = condition(covariance[:K, :K], NOISE, labels - mean[:K])
    return Shifted.of(known, mean[:K], cases, student_likelihood(FREEDOM, SPREAD, K))


def at(shifted, process):
    mean, covariance = process
    factor = (FREEDOM * SPREAD + shifted.misfit) / (FREEDOM + K)
    return shifted.at(mean[K:], covariance[K:, :K], covariance.diagonal()[K:], NOISE, factor)


@pytest.mark.parametrize("case", [(0.0, 0.0, 1.0), (2.0, 0.0, 1.0), (5.0, 0.5, 1.0)])
def test_a_case_is_a_wider_covariance(process, case):
    mean, covariance = process
    labels = mean[:K] + torch.linspace(-1, 2, K).double()
    found = given(process, labels, (case,))
    basis = torch.stack([torch.ones(K + M).double(), mean], 1)
    wide = covariance + basis @ torch.diag(torch.tensor(case[:2]).double().square()) @ basis.T
    noisy = wide[:K, :K] + NOISE * torch.eye(K).double()
    law = multivariate_t(mean[:K], SPREAD * noisy, df=float(FREEDOM))
    assert float(found.evidence) == pytest.approx(law.logpdf(labels))
    expected = mean[K:] + wide[K:, :K] @ torch.linalg.solve(noisy, labels - mean[:K])
    left = wide[K:, K:] - wide[K:, :K] @ torch.linalg.solve(noisy, wide[:K, K:])
    misfit = (labels - mean[:K]) @ torch.linalg.solve(noisy, labels - mean[:K])
    factor = (FREEDOM * SPREAD + misfit) / (FREEDOM + K)
    predicted, deviation = at(found, process)
    torch.testing.assert_close(predicted, expected)
    torch.testing.assert_close(deviation, ((left.diagonal() + NOISE) * factor).sqrt())


def test_the_labels_tell_a_shift(process):
    mean, _ = process
    right = mean[:K] + 0.1 * torch.linspace(-1, 1, K).double()
    kept = given(process, right, CASES)
    assert kept.as_learned > 0.95
    moved = given(process, right + 30, CASES)
    assert moved.as_learned < 1e-3
    offset, slope = moved.expected
    assert offset == pytest.approx(30, abs=1.5)
    assert slope == pytest.approx(1, abs=0.3)
    # which is then what is predicted
    torch.testing.assert_close(at(moved, process)[0], at(kept, process)[0] + 30, atol=0.5, rtol=0)
    turned = given(process, -3 * right + 30, CASES)
    assert turned.expected[1] == pytest.approx(-3, abs=0.7)


def test_without_labels_nothing_is_shifted(process):
    mean, covariance = process
    empty = condition(covariance[:0, :0], NOISE, mean[:0])
    found = Shifted.of(empty, mean[:0], CASES, student_likelihood(FREEDOM, SPREAD, 0))
    factor = found.misfit.new_ones(1)
    predicted, deviation = found.at(
        mean[K:], covariance[K:, :0], covariance.diagonal()[K:], NOISE, factor
    )
    torch.testing.assert_close(predicted, mean[K:])
    torch.testing.assert_close(deviation, (covariance.diagonal()[K:] + NOISE).sqrt())


def test_cases_are_a_distribution():
    assert math.fsum(chance for *_, chance in CASES) == pytest.approx(1)
