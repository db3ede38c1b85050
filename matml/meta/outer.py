"""Outer rules: what of the adaptation is differentiated to improve the starting point.

An outer rule has one verb, `backward`: it adapts to one task and adds its gradient to the
learner's (and the inner loop's) parameters. Tasks are taken one by one, so that memory is that of
one task. Rules and inner loops are combined freely:

| rule | gradient | inner loops |
|---|---|---|
| `MAML()` | exact | all |
| `FOMAML()` | inner gradients (or closed-form solutions) are constants | all |
| `MAMLPlusPlus(...)` | as MAML, of a mean over steps; annealed | gradient steps |
| `ImplicitMAML()` | exact at the inner optimum | gradient steps with `proximal` |
| `Reptile()` | towards the adapted weights | gradient steps |
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from matml.meta.inner.gradient import Diverged, GradientSteps
from matml.meta.tasks import InnerLoop, Loss, Task, gradients_of


class TaskDiverged(ArithmeticError):
    """Adaptation or query loss of a named task is not finite."""


class Outer(Protocol):
    """What an outer rule offers."""

    def at(self, batch: int) -> "Outer":
        """Return the rule for meta-batch number `batch`; rules may change along the way."""

    def backward(
        self, module: nn.Module, loss: Loss, inner: InnerLoop, task: Task, share: float
    ) -> float:
        """Add `share` of the task's meta-gradient to `.grad`; returns the query loss."""


@dataclass(frozen=True)
class MAML:
    """Model-agnostic meta-learning (Finn et al. 2017, arXiv:1703.03400, algorithm 1).

    Parameters
    ----------
    second_order
        Differentiate through the inner gradients: the exact gradient of the query loss after
        adaptation. Without it (FOMAML, section 5.2 of the same paper) inner gradients are
        constants.
    step_weights
        Weight of the query loss after each inner step; the last step's only by default.
    """

    second_order: bool = True
    step_weights: tuple[float, ...] | None = None

    def at(self, batch: int) -> "MAML":
        """Return the rule itself: it does not change."""
        return self

    def query_loss(self, module: nn.Module, loss: Loss, inner: InnerLoop, task: Task) -> Tensor:
        """Return the query loss of the adapted model, differentiable as the rule says."""
        differentiable = self.second_order
        if self.step_weights is None:
            model = inner.adapt(module, loss, task.support, differentiable=differentiable)
            return loss(model, task.query)
        inner = with_steps("a loss after every step", inner)
        if len(self.step_weights) != inner.steps:
            raise ValueError(
                f"{len(self.step_weights)} step weights for {inner.steps} inner steps: give the "
                "rule the inner loop's number of steps"
            )
        path = inner.trajectory(module, loss, task.support, differentiable=differentiable)
        terms = []
        for number, (weights, share) in enumerate(zip(path, self.step_weights, strict=True), 1):
            if share:
                model = inner.query_model(module, loss, task.support, weights, number)
                terms.append(share * loss(model, task.query))
        return sum(terms[1:], terms[0])

    def backward(
        self, module: nn.Module, loss: Loss, inner: InnerLoop, task: Task, share: float
    ) -> float:
        """Add `share` of the task's meta-gradient to `.grad`; returns the query loss."""
        value = self.query_loss(module, loss, inner, task)
        _check(value, task)
        (share * value).backward()
        return value.item()


def FOMAML() -> MAML:
    """Return first-order MAML."""
    return MAML(second_order=False)


@dataclass(frozen=True)
class MAMLPlusPlus:
    """MAML with multi-step loss and derivative-order annealing.

    Antoniou et al. 2019, arXiv:1810.09502, sections 2.2 and 2.3; its other parts are choices of
    the inner loop: `learn_rates="step"` and `StepStatistics`.

    Parameters
    ----------
    steps
        Inner steps of the inner loop.
    first_order_batches
        Meta-batches before second derivatives are taken.
    multi_step_batches
        Meta-batches over which the query loss after every step counts; the weights move linearly
        from equal ones to the last step's alone.
    """

    steps: int
    first_order_batches: int = 0
    multi_step_batches: int = 0

    def at(self, batch: int) -> MAML:
        """Return plain MAML with the order and the step weights of a meta-batch."""
        second_order = batch >= self.first_order_batches
        if batch >= self.multi_step_batches:
            return MAML(second_order)
        early = (1 - batch / self.multi_step_batches) / self.steps
        last = 1 - (self.steps - 1) * early
        return MAML(second_order, (early,) * (self.steps - 1) + (last,))


