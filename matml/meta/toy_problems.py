"""Published test problems of meta-learning: sine waves, and linear functions.

The sine waves are those of the MAML paper (Finn et al. 2017, arXiv:1703.03400, section 5.1), with
the figures that the Meta-SGD paper gives for one inner step (Li et al. 2017, arXiv:1707.09835,
table 1). For linear functions the best possible error is known.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from matml.meta.inner.closed_form import GaussianHead, gaussian_loss
from matml.meta.inner.gradient import (
    GradientSteps,
)
from matml.meta.inner.head import (
    HeadSteps,
)
from matml.meta.layers import Linear
from matml.meta.outer import MAML
from matml.meta.tasks import InnerLoop, Loss, Task, draw_batches
from matml.meta.train import MetaTraining, meta_train
from matml.meta.vectorised import TENSORS, query_losses_of_many

PUBLISHED = {
    ("MAML", 5): (1.13, 0.18),
    ("MAML", 10): (0.85, 0.14),
    ("Meta-SGD", 5): (0.90, 0.16),
    ("Meta-SGD", 10): (0.63, 0.12),
}
"""(method, test shots): mean squared error and half-width of its interval, models of 5 shots."""

TEST_POINTS = 100
"""Query points of a test task."""


def mean_square(model: Callable[[Tensor], Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error on (inputs, values), of one task or of each of several."""
    return (model(data[0]) - data[1]).square().mean((-2, -1))


def draw_sine(
    generator: torch.Generator, shots: int, queries: int, dtype: torch.dtype = torch.float32
) -> Task:
    """Return a sine wave: amplitude 0.1 to 5, phase 0 to pi, inputs -5 to 5, all uniform."""
    amplitude, phase = torch.rand(2, generator=generator)
    x = (10 * torch.rand(shots + queries, 1, generator=generator) - 5).to(dtype)
    y = (0.1 + 4.9 * amplitude) * torch.sin(x - math.pi * phase)
    return Task("sine", (x[:shots], y[:shots]), (x[shots:], y[shots:]))


class Stackable(nn.Sequential):
    """Layers one after the other, each of which takes weights stacked over tasks."""

    stackable = True


def sine_network() -> nn.Sequential:
    """Return the paper's network: two hidden layers of 40, ReLU."""
    return Stackable(Linear(1, 40), nn.ReLU(), Linear(40, 40), nn.ReLU(), Linear(40, 1))


@dataclass(frozen=True)
class Method:
    """How a method meta-trains and is tested.

    Attributes
    ----------
    inner
        From a network to its inner loop.
    loss
        Of training; tests take the mean squared error.
    plain
        Whether it is one of the published algorithms under their protocol (one inner step).
    share
        Part of the iterations that it is given.
    dtype
        Closed forms solve nearly singular systems where the noise is learned to be small.
    """

    inner: Callable[[nn.Module], InnerLoop]
    loss: Loss = mean_square
    plain: bool = False
    share: float = 1.0
    dtype: torch.dtype = torch.float32


METHODS = {
    "MAML": Method(lambda net: GradientSteps(net, steps=1, learning_rate=0.01), plain=True),
    "Meta-SGD": Method(
        lambda net: GradientSteps(net, steps=1, learning_rate=0.01, learn_rates="entry"), plain=True
    ),
    "head only, 5 steps": Method(
        lambda net: HeadSteps(net, "4", steps=5, learning_rate=0.01, learn_rates="step"), share=0.3
    ),
    "rates per layer and step, 5 steps": Method(
        lambda net: GradientSteps(net, steps=5, learning_rate=0.01, learn_rates="step"), share=0.3
    ),
    "ridge head": Method(
        lambda net: GaussianHead(net, "4", kernel="full").double(),
        loss=gaussian_loss(),
        share=0.3,
        dtype=torch.float64,
    ),
    "Gaussian-process head": Method(
        lambda net: GaussianHead(net, "4", kernel="rbf").double(),
        loss=gaussian_loss(),
        share=0.3,
        dtype=torch.float64,
    ),
}


def train_sine(name: str, *, iterations: int, seed: int) -> tuple[nn.Module, InnerLoop]:
    """Return network and inner loop, meta-trained on 5 points of support and 5 of query.

    Meta-batches of 25 sine waves, Adam from 1e-3 (half cosine to zero).
    """
    method = METHODS[name]
    torch.manual_seed(seed)
    network = sine_network().to(method.dtype)
    inner = method.inner(network)
    batches = max(1, round(iterations * method.share))
    settings = MetaTraining(
        batches=batches,
        tasks_per_batch=25,
        learning_rate=1e-3,
        rates_learning_rate=1e-3,
        validate_every=batches,
        seed=seed,
    )
    meta_train(
        network,
        method.loss,
        inner,
        MAML(),
        lambda generator: draw_sine(generator, 5, 5, method.dtype),
        settings,
        stacking=TENSORS,
        title=name,
    )
    return network, inner


def errors_on_new_waves(
    network: nn.Module, inner: InnerLoop, *, shots: int, tasks: int, seed: int
) -> Tensor:
    """Return the mean squared error after adaptation on each of many new sine waves, [tasks]."""
    dtype = next(network.parameters()).dtype

    def draw(generator: torch.Generator) -> Task:
        return draw_sine(generator, shots, TEST_POINTS, dtype)

    return _adapted_errors(network, inner, _new_tasks(draw, tasks, seed))


