"""Rows in blocks: the exact process where nothing is left out, and never far from it."""

import numpy as np
import pytest
import torch

from matml.gp.exact import GlobalGP
from matml.gp.kernels import DescriptorKernel
from matml.gp.partition import PartitionedRows, Split, split
from matml.gp.rows import AllRows

NOISE = torch.tensor(0.01, dtype=torch.float64)


@pytest.fixture(scope="module")
def kernel():
    return DescriptorKernel(
        torch.linspace(0.5, 0.2, 6).double(), torch.tensor([1, 0.1, 0.3]).double()
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(size=(700, 6)))
    y = (
        torch.sin(2 * x[:, 0]) * x[:, 1].cos()
        + 0.5 * x[:, 2]
        + 0.1 * torch.from_numpy(random.normal(size=700))
    )
    return x[:500], y[:500], x[500:]


def rows(kernel, data, **options):
    x, y, _ = data
    return PartitionedRows(kernel, NOISE, x, y, **({"dtype": torch.float64} | options))


def said(rows, kernel, x):
    """Return mean, covariance, and what `at` says of crystals beside the first five."""
    block = rows.at(x, rows.anchor(x[:5]), kernel(x, x[:5]), kernel.diagonal(x))
    return *rows.posterior(x), block.mean, block.cross, block.variance


def test_one_block_is_the_exact_process(kernel, data):
    exact = said(AllRows(kernel, NOISE, *data[:2]), kernel, data[2])
    found = said(rows(kernel, data, inducing=40, largest=500), kernel, data[2])
    for own, wanted in zip(found, exact, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-9)


def test_with_all_rows_inducing_blocks_say_what_the_exact_process_does(kernel, data):
    exact = AllRows(kernel, NOISE, *data[:2])
    found = rows(kernel, data, inducing=500, largest=100)
    mean, covariance = exact.posterior(data[2])
    own, spread = found.posterior(data[2])
    # but for the variance that is added to that of the inducing rows
    torch.testing.assert_close(own, mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(spread.diagonal(), covariance.diagonal(), rtol=0, atol=1e-4)


def test_fewer_inducing_rows_and_smaller_blocks_lose_little(kernel, data):
    exact, _ = AllRows(kernel, NOISE, *data[:2]).posterior(data[2])
    flat = (exact - data[1].mean()).square().mean()
    lost = [
        (rows(kernel, data, inducing=m, largest=b).mean(data[2]) - exact).square().mean() / flat
        for m, b in ((20, 32), (100, 125), (100, 250))
    ]
    assert lost[0] > lost[1] > lost[2]
    assert lost[1] < 0.05


def test_it_is_a_gaussian_process(kernel, data):
    """Covariances are those of the approximate prior, written out and conditioned as any other."""
    x, y, query = data
    found = rows(kernel, data, inducing=60, largest=125)
    everything = torch.cat([x, query])
    low = torch.linalg.solve_triangular(
        found.factor.mT, found.far.covariance(everything), upper=True, left=False
    )
    prior, through = kernel(everything, everything), low @ low.mT
    block = found.split.blocks(everything * kernel.weights)
    prior = torch.where(block[:, None] == block, prior, through)
    gram = prior[:500, :500] + NOISE * torch.eye(500)
    solved = torch.linalg.solve(gram, prior[:500, 500:])
    own, *beside = said(found, kernel, query)
    torch.testing.assert_close(own, solved.mT @ y, rtol=1e-8, atol=1e-8)
    covariance = prior[500:, 500:] - prior[500:, :500] @ solved
    wanted = covariance, own, covariance[:, :5], covariance.diagonal()
    for each, full in zip(beside, wanted, strict=True):
        torch.testing.assert_close(each, full, rtol=1e-7, atol=1e-8)
    assert torch.linalg.eigvalsh(beside[0])[0] > 0


def test_single_precision_is_enough(kernel, data):
    exact, single = (
        said(rows(kernel, data, inducing=100, largest=125, dtype=dtype), kernel, data[2])
        for dtype in (torch.float64, torch.float32)
    )
    for own, wanted in zip(single, exact, strict=True):
        assert own.dtype == torch.float64
        torch.testing.assert_close(own, wanted, rtol=0, atol=1e-5)


def test_a_crystal_lies_in_the_same_block_in_any_company(data):
    x = data[0]
    found = split(x, 60)
    assert isinstance(found, Split)
    blocks = found.blocks(x)
    sizes = blocks.bincount()
    assert sizes.max() <= 60
    assert sizes.min() >= 15
    assert torch.equal(found.blocks(x[::7]), blocks[::7])
    # rows that are all alike cannot be parted
    assert split(torch.ones(90, 3), 60) == 0


def test_a_process_of_many_rows_is_partitioned_and_survives_its_file(data):
    x, y, query = (each.numpy() for each in data)
    settings = {"subset": 60, "steps": 5}
    exact = GlobalGP(**settings).fit(x, y)
    blocks = GlobalGP(**settings, exact_up_to=499).fit(x, y)
    assert not exact.partitioned
    assert "partitioned" not in exact.hyper_parameters()
    assert isinstance(blocks.rows, PartitionedRows)
    again = GlobalGP.from_hyper_parameters(blocks.hyper_parameters()).refit(x, y)
    np.testing.assert_array_equal(again.predict(query), blocks.predict(query))
    # these rows are one block
    np.testing.assert_allclose(blocks.predict(query), exact.predict(query), atol=1e-5)


def test_rows_read_from_a_file_make_only_the_blocks_that_are_asked_for(kernel, data):
    x, y, query = data
    given = {"inducing": 100, "largest": 125, "dtype": torch.float32}
    fitted = rows(kernel, data, **given)
    again = rows(kernel, data, learned=fitted.tensors(), **given)
    assert not again._neighbours
    one = query[again._blocks(query) == 2]
    torch.testing.assert_close(again.mean(one), fitted.mean(one), rtol=0, atol=0)
    assert list(again._neighbours) == [2]
    for own, wanted in zip(said(again, kernel, query), said(fitted, kernel, query), strict=True):
        torch.testing.assert_close(own, wanted, rtol=0, atol=0)
    for name, own in again.tensors().items():
        assert torch.equal(own, fitted.tensors()[name]), name
    # what was learned of other rows is not taken
    moved = x, y + 0.01, query
    other, wanted = (
        rows(kernel, moved, learned=fitted.tensors(), **given),
        rows(kernel, moved, **given),
    )
    torch.testing.assert_close(other.mean(query), wanted.mean(query), rtol=0, atol=0)


def test_a_process_in_blocks_is_the_same_from_its_file():
    random = np.random.default_rng(1)
    x, query = random.normal(size=(1100, 3)), random.normal(size=(40, 3))
    y = np.sin(x[:, 0])
    fitted = GlobalGP(subset=60, steps=3, exact_up_to=1000).fit(x, y)
    assert fitted.rows.tensors()
    again = GlobalGP.from_hyper_parameters(fitted.hyper_parameters()).refit(x, y)
    assert not again.rows._neighbours
    for own, wanted in zip(again.posterior(query), fitted.posterior(query), strict=True):
        assert torch.equal(own, wanted)
    # fewer rows are learned from anew
    fewer = (process.refit(x[:1050], y[:1050]).posterior(query)[0] for process in (again, fitted))
    assert torch.equal(*fewer)
