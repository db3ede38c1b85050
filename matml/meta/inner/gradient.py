"""Inner loops by gradient steps: how a task's support set changes the weights.

An inner loop is a small `torch.nn.Module`, since it may own meta-learned quantities (rates, a
prior), with one verb: `adapt` takes the learner and a support set and returns the adapted model,
which is called like the module. Which weights it starts from, and what is differentiated through
it, is the outer rule's business (`matml.meta.outer`). Closed-form ones are in
`matml.meta.inner.closed_form` and `matml.meta.inner.map`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from matml.meta.tasks import BoundModel, InnerLoop, Loss, Parameters


class Diverged(ArithmeticError):
    """An inner loop reached a loss or gradient that is not finite."""


class Binding(Protocol):
    """How the module is called on support and query, where its layers need to know.

    `matml.meta.batch_norm` holds the ones for BatchNorm layers.
    """

    def support_model(self, module: nn.Module, weights: Parameters, step: int) -> BoundModel:
        """Return the module for the support pass of inner step `step` (from 0)."""

    def query_model(
        self,
        module: nn.Module,
        weights: Parameters,
        step: int,
        pass_support: Callable[[BoundModel], object],
        learn: bool,
    ) -> BoundModel:
        """Return the module for the query after `step` steps; `learn` tells the loop's last."""


