"""Conditioning, the marginal likelihood and its gradient are those of gpytorch."""

import gpytorch
import numpy as np
import pytest
import torch
from gpytorch.kernels import ConstantKernel, LinearKernel, MaternKernel, ScaleKernel

from matml.gp.condition import condition
from matml.gp.exact import GlobalGP, negative_log_likelihood
from matml.gp.joint import JointProcess
from matml.gp.kernels import JITTER, DescriptorKernel

D = 4


class Oracle(gpytorch.models.ExactGP):
    """Our kernel, written in gpytorch's terms, with hyper-parameters by their logarithms."""

    def __init__(self, x, y, logarithms):
        likelihood = gpytorch.likelihoods.GaussianLikelihood(
            noise_constraint=gpytorch.constraints.GreaterThan(1e-9)
        )
        super().__init__(x, y, likelihood.double())
        self.mean_module = gpytorch.means.ZeroMean()
        matern = ScaleKernel(MaternKernel(nu=1.5, ard_num_dims=x.shape[1]))
        linear, constant = ScaleKernel(LinearKernel()), ConstantKernel()
        self.covar_module = (matern + linear + constant).double()
        values = logarithms.exp()
        matern.base_kernel.lengthscale = 1 / values[:-4]
        matern.outputscale, constant.constant = values[-4], values[-2]
        linear.base_kernel.variance, linear.outputscale = 1 / x.shape[1], values[-3]
        self.likelihood.noise = values[-1] + JITTER

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def log_likelihood(self):
        self.train()
        mll = gpytorch.mlls.ExactMarginalLogLikelihood(self.likelihood, self)
        return mll(self(*self.train_inputs), self.train_targets) * len(self.train_targets)


@pytest.fixture(autouse=True)
def exact():
    with gpytorch.settings.fast_computations(False, False, False):
        yield


@pytest.fixture
def points():
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.normal(size=(40, D)))
    y = torch.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.1 * torch.from_numpy(generator.normal(size=40))
    logarithms = torch.tensor([-0.5, 0.1, -1.0, 0.4, 0.2, -0.7, -1.3, -3.0], dtype=torch.float64)
    return x, y, logarithms


def test_the_marginal_likelihood_and_its_gradient(points):
    x, y, logarithms = points
    found, gradient = negative_log_likelihood(x, y, logarithms)
    constant = 0.5 * len(x) * np.log(2 * np.pi)
    expected = -Oracle(x, y, logarithms).log_likelihood().item()
    assert found + constant == pytest.approx(expected, rel=1e-9)
    step = 1e-4
    for place, own in enumerate(gradient.tolist()):
        ends = []
        for sign in (-1, 1):
            moved = logarithms.clone()
            moved[place] += sign * step
            ends.append(-Oracle(x, y, moved).log_likelihood().item())
        assert own == pytest.approx((ends[1] - ends[0]) / 2 / step, rel=1e-5, abs=1e-6)
    # and, to more digits, gpytorch's own derivatives by the inverse lengths and the variance
    oracle = Oracle(x, y, logarithms)
    matern = oracle.covar_module.kernels[0]
    raw = matern.base_kernel.raw_lengthscale, matern.raw_outputscale
    by_raw = torch.autograd.grad(-oracle.log_likelihood(), raw)
    by_length = by_raw[0] / torch.sigmoid(raw[0])
    torch.testing.assert_close(gradient[:D], -(by_length * matern.base_kernel.lengthscale)[0])
    by_variance = by_raw[1] / torch.sigmoid(raw[1]) * matern.outputscale
    torch.testing.assert_close(gradient[D], by_variance.detach())


def test_the_global_process(points):
    x, y, _ = points
    process = GlobalGP(subset=30, steps=10).fit(x[:30].numpy(), y[:30].numpy())
    standard = torch.from_numpy(process.standardisation.apply(x.numpy()))
    targets = (y[:30] - process.mean) / process.deviation
    kernel = process.kernel
    learned = torch.cat([kernel.weights, kernel.variance, (process.noise - JITTER)[None]]).log()
    oracle = Oracle(standard[:30], targets, learned).eval()
    expected = oracle(standard[30:])
    mean, covariance = process.posterior(x[30:].numpy())
    scale = process.deviation
    torch.testing.assert_close(mean, expected.mean.detach() * scale + process.mean)
    full = expected.covariance_matrix.detach() * scale**2
    torch.testing.assert_close(covariance, full, rtol=1e-6, atol=1e-8)


def test_conditioning_many_supports_at_once(points):
    x, y, logarithms = points
    values = logarithms.exp()
    kernel, noise = DescriptorKernel(values[:D], values[D:-1]), values[-1] + JITTER
    supports, query = torch.arange(24).reshape(3, 8), torch.arange(30, 40)
    gram = torch.stack([kernel(x[own], x[own]) for own in supports])
    cross = torch.stack([kernel(x[query], x[own]) for own in supports])
    given = condition(gram, noise, y[supports])
    for i, own in enumerate(supports):
        oracle = Oracle(x[own], y[own], logarithms).eval()
        expected = oracle(x[query])
        torch.testing.assert_close(given.mean(cross)[i], expected.mean.detach())
        left = kernel.diagonal(x[query]) - given.explained(cross)[i]
        torch.testing.assert_close(left, expected.variance.detach(), rtol=1e-6, atol=1e-9)


def test_labels_left_out_are_predicted_from_all_others(points):
    x, y, logarithms = points
    values = logarithms.exp()
    kernel, noise = DescriptorKernel(values[:D], values[D:-1]), values[-1] + JITTER
    blocks = [torch.tensor([3, 17, 18]), torch.arange(20, 30)]
    found = condition(kernel(x, x), noise, y).left_out(blocks)
    for rows, (residual, covariance) in zip(blocks, found, strict=True):
        others = torch.tensor([i for i in range(40) if i not in rows])
        oracle = Oracle(x[others], y[others], logarithms).eval()
        expected = oracle(x[rows])
        torch.testing.assert_close(y[rows] - residual, expected.mean.detach())
        noisy = expected.covariance_matrix.detach() + noise * torch.eye(len(rows))
        torch.testing.assert_close(covariance, noisy, rtol=1e-6, atol=1e-8)


def test_a_process_written_out_takes_labels_of_any_crystals(points):
    x, y, logarithms = points
    values = logarithms.exp()
    kernel = DescriptorKernel(values[:D], values[D:-1])
    joint = JointProcess(torch.zeros(40).double(), float(values[-1] + JITTER), kernel(x, x))
    rows, query = [5, 2, 11], [0, 39]
    mean, variance, given = joint.predict(rows, y[rows].numpy(), query)
    expected = Oracle(x[rows], y[rows], logarithms).eval()(x[query])
    torch.testing.assert_close(mean, expected.mean.detach())
    torch.testing.assert_close(variance, expected.variance.detach(), rtol=1e-6, atol=1e-9)
    gram = joint.covariance[rows][:, rows] + joint.noise * torch.eye(3)
    assert float(given.misfit) == pytest.approx(float(y[rows] @ torch.linalg.solve(gram, y[rows])))
    # without labels it is as it was
    mean, variance, given = joint.predict([], np.zeros(0), query)
    torch.testing.assert_close(variance, kernel.diagonal(x[query]))
    assert not mean.any()
    assert float(given.misfit) == 0


def test_a_covariance_that_is_none_is_an_error():
    gram = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    with pytest.raises(torch.linalg.LinAlgError):
        condition(gram, 0.0, torch.zeros(2, dtype=torch.float64))