@dataclass(frozen=True)
class Reptile:
    """Move the start towards the adapted weights (Nichol et al. 2018, arXiv:1803.02999).

    The inner loop runs on the support, then on the query from there: its steps take different
    data, without which Reptile would not learn to generalise within a task (section 5 there).
    Learned rates get no gradient.
    """

    def at(self, batch: int) -> "Reptile":
        """Return the rule itself: it does not change."""
        return self

    def backward(
        self, module: nn.Module, loss: Loss, inner: InnerLoop, task: Task, share: float
    ) -> float:
        """Add `share` of (start - adapted) to `.grad`; returns the query loss before its steps."""
        inner = with_steps("Reptile", inner)
        first = inner.adapt(module, loss, task.support)
        with torch.no_grad():
            value = loss(first, task.query)
        _check(value, task)
        moved = inner.adapt(module, loss, task.query, start=first.parameters).parameters
        weights = dict(module.named_parameters())
        for name in inner.names:
            _add(weights[name], share * (weights[name] - moved[name]).detach())
        return value.item()


@dataclass(frozen=True)
class ImplicitMAML:
    """Implicit MAML (Rajeswaran et al. 2019, arXiv:1909.04630, eq. 6).

    The gradient depends on the inner optimum only, not on the path to it: memory does not grow
    with inner steps. Exact where the inner loop has converged to the minimum of the support loss
    plus `proximal` / 2 times the squared distance from the start. Learned rates get no gradient.

    Parameters
    ----------
    tolerance
        On the residual's norm, relative to the gradient's.
    """

    iterations: int = 200
    tolerance: float = 1e-10

    def at(self, batch: int) -> "ImplicitMAML":
        """Return the rule itself: it does not change."""
        return self

    def backward(
        self, module: nn.Module, loss: Loss, inner: InnerLoop, task: Task, share: float
    ) -> float:
        """Add `share` of the task's meta-gradient to `.grad`; returns the query loss.

        Raises
        ------
        ValueError
            Where the inner loop has no proximal term.
        """
        inner = with_steps("ImplicitMAML", inner)
        if inner.proximal <= 0:
            raise ValueError("ImplicitMAML needs an inner loop with `proximal` > 0")
        weights = dict(module.named_parameters())
        found = inner.adapt(module, loss, task.support).parameters
        leaves = {n: w.detach().requires_grad_(weights[n].requires_grad) for n, w in found.items()}
        adapted = [leaves[name] for name in inner.names]
        others = [n for n, w in leaves.items() if w.requires_grad and n not in inner.names]
        # adapt() has told how BatchNorm is treated on the query; bind the leaves the same way
        model = inner.query_model(module, loss, task.support, leaves, inner.steps)
        value = loss(model, task.query)
        _check(value, task)
        wanted = [*adapted, *(leaves[name] for name in others)]
        outer = gradients_of(value, wanted)
        evaluate = inner.support_loss(module, loss, task.support, leaves, True)
        slope = gradients_of(evaluate(leaves, inner.steps - 1), adapted, create_graph=True)

        def along(direction: list[Tensor], inputs: list[Tensor]) -> list[Tensor]:
            """Return the derivative of (slope . direction) with respect to `inputs`."""
            dot = _dot(slope, direction)
            if not dot.requires_grad:
                return [torch.zeros_like(w) for w in inputs]
            return gradients_of(dot, inputs, retain_graph=True)

        def matrix(direction: list[Tensor]) -> list[Tensor]:
            curved = along(direction, adapted)
            return [d + h / inner.proximal for d, h in zip(direction, curved, strict=True)]

        solved = _conjugate_gradient(matrix, outer[: len(adapted)], self.iterations, self.tolerance)
        for name, gradient in zip(inner.names, solved, strict=True):
            _add(weights[name], share * gradient)
        if others:
            through = along([s / inner.proximal for s in solved], [leaves[n] for n in others])
            for name, direct, less in zip(others, outer[len(adapted) :], through, strict=True):
                _add(weights[name], share * (direct - less))
        return value.item()


