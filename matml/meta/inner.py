"""Inner loops: how a task's support set changes the weights.

An inner loop is a small `torch.nn.Module`, since it may own meta-learned quantities (rates), with
one verb, `adapt`. Which weights it starts from, and what is differentiated through it, is the outer
rule's business (`matml.meta.outer`).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from matml.meta.tasks import BoundModel, Loss, Parameters


class Diverged(ArithmeticError):
    """An inner loop reached a loss or gradient that is not finite."""


class GradientSteps(nn.Module):
    """Gradient descent on the support loss, with one fixed rate or meta-learned ones.

    Without `learn_rates` all weights share `learning_rate` (MAML, Finn et al. 2017,
    arXiv:1703.03400, eq. 1). Learned rates are stored as logarithms, so that they stay positive.

    Parameters
    ----------
    module
        The learner's module; names and shapes of its weights are read, nothing is kept.
    steps
        Gradient steps.
    learning_rate
        (Initial) rate of every weight.
    learn_rates
        "entry": meta-learn one rate per entry of each weight (Meta-SGD, Li et al. 2017,
        arXiv:1707.03141); "tensor": one per weight tensor, for networks with more weights than
        tasks could tell apart; None: none.
    adapted
        Predicate on a weight's name: which weights adapt; the others stay as they are. Adapting
        the head only gives ANIL (Raghu et al. 2020, arXiv:1909.09157).
    largest_gradient
        The support gradient's norm (over all adapted weights) is scaled down to this value; second
        order differentiates through the scale too. `inf` never scales.

    Examples
    --------
    >>> import torch
    >>> net = torch.nn.Linear(1, 1)
    >>> inner = GradientSteps(net, steps=2, learning_rate=0.1)
    >>> mean_square = lambda model, data: (model(data[0]) - data[1]).square().mean()
    >>> x = torch.linspace(-1, 1, 5)[:, None]
    >>> fast = inner.adapt(net, mean_square, (x, 3 * x + 1))
    >>> sorted(fast)
    ['bias', 'weight']
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        steps: int = 5,
        learning_rate: float = 0.01,
        learn_rates: Literal["entry", "tensor"] | None = None,
        adapted: Callable[[str], bool] = lambda name: True,
        largest_gradient: float = float("inf"),
    ) -> None:
        super().__init__()
        self.steps = steps
        self.largest_gradient = largest_gradient
        self.names = [
            name
            for name, weight in module.named_parameters()
            if weight.requires_grad and adapted(name)
        ]
        if not self.names:
            raise ValueError("no weight of the module is adapted: check `adapted`")
        weights = dict(module.named_parameters())
        rate = torch.tensor(float(learning_rate), dtype=weights[self.names[0]].dtype)
        if learn_rates not in (None, "entry", "tensor"):
            raise ValueError(f"learn_rates = {learn_rates!r}: must be None, 'entry' or 'tensor'")
        if learn_rates:
            # ParameterList and not Dict: weight names hold dots
            self.log_rates = nn.ParameterList(
                nn.Parameter(
                    torch.full_like(weights[name], float(rate.log()))
                    if learn_rates == "entry"
                    else rate.log()
                )
                for name in self.names
            )
        else:
            self.log_rates = None
            self.register_buffer("rate", rate)

    def rates(self) -> Iterable[Tensor]:
        """Return one rate (scalar, or the weight's shape) per adapted weight."""
        if self.log_rates is None:
            return [self.rate] * len(self.names)
        return [log_rate.exp() for log_rate in self.log_rates]

    def adapt(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
        steps: int | None = None,
    ) -> Parameters:
        """Return the weights after the gradient steps on the support loss.

        Parameters
        ----------
        module, loss
            The learner.
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

        Raises
        ------
        Diverged
            Where the support loss or its gradient is not finite; the message tells the step.
        """
        weights = dict(module.named_parameters()) if start is None else dict(start)
        for step in range(self.steps if steps is None else steps):
            value = loss(BoundModel(module, weights), support)
            gradients = torch.autograd.grad(
                value,
                [weights[name] for name in self.names],
                create_graph=differentiable,
                allow_unused=True,
            )
            used = [g for g in gradients if g is not None]
            square = torch.stack([g.square().sum() for g in used]).sum()
            # the root of zero has no derivative
            norm = (square + 1e-24).sqrt()
            if not torch.isfinite(value) or not torch.isfinite(norm):
                raise Diverged(
                    f"inner step {step + 1}: support loss {value.item():.3g}, gradient norm "
                    f"{norm.item():.3g}; lower the inner learning rate or bound the gradient"
                )
            # without a bound nothing is scaled: infinity over the norm has no derivative either
            bounded = math.isfinite(self.largest_gradient)
            scale = torch.clamp(self.largest_gradient / norm, max=1.0) if bounded else 1.0
            for name, rate, gradient in zip(self.names, self.rates(), gradients, strict=True):
                if gradient is not None:
                    weights[name] = weights[name] - rate * scale * gradient
        return weights
