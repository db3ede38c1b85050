"""Closed-form adaptation: a Gaussian-process or Bayesian ridge head on a network's features.

The module's last layer is the prior mean; what the support's labels tell beyond it is added by a
Gaussian process on the features that the last layer takes. With a linear kernel this is Bayesian
ridge regression of the last layer about its meta-learned weights (ALPaCA, Harrison et al. 2018,
arXiv:1807.08912; R2-D2, Bertinetto et al. 2019, arXiv:1805.08136), with a stationary kernel deep
kernel transfer (Patacchiola et al. 2020, arXiv:1910.05199). Features, prior and noise are all
meta-learned by differentiating through the solution.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from matml.gp.condition import Conditioned, condition
from matml.meta.inner.head import (
    FeatureModel,
)
from matml.meta.tasks import InnerLoop, Loss, Parameters

Read = Callable[[Any], tuple[tuple, Tensor]]
"""From data to the module's arguments and the labels [n, outputs], NaN where there is none."""


def read_pair(data: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor], Tensor]:
    """Read data that are a pair (inputs, labels [n, outputs])."""
    return (data[0],), data[1]


class GaussianHead(InnerLoop):
    """Inner loop: the posterior of a Gaussian process on features, about the module's own output.

    Parameters
    ----------
    head
        Name of its last layer, an `nn.Linear`.
    kernel
        "linear": ridge regression with one prior variance per output; "full": ridge regression
        with a learned prior covariance of all weights of the head (and its bias); "rbf": squared
        exponential of learned length and height on the features, plus the linear one.
    noise, scale
        Initial standard deviations of a label, and of what the prior allows the outputs to
        differ among tasks; in the units of the labels.
    read
        From data to the module's arguments and labels.
    """

    def __init__(
        self,
        module: nn.Module,
        head: str,
        *,
        kernel: Literal["linear", "full", "rbf"] = "linear",
        noise: float = 0.1,
        scale: float = 1.0,
        read: Read = read_pair,
    ) -> None:
        super().__init__()
        layer = module.get_submodule(head)
        if not isinstance(layer, nn.Linear):
            raise ValueError(f"{head!r} is a {type(layer).__name__}: the head must be nn.Linear")
        if kernel not in ("linear", "full", "rbf"):
            raise ValueError(f"kernel = {kernel!r}: must be 'linear', 'full' or 'rbf'")
        self.head, self.kernel, self.read = head, kernel, read
        outputs, width = layer.weight.shape
        log_scale = torch.full((outputs,), math.log(scale), dtype=layer.weight.dtype)
        self.log_noise = nn.Parameter(torch.full_like(log_scale, math.log(noise)))
        if kernel == "full":
            factor = torch.eye(width + 1, dtype=layer.weight.dtype) * scale / math.sqrt(width)
            self.factor = nn.Parameter(factor.expand(outputs, -1, -1).clone())
        else:
            self.log_slope = nn.Parameter(log_scale.clone())
            self.log_offset = nn.Parameter(log_scale.clone())
        if kernel == "rbf":
            self.log_height = nn.Parameter(log_scale.clone())
            self.log_length = nn.Parameter(torch.zeros_like(log_scale))

    def adapt(
        self,
        module: nn.Module,
        loss: Loss | None,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
    ) -> "GaussianHeadModel":
        """Return the model with the posterior's mean as output.

        Parameters
        ----------
        loss
            Not used: the labels' likelihood is Gaussian.
        start
            Weights of the module; its own by default.
        differentiable
            Differentiate the posterior through the support; otherwise it is a constant.
        """
        weights: Parameters = dict(start or {})
        if start is None:
            weights.update(module.named_parameters())
        inputs, labels = self.read(support)
        if labels.dim() != 2:
            raise ValueError(
                f"labels of shape {list(labels.shape)}: GaussianHead takes [n, outputs]; give "
                "`labels[:, None]` for one output"
            )
        with torch.set_grad_enabled(differentiable and torch.is_grad_enabled()):
            model = FeatureModel(module, self.head, weights)
            output = model(*inputs)
            features, present = model.features[0], labels.isfinite()
            residual = torch.where(present, labels - output, 0.0).mT
            mask = present.mT.to(output.dtype)
            gram = self.covariance(features, features) * mask[:, :, None] * mask[:, None, :]
            # a missing label is one of noise 1 that nothing is correlated with
            noise = torch.where(present.mT, (2 * self.log_noise).exp()[:, None], 1.0)
            # what rounding leaves uncertain, so that a noise learned to be tiny stays positive
            if len(output):
                largest = gram.diagonal(dim1=1, dim2=2).amax(-1, keepdim=True)
                noise = noise + 16 * torch.finfo(gram.dtype).eps * largest
            # `torch.vmap` cannot ask whether a factor is right
            given = condition(gram, noise, residual, check=False)
        return GaussianHeadModel(self, module, weights, features, mask, given)

    def covariance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the prior covariance of features [n, width], [m, width]: [outputs, n, m]."""
        if self.kernel == "full":
            a, b = (torch.cat([x, torch.ones_like(x[:, :1])], 1) for x in (a, b))
            return (a @ self.factor.tril()) @ (b @ self.factor.tril()).mT
        slope, offset = ((2 * x).exp()[:, None, None] for x in (self.log_slope, self.log_offset))
        value = slope * (a @ b.mT) / a.shape[1] + offset
        if self.kernel == "rbf":
            square = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.mT
            length = (2 * self.log_length).exp()[:, None, None] * a.shape[1]
            height = (2 * self.log_height).exp()[:, None, None]
            value = value + height * torch.exp(-0.5 * square / length)
        return value


class GaussianHeadModel:
    """The adapted model of a `GaussianHead`; called like the module it gives posterior means."""

    def __init__(
        self,
        inner: GaussianHead,
        module: nn.Module,
        parameters: Parameters,
        features: Tensor,
        mask: Tensor,
        given: Conditioned,
    ) -> None:
        self.inner, self.module, self.parameters = inner, module, parameters
        self.features, self.mask, self.given = features, mask, given

    def __call__(self, *inputs: Any) -> Tensor:
        """Return posterior means, [m, outputs]."""
        output, _, cross = self._cross(*inputs)
        return output + self.given.mean(cross).mT

    def distribution(self, *inputs: Any) -> tuple[Tensor, Tensor]:
        """Return means and variances of new labels (noise included), [m, outputs] each."""
        output, features, cross = self._cross(*inputs)
        prior = self.inner.covariance(features, features).diagonal(dim1=1, dim2=2)
        # rounding may leave less than nothing of a large prior variance
        left = (prior - self.given.explained(cross)).clamp(min=0.0)
        variance = left + (2 * self.inner.log_noise).exp()[:, None]
        return output + self.given.mean(cross).mT, variance.mT

    def _cross(self, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        model = FeatureModel(self.module, self.inner.head, self.parameters)
        output = model(*inputs)
        features = model.features[0]
        cross = self.inner.covariance(features, self.features) * self.mask[:, None, :]
        return output, features, cross


def gaussian_loss(read: Read = read_pair) -> Loss:
    """Return a query loss: minus the mean log density of the labels under `distribution`."""

    def loss(model: Callable[..., Tensor], data: Any) -> Tensor:
        if not isinstance(model, GaussianHeadModel):
            raise TypeError(f"{type(model).__name__}: this loss takes models of a GaussianHead")
        inputs, labels = read(data)
        mean, variance = model.distribution(*inputs)
        present = labels.isfinite()
        off = torch.where(present, labels - mean, 0.0)
        each = (off.square() / variance + variance.log() + math.log(2 * math.pi)) / 2
        return torch.where(present, each, 0.0).sum() / present.sum()

    return loss