def _new_tasks(draw: Callable[[torch.Generator], Task], tasks: int, seed: int) -> list[Task]:
    """Return test tasks, which share no seed with those of training."""
    return next(draw_batches(draw, tasks, seed=seed + 1_000_003))


def _adapted_errors(network: nn.Module, inner: InnerLoop, tasks: Sequence[Task]) -> Tensor:
    """Return the mean squared error of each task's query after adaptation, [tasks]."""
    supports = TENSORS.stack([task.support for task in tasks])
    queries = TENSORS.stack([task.query for task in tasks])
    rule, rebuild = MAML(second_order=False), TENSORS.rebuild
    return query_losses_of_many(
        network, mean_square, inner, rule, supports, queries, rebuild
    ).detach()


def sinusoid(
    names: Sequence[str], *, iterations: int, tasks: int, seed: int, test_shots: Sequence[int]
) -> list[dict]:
    """Meta-train each method and return tidy records of its errors on new sine waves.

    The same test waves for all methods; intervals are those of the mean over tasks, 95 %.
    """
    records = []
    for name in names:
        network, inner = train_sine(name, iterations=iterations, seed=seed)
        for shots in test_shots:
            errors = errors_on_new_waves(network, inner, shots=shots, tasks=tasks, seed=seed)
            records.append(_record("sinusoid", name, shots, errors, seed))
    return records


@dataclass(frozen=True)
class LinearTasks:
    """Tasks y = w . [x, 1] + noise with w ~ N(mean, factor factor^T), in `width` inputs.

    Attributes
    ----------
    mean, factor
        [width + 1] and [width + 1, width + 1].
    noise
        Standard deviation.
    """

    mean: Tensor
    factor: Tensor
    noise: float

    @classmethod
    def of(cls, width: int, noise: float, seed: int) -> "LinearTasks":
        """Return a population with random mean and covariance."""
        generator = torch.Generator().manual_seed(seed)
        mean = torch.randn(width + 1, generator=generator, dtype=torch.float64)
        factor = torch.randn(width + 1, width + 1, generator=generator, dtype=torch.float64)
        return cls(mean, factor / math.sqrt(width + 1), noise)

    def draw(self, generator: torch.Generator, shots: int, queries: int) -> Task:
        """Return one linear function."""
        width = len(self.mean) - 1

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        weights = self.mean + self.factor @ normal(width + 1)
        x = normal(shots + queries, width)
        y = (x @ weights[:-1] + weights[-1] + self.noise * normal(shots + queries))[:, None]
        return Task("linear", (x[:shots], y[:shots]), (x[shots:], y[shots:]))

    def bayes(self, task: Task) -> float:
        """Return the query's mean squared error of the Bayes-optimal prediction."""
        x, new = (
            torch.cat([d[0], torch.ones_like(d[0][:, :1])], 1) for d in (task.support, task.query)
        )
        covariance = self.factor @ self.factor.mT
        gram = x @ covariance @ x.mT + self.noise**2 * torch.eye(len(x), dtype=x.dtype)
        residual = task.support[1][:, 0] - x @ self.mean
        weights = self.mean + covariance @ x.mT @ torch.linalg.solve(gram, residual)
        return (new @ weights - task.query[1][:, 0]).square().mean().item()


def linear(*, iterations: int, tasks: int, seed: int, width: int = 4, shots: int = 5) -> list[dict]:
    """Meta-train a ridge head on linear functions; return tidy records beside the best possible."""
    population = LinearTasks.of(width, 0.3, seed)
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Identity(), nn.Linear(width, 1)).double()
    inner = GaussianHead(network, "1", kernel="full").double()
    settings = MetaTraining(
        batches=iterations,
        tasks_per_batch=25,
        learning_rate=0.03,
        rates_learning_rate=0.03,
        validate_every=iterations,
        seed=seed,
    )
    meta_train(
        network,
        gaussian_loss(),
        inner,
        MAML(),
        lambda generator: population.draw(generator, shots, 10),
        settings,
        stacking=TENSORS,
        title="ridge head",
    )
    drawn = _new_tasks(lambda g: population.draw(g, shots, TEST_POINTS), tasks, seed)
    found = _adapted_errors(network, inner, drawn)
    best = torch.tensor([population.bayes(task) for task in drawn], dtype=torch.float64)
    methods = {"Bayes-optimal": best, "ridge head": found}
    return [_record("linear", name, shots, errors, seed) for name, errors in methods.items()]


def _record(setting: str, method: str, shots: int, errors: Tensor, seed: int) -> dict:
    """Return one tidy record of the mean of errors [tasks], with its normal 95 % interval."""
    mean, half = errors.mean().item(), 1.96 * errors.std().item() / math.sqrt(len(errors))
    return {
        "benchmark": "meta",
        "setting": setting,
        "method": method,
        "is_default": False,
        "shots": shots,
        "metric": "mse",
        "value": mean,
        "low": mean - half,
        "high": mean + half,
        "n_tasks": len(errors),
        "seed": seed,
    }
