"""Adaptation to the maximum a posteriori under a learned Gaussian prior, for small vectors.

The prior's mean is the module's weights, its precision is learned. The solution is found by damped
Gauss-Newton and differentiated implicitly: what is differentiated is the optimum, not the path.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from matml.bayes.gauss_newton import GaussianPrior, gauss_newton
from matml.meta.inner.gradient import Diverged
from matml.meta.tasks import BoundModel, InnerLoop, Loss, Parameters


class MaximumAPosteriori(InnerLoop):
    """Inner loop: minimise half the squared residuals over noise plus the prior's quadratic form.

    Parameters
    ----------
    module
        The learner's module; its adapted weights together are a vector of P entries, whose prior
        mean they are.
    residuals
        `residuals(model, data)` -> prediction minus measurement, [n].
    scale
        Initial prior standard deviation of every entry.
    noise
        Initial standard deviation of a residual; learned.
    adapted
        Predicate on a weight's name.
    steps
        Gauss-Newton steps at most.
    tolerance
        A step of the weights shorter than this is negligible.

    Notes
    -----
    The implicit derivative takes the exact Hessian, P backward passes: meant for kinetic equations
    and the like, not for networks.
    """

    def __init__(
        self,
        module: nn.Module,
        residuals: Callable[[Callable[..., Any], Any], Tensor],
        *,
        scale: float = 1.0,
        noise: float = 0.1,
        adapted: Callable[[str], bool] = lambda name: True,
        steps: int = 50,
        tolerance: float = 1e-10,
    ) -> None:
        super().__init__()
        weights = {n: w for n, w in module.named_parameters() if w.requires_grad and adapted(n)}
        if not weights:
            raise ValueError("no weight of the module is adapted: check `adapted`")
        self.residuals, self.steps, self.tolerance = residuals, steps, tolerance
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        size = sum(weight.numel() for weight in weights.values())
        dtype = next(iter(weights.values())).dtype
        self.log_scale = nn.Parameter(torch.full((size,), math.log(scale), dtype=dtype))
        # below the diagonal: correlations; precision = L L^T with L = (1 + this) / scale
        self.lower = nn.Parameter(torch.zeros(size, size, dtype=dtype))
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise), dtype=dtype))

    def precision(self) -> Tensor:
        """Return the prior's precision, [P, P]."""
        unit = torch.eye(len(self.log_scale)).to(self.lower) + self.lower.tril(-1)
        factor = unit * (-self.log_scale).exp()[:, None]
        return factor @ factor.mT

    def adapt(
        self,
        module: nn.Module,
        loss: Loss | None,
        support: Any,
        *,
        start: Parameters | None = None,
        differentiable: bool = False,
    ) -> BoundModel:
        """Return the module at its most probable weights.

        Parameters
        ----------
        loss
            Not used: `residuals` are what is minimised.
        start
            Prior mean (and weights that are not adapted); the module's own by default.
        differentiable
            Let derivatives reach prior, noise and the weights that are not adapted, through the
            optimum. Otherwise the result is a constant.

        Raises
        ------
        Diverged
            Where the objective is not finite at the prior's mean, or no optimum was found.
        """
        weights = dict(module.named_parameters()) if start is None else dict(start)
        fixed = {name: w for name, w in weights.items() if name not in self.shapes}
        mean = torch.cat([weights[name].reshape(-1) for name in self.shapes])

        def residuals_at(vector: Tensor) -> Tensor:
            model = BoundModel(module, {**fixed, **self._split(vector)})
            return self.residuals(model, support).reshape(-1)

        def objective(vector: Tensor) -> Tensor:
            offset = vector - mean
            squares = residuals_at(vector).square().sum() * (-2 * self.log_noise).exp()
            return (squares + offset @ self.precision() @ offset) / 2

        best = self._minimise(residuals_at, mean.detach())
        if differentiable:
            # one Newton step from the optimum: it does not move the value, and its derivative is
            # the implicit function theorem's
            point = best.clone().requires_grad_()
            with torch.enable_grad():
                (slope,) = torch.autograd.grad(objective(point), point, create_graph=True)
                rows = [torch.autograd.grad(entry, point, retain_graph=True)[0] for entry in slope]
            best = best - torch.linalg.solve(torch.stack(rows).detach(), slope)
        else:
            # first order: the start is reached as if the optimum moved with it
            best = best + (mean - mean.detach())
        return BoundModel(module, {**fixed, **self._split(best)})

    def _minimise(self, residuals_at: Callable[[Tensor], Tensor], mean: Tensor) -> Tensor:
        """Return the optimum, [P], a constant."""
        prior = GaussianPrior(
            mean, torch.linalg.inv(self.precision().detach()), float(self.log_noise.detach().exp())
        )

        def linearise(position: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
            point = position[0].detach().requires_grad_()
            with torch.enable_grad():
                value = residuals_at(point)
                rows = [torch.autograd.grad(v, point, retain_graph=True)[0] for v in value]
            return value.detach()[None], torch.stack(rows)[None]

        value, _ = linearise(mean[None], mean)
        if not value.isfinite().all():
            raise Diverged(f"the residuals are {value.sum().item()} at the prior's mean")
        weights = torch.full_like(value, prior.noise**-2)
        try:
            fit = gauss_newton(
                linearise,
                mean,
                weights,
                prior=prior,
                steps=self.steps,
                tolerance=self.tolerance,
                least_gain=0.0,
                longest_step=math.inf,
            )
        except torch.linalg.LinAlgError as error:
            raise Diverged(f"the curvature of the objective is singular ({error})") from None
        best = fit.position[0]
        slope = (weights * fit.residuals)[0] @ fit.jacobian[0]
        slope = slope + self.precision().detach() @ (best - mean)
        # what float rounding leaves of the slope is far below this
        if not slope.norm() <= 1e-4 * (1 + fit.objective[0]):
            raise Diverged(
                f"no optimum after {self.steps} steps: the objective's slope is still "
                f"{slope.norm().item():.2g}; raise `steps`, or check the residuals for NaN"
            )
        return best

    def _split(self, vector: Tensor) -> Parameters:
        """Return the vector's parts by the names and shapes of the weights."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), vector.split(sizes), strict=True)
        return {name: part.reshape(shape) for (name, shape), part in parts}