class GradientSteps(InnerLoop):
    """Gradient descent on the support loss, with one fixed rate or meta-learned ones.

    Without `learn_rates` all weights share `learning_rate` (MAML, Finn et al. 2017,
    arXiv:1703.03400, eq. 1). Learned rates are stored as logarithms, so that they stay positive.

    Parameters
    ----------
    module
        The learner's module; names and shapes of its weights are read, nothing is kept.
    learning_rate
        (Initial) rate of every weight.
    learn_rates
        "entry": meta-learn one rate per entry of each weight (Meta-SGD, Li et al. 2017,
        arXiv:1707.09835); "tensor": one per weight tensor, for networks with more weights than
        tasks could tell apart; "step": one per weight tensor and step (MAML++, Antoniou et al.
        2019, arXiv:1810.09502, section 2.5); None: none.
    adapted
        Predicate on a weight's name: which weights adapt; the others stay as they are.
        `HeadSteps` is faster where only the last layer adapts.
    largest_gradient
        The support gradient's norm (over all adapted weights) is scaled down to this value; second
        order differentiates through the scale too. `inf` never scales.
    proximal
        Weight of half the squared distance from the start, added to the support loss: what
        `ImplicitMAML` needs.
    batch_norm
        Policy for BatchNorm layers (`matml.meta.batch_norm`). Without one they follow the module's
        mode: statistics of each batch in training mode, running ones in evaluation mode.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(1, 1)
    >>> inner = GradientSteps(net, steps=2, learning_rate=0.1)
    >>> mean_square = lambda model, data: (model(data[0]) - data[1]).square().mean()
    >>> x = torch.linspace(-1, 1, 5)[:, None]
    >>> model = inner.adapt(net, mean_square, (x, 3 * x + 1))
    >>> mean_square(model, (x, 3 * x + 1)) < mean_square(net, (x, 3 * x + 1))
    tensor(True)
    """

    rate: Tensor
    log_rates: nn.ParameterList | None

    def __init__(
        self,
        module: nn.Module,
        *,
        steps: int = 5,
        learning_rate: float = 0.01,
        learn_rates: Literal["entry", "tensor", "step"] | None = None,
        adapted: Callable[[str], bool] = lambda name: True,
        largest_gradient: float = float("inf"),
        proximal: float = 0.0,
        batch_norm: Binding | None = None,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.largest_gradient = largest_gradient
        self.proximal = proximal
        self.batch_norm = batch_norm
        self.names = [
            name
            for name, weight in module.named_parameters()
            if weight.requires_grad and adapted(name)
        ]
        if not self.names:
            raise ValueError("no weight of the module is adapted: check `adapted`")
        if steps < 0 or learning_rate <= 0:
            raise ValueError(
                f"steps = {steps}, learning_rate = {learning_rate}: steps must be at least 0 and "
                "the rate above 0"
            )
        weights = dict(module.named_parameters())
        rate = torch.tensor(float(learning_rate), dtype=weights[self.names[0]].dtype)
        if learn_rates not in (None, "entry", "tensor", "step"):
            raise ValueError(
                f"learn_rates = {learn_rates!r}: must be None, 'entry', 'tensor' or 'step'"
            )
        self.per_step = learn_rates == "step"
        if learn_rates:
            shapes = {
                "tensor": lambda w: (),
                "entry": lambda w: w.shape,
                "step": lambda w: (steps,),
            }
            # ParameterList and not Dict: weight names hold dots
            self.log_rates = nn.ParameterList(
                nn.Parameter(rate.log().expand(shapes[learn_rates](weights[name])).clone())
                for name in self.names
            )
        else:
            self.log_rates = None
            self.register_buffer("rate", rate)

    def rates(self, step: int = 0) -> Iterable[Tensor]:
        """Return one rate (scalar, or the weight's shape) per adapted weight at a step.

        Beyond the steps that rates were learned for the last ones are used.
        """
        if self.log_rates is None:
            return [self.rate] * len(self.names)
        rates = [log_rate.exp() for log_rate in self.log_rates]
        return [rate[min(step, len(rate) - 1)] for rate in rates] if self.per_step else rates

    def adapt(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
        steps: int | None = None,
    ) -> BoundModel:
        """Return the module with the weights after the gradient steps on the support loss.

        Parameters
        ----------
        support
            Data of the support set, passed to `loss`.
        start
            Weights to start from; the module's own by default.
        differentiable
            Keep the graph, so that the result can be differentiated with respect to the start and
            the rates, to second order. Otherwise gradients are constants (first order): a
            derivative still reaches the start, through the identity path.
        steps
            Number of steps, if not the inner loop's own.

        Returns
        -------
        BoundModel
            Called like the module; its weights are `.parameters`.

        Raises
        ------
        Diverged
            Where the support loss or its gradient is not finite; the message tells the step.
        """
        weights: Parameters = dict(module.named_parameters() if start is None else start.items())
        steps = self.steps if steps is None else steps
        evaluate = self.support_loss(module, loss, support, weights, differentiable)
        for moved in self.descend(evaluate, weights, differentiable, steps):
            weights = moved
        return self.query_model(module, loss, support, weights, steps)

    def trajectory(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
    ) -> Iterator[Parameters]:
        """Yield the weights after each step; arguments as of `adapt`."""
        weights: Parameters = dict(module.named_parameters() if start is None else start.items())
        evaluate = self.support_loss(module, loss, support, weights, differentiable)
        return self.descend(evaluate, weights, differentiable, self.steps)

    def support_loss(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        start: Parameters,
        differentiable: bool,
    ) -> Callable[[Parameters, int], Tensor]:
        """Return the function from weights and a step's number to the support loss."""
        policy = self.batch_norm

        def evaluate(weights: Parameters, step: int) -> Tensor:
            if policy is None:
                return loss(BoundModel(module, weights), support)
            return loss(policy.support_model(module, weights, step), support)

        return evaluate

    def descend(
        self,
        evaluate: Callable[[Parameters, int], Tensor],
        start: Parameters,
        differentiable: bool,
        steps: int,
    ) -> Iterator[Parameters]:
        """Yield the weights after each step down a loss, of one task or of many.

        Parameters
        ----------
        evaluate
            From weights and a step's number to the support loss: a scalar for weights of one task,
            [tasks] for weights stacked along a leading dimension of tasks, [tasks, ...].
        """
        weights = dict(start)
        fixed = self.rate.item() if self.log_rates is None else None
        for step in range(steps):
            for name in self.names:
                # a start that is a constant, or steps under `no_grad`
                if not weights[name].requires_grad:
                    weights[name] = weights[name].detach().requires_grad_()
            with torch.enable_grad():
                value = evaluate(weights, step)
                many = value.dim() == 1
                gradients: Sequence[Tensor | None] = torch.autograd.grad(
                    value.sum(),
                    [weights[name] for name in self.names],
                    create_graph=differentiable,
                    allow_unused=True,
                )
            if self.proximal:
                gradients = [
                    self.proximal * (weights[name] - start[name]) + (0 if g is None else g)
                    for name, g in zip(self.names, gradients, strict=True)
                ]
            scale = self._scale(value, gradients, many, step)
            for name, rate, gradient in zip(self.names, self.rates(step), gradients, strict=True):
                if gradient is None:
                    continue
                if scale is None and fixed is not None:
                    weights[name] = torch.sub(weights[name], gradient, alpha=fixed)
                    continue
                share = rate
                if scale is not None:
                    each = [-1, *[1] * (gradient.dim() - 1)] if many else []
                    share = rate * scale.reshape(each)
                weights[name] = torch.addcmul(weights[name], share, gradient, value=-1)
            # a copy, so that what is kept of one step is not changed by the next
            yield dict(weights)

    def _scale(
        self, value: Tensor, gradients: Iterable[Tensor | None], many: bool, step: int
    ) -> Tensor | None:
        """Return what gradients are multiplied by to keep the bound; None without a bound.

        A gradient that is not finite is told by the next loss, of the support or the query.
        """
        sound, told = value.detach().isfinite(), {"support loss": value}
        bounded = math.isfinite(self.largest_gradient)
        if bounded:
            used = [g for g in gradients if g is not None]
            over = 1 if many else 0
            squares = [
                g.flatten(over).square().sum(-1) if g.dim() > over else g.square() for g in used
            ]
            # the root of zero has no derivative
            norm = (torch.stack(squares).sum(0) + 1e-24).sqrt()
            sound, told = sound & norm.detach().isfinite(), told | {"gradient norm": norm}
        if not sound.all():
            number = int((~sound).reshape(-1).nonzero()[0])
            where = f"task {number} of {len(value)}: " if many else ""
            numbers = ", ".join(
                f"{name} {each.detach().reshape(-1)[number].item():.3g}"
                for name, each in told.items()
            )
            remedy = "lower the inner learning rate or bound the gradient"
            if step == 0:
                remedy = "check the support's data and the starting weights"
            raise Diverged(f"{where}inner step {step + 1}: {numbers}; {remedy}")
        # without a bound nothing is scaled: infinity over the norm has no derivative either
        return torch.clamp(self.largest_gradient / norm, max=1.0) if bounded else None

    def query_model(
        self, module: nn.Module, loss: Loss, support: Any, weights: Parameters, steps: int
    ) -> BoundModel:
        """Return the module with adapted weights, as the BatchNorm policy wants it on the query."""
        policy = self.batch_norm
        if policy is None:
            return BoundModel(module, weights)
        # after fewer steps the statistics are those of the support's next step
        learn = steps >= self.steps
        return policy.query_model(module, weights, steps, lambda model: loss(model, support), learn)
