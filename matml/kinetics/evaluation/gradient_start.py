"""A kinetic equation as a learner of `matml.meta`: meta-trained like any torch module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from matml.bayes.gauss_newton import GaussianPrior
from matml.bayes.tasks import Columns, Tasks, linearise
from matml.kinetics.equations.form.declaration import Equation
from matml.kinetics.evaluation.methods import GRADIENT_METHODS
from matml.kinetics.settings import KineticsSection
from matml.meta import (
    MAML,
    GradientSteps,
    History,
    MetaTraining,
    Task,
    meta_train,
    split_support_query,
)

LARGEST_GRADIENT = 10.0
"""Bound on an inner gradient's norm: a safeguard, since the loss bounds it already."""
CONTEXTS = 2
"""Of CAVIA."""


class EquationModule(nn.Module):
    """An equation whose weights are parameters in units of the population's spread.

    With u the weights, the standardised parameter vector is mean + factor u: a gradient step in u
    moves parameters as far as they differ among alloys, and along their correlations.

    Parameters
    ----------
    mean, factor
        Mean [P] of the population's standardised parameters and Cholesky factor [P, P] of their
        covariance; the weights start at the mean.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, equation: Equation, kind: str, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.equation = equation
        self.kind = kind
        self.register_buffer("mean", mean.clone())
        self.register_buffer("factor", factor.clone())
        self.position = nn.Parameter(torch.zeros_like(mean))

    def standardised(self) -> Tensor:
        """Return the standardised parameter vector [P]."""
        return self.mean + self.factor @ self.position

    def forward(self, columns: Columns) -> Tensor:
        """Return residuals for gradient descent [N], in noise widths."""
        return self.equation.descent_residual(self.kind, self.standardised(), columns)


class ContextModule(EquationModule):
    """The same with a few context parameters, which alone adapt to an alloy.

    CAVIA (Zintgraf et al. 2019, arXiv:1810.03642): position and directions along which contexts
    move it are shared and learned. The contexts' start is, too, which the position would take up.
    """

    def __init__(
        self, equation: Equation, kind: str, mean: Tensor, factor: Tensor, directions: Tensor
    ) -> None:
        super().__init__(equation, kind, mean, factor)
        self.directions = nn.Parameter(directions.clone())
        self.context = nn.Parameter(mean.new_zeros(directions.shape[1]))

    def standardised(self) -> Tensor:
        """Return the standardised parameter vector [P]."""
        return self.mean + self.factor @ (self.position + self.directions @ self.context)


def pseudo_huber(residual: Tensor) -> Tensor:
    """Return the pseudo-Huber loss 2 (sqrt(1 + r^2) - 1): r^2 when small, 2 |r| when large."""
    return 2 * ((1 + residual.square()).sqrt() - 1)


@dataclass(frozen=True)
class PseudoHuberLoss:
    """Mean pseudo-Huber loss of residuals in units of `scale`: the loss of a kinetic learner."""

    scale: float

    def __call__(self, model: Any, columns: Columns) -> Tensor:
        """Return the loss of a model (or a bound one) on columns [N]."""
        return pseudo_huber(model(columns) / self.scale).mean()


@dataclass(frozen=True)
class MetaLearned:
    """A meta-learned start: what a few gradient steps from it do for a new alloy.

    Attributes
    ----------
    start
        Standardised parameters [P].
    factor
        Steps are taken in u [U], where a standardised vector is start + factor u [P, U].
    rates
        Rate of each entry of u [U].
    scale
        Of the loss's residuals, in noise widths.
    """

    start: Tensor
    factor: Tensor
    rates: Tensor
    steps: int
    scale: float

    def adapt(self, equation: Equation, kind: str, tasks: Tasks) -> Tensor:
        """Return the adapted standardised parameters of all tasks, [B, P].

        The steps of `GradientSteps` on every task at once.
        """

        def loss(moved: Tensor, columns: Columns, mask: Tensor) -> Tensor:
            position = self.start + self.factor @ moved
            residual = equation.descent_residual(kind, position, columns)
            return (mask * pseudo_huber(residual / self.scale)).sum() / mask.sum()

        gradient_of = torch.func.vmap(torch.func.grad(loss))
        moved = self.factor.new_zeros(len(tasks), self.factor.shape[1])
        for _ in range(self.steps):
            gradient = gradient_of(moved, tasks.columns, tasks.mask)
            norm = gradient.norm(dim=1, keepdim=True)
            moved = moved - self.rates * gradient * (LARGEST_GRADIENT / (norm + 1e-12)).clamp(
                max=1.0
            )
        return self.start + moved @ self.factor.mT


def loss_scales(
    equation: Equation, kind: str, tasks: Tasks, prior: GaussianPrior
) -> tuple[float, float, Tensor]:
    """Return scale of residuals, curvature of the loss and its directions at the population mean.

    The scale, in noise widths, is the root mean square over training alloys: the loss is then
    about 1 before any step, and quadratic over the spread of the population. One over the
    curvature, a median over alloys of the trace in u, is the rate of a full step. Directions in u
    [P, P] are those of the mean curvature, the most curved first.
    """
    factor = torch.linalg.cholesky(prior.covariance)
    value, jacobian = linearise(
        lambda z, columns: equation.descent_residual(kind, z, columns),
        prior.mean.repeat(len(tasks), 1),
        tasks.columns,
    )
    scale = float(((tasks.mask * value.square()).sum() / tasks.mask.sum()).sqrt().clamp(min=1.0))
    slopes = jacobian @ factor / scale
    counts = tasks.mask.sum(1)
    curvature = 2 * (tasks.mask * slopes.square().sum(2)).sum(1) / counts
    seen = slopes * (tasks.mask / counts[:, None])[..., None].sqrt()
    _, directions = torch.linalg.eigh(torch.einsum("bnp,bnq->pq", seen, seen))
    return scale, float(curvature.median()), directions.flip(1)


def meta_learn(
    equation: Equation,
    kind: str,
    tasks: Tasks,
    prior: GaussianPrior,
    *,
    method: str,
    shots: Sequence[int],
    steps: int,
    rate: float,
    batches: int,
    tasks_per_batch: int,
    seed: int,
    title: str = "meta-training",
) -> tuple[MetaLearned, History]:
    """Meta-train an equation on alloys with `matml.meta`, by a method of `GRADIENT_METHODS`.

    Parameters
    ----------
    tasks
        Training alloys, each with all its observations: a few random ones are a support, up to 32
        others its query.
    shots
        Support sizes, drawn with equal chance.
    prior
        Of the same alloys: its mean is the first start, its covariance the unit of steps.
    steps, rate
        Inner gradient steps and their (initial) rate, 1 being a full step (`loss_scales`).
    batches, tasks_per_batch
        Length of the meta-training.
    """
    factor = torch.linalg.cholesky(prior.covariance)
    contexts = method == "cavia"
    scale, curvature, directions = loss_scales(equation, kind, tasks, prior)
    module = EquationModule(equation, kind, prior.mean, factor)
    if contexts:
        module = ContextModule(equation, kind, prior.mean, factor, directions[:, :CONTEXTS])
    loss = PseudoHuberLoss(scale)
    inner = GradientSteps(
        module,
        steps=steps,
        learning_rate=rate / curvature,
        learn_rates="entry" if method == "meta_sgd" else None,
        adapted=lambda name: name == "context" or not contexts,
        largest_gradient=LARGEST_GRADIENT,
    )
    counts = tasks.counts()
    usable = [i for i, count in enumerate(counts) if count >= 2]

    def columns_of(row: int, picks: Sequence[int]) -> Columns:
        index = torch.as_tensor(list(picks))
        return {name: column[row][index] for name, column in tasks.columns.items()}

    def draw(generator: torch.Generator) -> Task:
        row = usable[int(torch.randint(len(usable), (1,), generator=generator))]
        wanted = shots[int(torch.randint(len(shots), (1,), generator=generator))]
        support, query = split_support_query(
            range(counts[row]), min(wanted, counts[row] - 1), 32, generator
        )
        return Task(str(row), columns_of(row, support), columns_of(row, query))

    settings = MetaTraining(
        batches=batches,
        tasks_per_batch=tasks_per_batch,
        learning_rate=0.1,
        rates_learning_rate=0.1,
        validate_every=batches,
        seed=seed,
    )
    history = meta_train(module, loss, inner, MAML(), draw, settings, title=title)
    if isinstance(module, ContextModule):
        factor = factor @ module.directions.detach()
    rates = next(iter(inner.rates())).detach() * factor.new_ones(factor.shape[1])
    start = module.standardised().detach()
    learned = MetaLearned(start, factor, rates.detach(), steps, scale)
    return learned, history


def learn_starts(
    equation: Equation,
    kind: str,
    tasks: Tasks,
    prior: GaussianPrior,
    settings: KineticsSection,
    seed: int,
) -> dict[str, MetaLearned]:
    """Return the starts of `GRADIENT_METHODS`, learned on training alloys from the prior's mean."""
    return {
        name: meta_learn(
            equation,
            kind,
            tasks,
            prior,
            method=name,
            shots=settings.shots,
            steps=settings.inner_steps,
            rate=settings.inner_rate,
            batches=settings.meta_batches,
            tasks_per_batch=settings.meta_tasks,
            seed=seed,
            title=f"{name} {equation.name}",
        )[0]
        for name in GRADIENT_METHODS
    }
