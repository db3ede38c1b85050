"""The most probable parameters of one task under its whole posterior.

`sampling` seeks them under single components of the prior, at the typical noise: good enough to
propose from. Here nothing is left out: all components, the task's own noise
integrated out, heavy-tailed errors, and what the design of the observations tells.
"""

import math

import numpy as np
import torch
from torch import Tensor

from matml.bayes import student_t as robust
from matml.bayes.gauss_newton import Data, Fit, Residual, inverse_variances, linearise
from matml.bayes.importance_sampling import Posterior, fit_quality, log_posterior
from matml.bayes.task_prior import TaskPriors

STEPS = 100
"""Most iterations of the search."""


def most_probable_of_all(
    residual: Residual,
    priors: TaskPriors,
    data: Data,
    mask: Tensor,
    known_variance: Tensor,
    posterior: Posterior,
) -> Fit:
    """Return the mode of a task's posterior and its covariance there (batch of one).

    By BFGS from the most probable of the posterior's draws and fit; `objective` is minus the log
    posterior density.
    """
    from scipy.optimize import minimize

    def density(points: Tensor) -> Tensor:
        quality = fit_quality(residual, points, data, mask, known_variance, priors)
        parts = priors.log_components(points)
        return log_posterior(points, parts, quality, data, mask, priors)

    found = torch.cat([posterior.fit.position[:, None], posterior.draws], 1)
    with torch.no_grad():
        values = torch.nan_to_num(density(found)[0], nan=-math.inf)
    start, highest = found[0, values.argmax()], float(values.max())
    # in units of the posterior's own spread, which may be a narrow valley
    centred = posterior.draws[0] - posterior.draws[0].mean(0)
    spread, axes = torch.linalg.eigh(centred.mT @ centred / len(centred))
    axes = axes * spread.clamp(min=1e-10).sqrt()

    def lost(steps: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.from_numpy(steps).requires_grad_()
        with torch.enable_grad():
            value = highest - density((start + axes @ free)[None, None]).sum()
            (slope,) = torch.autograd.grad(value, free)
        if not torch.isfinite(value) or not torch.isfinite(slope).all():
            return 1e10, np.zeros_like(steps)
        return float(value.detach()), slope.numpy()

    end = minimize(
        lost,
        np.zeros(len(start)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-4, "maxiter": STEPS},
    )
    better = bool(end.fun < 0)
    position = (start + axes @ torch.from_numpy(end.x) if better else start)[None].detach()
    settled = float(np.abs(end.jac).max()) < 0.1
    value, jacobian = linearise(residual, position, data)
    weights = _weights(value, priors, mask, known_variance)
    hessian = jacobian.mT @ (weights[..., None] * jacobian) + _precision(position, priors)
    covariance, failed = torch.linalg.inv_ex(hessian)
    covariance[failed != 0] = math.inf
    objective = torch.tensor([(end.fun if better else 0.0) - highest], dtype=value.dtype)
    return Fit(position, covariance, objective, value, jacobian, torch.tensor([settled]))


def _weights(value: Tensor, priors: TaskPriors, mask: Tensor, known_variance: Tensor) -> Tensor:
    """Return expected inverse variances of observations given their residuals, [B, N]."""
    weights = inverse_variances(mask, known_variance, priors.noise)
    if math.isfinite(priors.point_dof):
        variance = priors.noise**2 + known_variance
        return weights * robust.point_weights(value.square(), variance, priors.point_dof)
    squares = (weights * value.square()).sum(1, keepdim=True)
    return weights * (priors.noise_dof + mask.sum(1, keepdim=True)) / (priors.noise_dof + squares)


def _precision(position: Tensor, priors: TaskPriors) -> Tensor:
    """Return the prior's expected inverse covariance at parameters [B, P], [B, P, P]."""
    parts = priors.log_components(position[:, None])[:, 0] + priors.shares.log()
    total = torch.zeros(1, dtype=position.dtype)
    for number, share in enumerate(torch.softmax(parts, 1).unbind(1)):
        total = total + share[:, None, None] * torch.linalg.inv(priors.component(number)[1])
    return total
