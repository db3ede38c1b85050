"""Inner loop: gradient steps of the last layer on features that are computed once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from matml.meta.inner.gradient import GradientSteps
from matml.meta.tasks import BoundModel, Loss, Parameters


class HeadSteps(GradientSteps):
    """Gradient steps of the last layer only (ANIL, Raghu et al. 2020, arXiv:1909.09157).

    Equals `GradientSteps(adapted=...)` on the head, but computes the features of the support once
    and not in every step.

    Parameters
    ----------
    head
        Name of the submodule whose output is the module's output.
    options
        As of `GradientSteps`, without `adapted`, `batch_norm`.
    """

    def __init__(self, module: nn.Module, head: str, **options: Any) -> None:
        if unknown := {"adapted", "batch_norm"} & set(options):
            raise ValueError(
                f"HeadSteps takes no {unknown.pop()!r}: its features are those of the module's "
                "mode; use GradientSteps(adapted=…) where BatchNorm needs a policy"
            )
        start = f"{head}."
        super().__init__(module, adapted=lambda name: name.startswith(start), **options)
        self.head = head

    def support_loss(
        self,
        module: nn.Module,
        loss: Loss,
        support: Any,
        start: Parameters,
        differentiable: bool,
    ) -> Callable[[Parameters, int], Tensor]:
        """Return the support loss as a function of the head's weights, on features kept."""
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            features = features_of(module, self.head, start, loss, support)
        return lambda weights, step: loss(
            HeadOnFeatures(module, self.head, weights, features), support
        )


class HeadOnFeatures:
    """The last layer of a module, applied to features that were computed before.

    Parameters
    ----------
    features
        What the head takes in each call that the loss makes, in their order.
    """

    def __init__(
        self, module: nn.Module, head: str, weights: Parameters, features: list[Tensor]
    ) -> None:
        self.layer = module.get_submodule(head)
        start = f"{head}."
        self.weights = {n[len(start) :]: w for n, w in weights.items() if n.startswith(start)}
        self.features = iter(features)

    def __call__(self, *inputs: Any, **options: Any) -> Tensor:
        """Return the head's output on the next features; the inputs are those of that call."""
        return torch.func.functional_call(self.layer, self.weights, (next(self.features),))


class FeatureModel(BoundModel):
    """A bound module that remembers what its last layer took, call by call.

    Attributes
    ----------
    features
        Input of the head in each call so far, [n, width] each.
    """

    def __init__(self, module: nn.Module, head: str, parameters: Parameters) -> None:
        super().__init__(module, parameters)
        self.head = head
        self.features: list[Tensor] = []

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Evaluate the module.

        Raises
        ------
        ValueError
            Where the module's output is not the head's.
        """
        outputs = []

        def remember(layer: nn.Module, taken: tuple[Tensor], output: Tensor) -> None:
            self.features.append(taken[0])
            outputs.append(output)

        handle = self.module.get_submodule(self.head).register_forward_hook(remember)
        try:
            output = super().__call__(*inputs, **options)
        finally:
            handle.remove()
        if len(outputs) != 1 or output is not outputs[0]:
            raise ValueError(
                f"{self.head!r} is not the module's head: the module must return the output of "
                "one call of it"
            )
        return output


def features_of(
    module: nn.Module, head: str, weights: Parameters, loss: Loss, support: Any
) -> list[Tensor]:
    """Return what the head takes in each of the calls that the loss makes on the support."""
    model = FeatureModel(module, head, weights)
    loss(model, support)
    return model.features