def accumulate_meta_gradient(
    module: nn.Module,
    loss: Loss,
    inner: InnerLoop,
    outer: Outer,
    tasks: Sequence[Task],
) -> list[float]:
    """Add the mean meta-gradient over `tasks` to `.grad`; returns the query loss of each task.

    Raises
    ------
    TaskDiverged
        Where a task's inner loop or query loss is not finite; names the task.
    """
    losses = []
    for task in tasks:
        try:
            with added_if_finite(module, inner):
                losses.append(outer.backward(module, loss, inner, task, 1 / len(tasks)))
        except Diverged as error:
            raise TaskDiverged(f"task {task.name!r}: {error}") from error
    return losses


@contextmanager
def added_if_finite(module: nn.Module, inner: InnerLoop) -> Iterator[None]:
    """Let a block write gradients, and add them to what was there before if they are sound.

    One task must not spoil what the others of a meta-batch have brought.

    Raises
    ------
    Diverged
        Where the block's gradient, or its norm, is not finite; `.grad` is as before.
    """
    parameters = [*module.parameters(), *inner.parameters()]
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield
        found = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = nn.utils.get_total_norm(found)
        if not norm.isfinite():
            raise Diverged(
                f"the meta-gradient has norm {norm.item()}; lower the inner learning rate, bound "
                "the gradient, or check the task's labels"
            )
    except BaseException:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient
        raise
    for parameter, gradient in zip(parameters, before, strict=True):
        if gradient is not None:
            own = parameter.grad
            parameter.grad = gradient if own is None else gradient + own


def with_steps(rule: str, inner: InnerLoop) -> GradientSteps:
    """Return the inner loop; one without gradient steps is refused."""
    if not isinstance(inner, GradientSteps):
        raise TypeError(f"{rule} needs gradient steps, not {type(inner).__name__}: take MAML()")
    return inner


def _check(value: Tensor, task: Task) -> None:
    """Refuse a query loss that is not finite."""
    if value.dim():
        raise ValueError(
            f"task {task.name!r}: the loss has shape {list(value.shape)}, not a scalar"
        )
    if not value.isfinite():
        raise TaskDiverged(
            f"task {task.name!r}: query loss is {value.item()} after adaptation; check that the "
            "query has labels, all finite, or lower the inner learning rate"
        )


def _add(weight: Tensor, gradient: Tensor) -> None:
    """Add to a weight's gradient."""
    weight.grad = gradient.clone() if weight.grad is None else weight.grad + gradient


def _dot(a: list[Tensor], b: list[Tensor]) -> Tensor:
    first, *others = ((x * y).sum() for x, y in zip(a, b, strict=True))
    return sum(others, first)


def _conjugate_gradient(
    matrix: Callable[[list[Tensor]], list[Tensor]],
    right: list[Tensor],
    iterations: int,
    tolerance: float,
) -> list[Tensor]:
    """Solve matrix(x) = right for a symmetric positive matrix; vectors are lists of tensors."""

    def plus(a: list[Tensor], factor: Tensor, b: list[Tensor]) -> list[Tensor]:
        return [x + factor * y for x, y in zip(a, b, strict=True)]

    solution = [torch.zeros_like(part) for part in right]
    residual, direction = right, right
    square = first = _dot(right, right)
    for _ in range(iterations):
        if square <= tolerance**2 * first:
            break
        product = matrix(direction)
        curvature = _dot(direction, product)
        if curvature <= 0:
            raise Diverged(
                "the support loss curves downwards at the adapted weights; raise `proximal`"
            )
        length = square / curvature
        solution, residual = plus(solution, length, direction), plus(residual, -length, product)
        square, before = _dot(residual, residual), square
        direction = plus(residual, square / before, direction)
    else:
        left = (square / first).sqrt().item()
        if left > 1e-6:
            raise Diverged(
                f"{iterations} conjugate-gradient iterations left a residual of {left:.1g}; raise "
                "`iterations` or `proximal`"
            )
    return solution
