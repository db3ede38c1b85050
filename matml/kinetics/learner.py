"""A kinetic equation as a learner of `matml.meta`: meta-trained like any torch module."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from matml.kinetics.equations.base import Equation
from matml.kinetics.series import Series
from matml.meta import (
    MAML,
    BoundModel,
    GradientSteps,
    History,
    MetaTraining,
    Task,
    meta_train,
    split_support_query,
)

LOSS_SCALE = 5.0
"""Residuals are divided by this many typical noises, which makes losses about 1 before learning."""

LARGEST_GRADIENT = 3.0


class EquationModule(nn.Module):
    """An equation whose weights are its standardised parameter vector.

    Parameters
    ----------
    equation, kind
        What is predicted.
    start
        Initial vector [P]; the equation's generic start by default.
    """

    def __init__(self, equation: Equation, kind: str, start: Tensor | None = None) -> None:
        super().__init__()
        self.equation = equation
        self.kind = kind
        self.position = nn.Parameter(equation.start() if start is None else start.clone())

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Return predictions [N] on the residual scale."""
        return self.equation.predict(self.kind, self.position, columns)


@dataclass(frozen=True)
class ScaledSquares:
    """Mean squared residual in units of `scale`: the loss of a kinetic learner."""

    scale: float

    def __call__(self, model: Any, columns: dict[str, Tensor]) -> Tensor:
        """Return the loss of a model (or a bound one) on columns [N]."""
        return ((model(columns) - columns["target"]) / self.scale).square().mean()


@dataclass(frozen=True)
class MetaLearned:
    """A meta-learned start: what a few gradient steps from it do for a new alloy.

    Attributes
    ----------
    start
        Standardised parameters [P].
    rates
        Rate of each parameter [P].
    steps
        Gradient steps.
    scale
        Of the loss's residuals.
    """

    start: Tensor
    rates: Tensor
    steps: int
    scale: float

    def adapt(self, equation: Equation, kind: str, series: Series) -> Tensor:
        """Return the adapted parameters of all tasks of a series, [B, P].

        The steps of `GradientSteps` on every task at once.
        """

        def loss(position: Tensor, columns: dict[str, Tensor], mask: Tensor) -> Tensor:
            error = equation.predict(kind, position, columns) - columns["target"]
            return (mask * (error / self.scale).square()).sum() / mask.sum()

        gradient_of = torch.func.vmap(torch.func.grad(loss))
        position = self.start.repeat(len(series), 1)
        for _ in range(self.steps):
            gradient = gradient_of(position, series.columns, series.mask)
            norm = gradient.norm(dim=1, keepdim=True)
            position = position - self.rates * gradient * (LARGEST_GRADIENT / (norm + 1e-12)).clamp(
                max=1.0
            )
        return position


def meta_learn(
    equation: Equation,
    kind: str,
    series: Series,
    *,
    learn_rates: bool,
    shots: Sequence[int],
    steps: int,
    rate: float,
    batches: int,
    tasks_per_batch: int,
    seed: int,
    start: Tensor | None = None,
    title: str = "meta-training",
) -> tuple[MetaLearned, History]:
    """Meta-train an equation on alloys with `matml.meta`: MAML, or Meta-SGD with learned rates.

    Parameters
    ----------
    series
        Training alloys; a task is one alloy with a few random observations as support and up to 32
        others as query.
    shots
        Support sizes, drawn with equal chance.
    steps, rate
        Inner gradient steps and their (initial) rate.
    batches, tasks_per_batch
        Length of the meta-training.
    start
        Initial parameters.
    """
    module = EquationModule(equation, kind, start)
    loss = ScaledSquares(LOSS_SCALE * equation.observable(kind).typical_noise)
    inner = GradientSteps(
        module,
        steps=steps,
        learning_rate=rate,
        learn_rates="entry" if learn_rates else None,
        largest_gradient=LARGEST_GRADIENT,
    )
    counts = series.counts().tolist()
    usable = [i for i, count in enumerate(counts) if count >= 2]

    def draw(generator: torch.Generator) -> Task:
        row = usable[int(torch.randint(len(usable), (1,), generator=generator))]
        wanted = shots[int(torch.randint(len(shots), (1,), generator=generator))]
        support, query = split_support_query(
            range(counts[row]), min(wanted, counts[row] - 1), 32, generator
        )
        return Task(series.names[row], series.single(row, support), series.single(row, query))

    settings = MetaTraining(
        batches=batches,
        tasks_per_batch=tasks_per_batch,
        learning_rate=0.1,
        rates_learning_rate=0.1,
        validate_every=batches,
        seed=seed,
    )
    history = meta_train(module, loss, inner, MAML(), draw, settings, title=title)
    rates = next(iter(inner.rates())).detach() * torch.ones_like(module.position)
    learned = MetaLearned(module.position.detach().clone(), rates.detach(), steps, loss.scale)
    return learned, history


def adapted_loss(module: EquationModule, loss: ScaledSquares, position: Tensor, data: Any) -> float:
    """Return the loss of given parameters, as `matml.meta` binds them."""
    with torch.no_grad():
        return loss(BoundModel(module, {"position": position}), data).item()
