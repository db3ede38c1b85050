"""A population of tasks with covariates, fixed effects and a noise that may grow with the value.

Task i has the parameters z_i = offset_i + X_i beta + L eta_i, eta_i ~ N(0, I): X_i holds its
covariates, and a parameter whose row of L is zero does not vary between tasks. A measurement is
f(z_i) with the standard deviation sqrt(constant^2 + (proportional f)^2). This is the nonlinear
mixed-effects model of pharmacometrics; constant, proportional and spread are learned with beta by
the marginal likelihood of all tasks in Laplace's approximation with the expected Hessian ("FOCE
with interaction": Almquist, Leander and Jirstrand, J. Pharmacokinet. Pharmacodyn. 42 (2015) 191,
equations 10 to 20), whose gradient is exact. EM (`empirical_bayes`) cannot learn a fixed effect.
"""

import logging
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from matml.bayes.gauss_newton import GaussianPrior, gauss_newton
from matml.bayes.importance_sampling import Posterior, sample_posterior
from matml.bayes.task_prior import TaskPriors
from matml.bayes.tasks import Columns, Pointwise, Tasks

log = logging.getLogger(__name__)

NOISES = {"constant": (True, False), "proportional": (False, True), "combined": (True, True)}
"""Which parts of the noise there are: constant, proportional."""

SMALLEST = 1e-3
"""Of a spread, and of a part of the noise relative to its start: as good as none."""

MOST_NEWTON = 8
"""Steps of Newton's method that polish a mode."""


@dataclass(frozen=True)
class MixedModel:
    """What is given before anything is learned.

    Attributes
    ----------
    predict
        What is measured, pointwise.
    varies
        Whether each parameter varies between tasks, length P.
    noise
        One of `NOISES`.
    correlated
        Whether the variations of parameters go together; else each is independent.
    kinds
        Of observations, each with a noise of its own; more than one are told apart by the column
        "kind", numbers from 0.
    """

    predict: Pointwise
    varies: tuple[bool, ...]
    noise: str = "constant"
    correlated: bool = False
    kinds: int = 1

    @property
    def varying(self) -> list[int]:
        """Numbers of the parameters that vary."""
        return [number for number, varies in enumerate(self.varies) if varies]

    def deviation(self, constant: Tensor, proportional: Tensor, f: Tensor, c: Columns) -> Tensor:
        """Return the standard deviation of measurements with the predictions f."""
        if self.kinds > 1:
            kind = c["kind"].long()
            constant, proportional = constant[kind], proportional[kind]
        # a prediction of nothing has no logarithm
        return (constant.square() + (proportional * f).square() + 1e-16).sqrt()


@dataclass(frozen=True)
class TaskData:
    """What was measured of tasks, and their part of the population's mean.

    Attributes
    ----------
    columns
        What `MixedModel.predict` takes, and "measured"; each [B, N] or [B, N, D].
    mask
        1 for an observation, 0 for padding, [B, N].
    offset, design
        Of the mean offset + design @ beta, [B, P] and [B, P, F].
    """

    columns: Columns
    mask: Tensor
    offset: Tensor
    design: Tensor

    def __len__(self) -> int:
        return len(self.mask)

    def __getitem__(self, rows: Tensor | slice) -> "TaskData":
        """Return some tasks, by their numbers."""
        columns = {name: column[rows] for name, column in self.columns.items()}
        return TaskData(columns, self.mask[rows], self.offset[rows], self.design[rows])


@dataclass(frozen=True)
class Effects:
    """A population.

    Attributes
    ----------
    beta
        Fixed effects and coefficients of covariates, [F].
    factor
        L, of the covariance L L^T of parameters between tasks, [P, Q].
    constant, proportional
        Parts of the noise, by kind of observation; zero where there is none.
    """

    beta: Tensor
    factor: Tensor
    constant: Tensor
    proportional: Tensor

    @property
    def spread(self) -> Tensor:
        """Standard deviation of each parameter between tasks, [P]."""
        return self.factor.square().sum(1).sqrt()


@dataclass(frozen=True)
class LearnedEffects(Effects):
    """A population learned by `learn_effects`.

    Attributes
    ----------
    errors
        Standard errors: `beta`, logarithms of the `factor`'s diagonal or of the spread, of the
        parts of the noise, in the order of `MixedModel`'s coordinates; not a number where the
        data do not determine them.
    beta_covariance
        Of the fixed effects' errors, [F, F].
    log_evidence
        Log marginal likelihood of all tasks.
    evaluations
        Of the likelihood and its gradient.
    converged
        Whether the search ended at a maximum.
    """

    errors: Tensor
    beta_covariance: Tensor
    log_evidence: float
    evaluations: int
    converged: bool


def effects_at(model: MixedModel, coordinates: Tensor, size: int) -> Effects:
    """Return the population with such coordinates: beta, (log-)Cholesky factor, log noise.

    `size` is the number of fixed effects.
    """
    count, varying = len(model.varying), model.varying
    below = count * (count - 1) // 2 if model.correlated else 0
    beta, diagonal, lower, noise = coordinates.split(
        [size, count, below, len(coordinates) - size - count - below]
    )
    square = torch.diag_embed(diagonal.exp())
    if below:
        rows, columns = torch.tril_indices(count, count, -1)
        square = square.index_put((rows, columns), lower)
    factor = coordinates.new_zeros(len(model.varies), count)
    factor = factor.index_put((torch.tensor(varying, dtype=torch.long),), square)
    parts, levels = noise.exp().reshape(-1, model.kinds), []
    for present in NOISES[model.noise]:
        levels.append(parts[0] if present else parts.new_zeros(model.kinds))
        parts = parts[1:] if present else parts
    return Effects(beta, factor, *levels)


class Marginal:
    """The log marginal likelihood of tasks, each search for a mode from the one before."""

    def __init__(self, model: MixedModel, data: TaskData) -> None:
        self.model, self.data = model, data
        self.mode = data.mask.new_zeros(len(data), len(model.varying))

    def _values(self, effects: Effects, eta: Tensor, data: TaskData) -> tuple[Tensor, ...]:
        """Return residuals over their deviation r and log deviations, with the slopes of both."""
        mean = data.offset + (data.design @ effects.beta)
        f, slope = _linearised(self.model.predict, mean + eta @ effects.factor.mT, data.columns)
        slope = slope @ effects.factor
        deviation = self.model.deviation(effects.constant, effects.proportional, f, data.columns)
        relative = effects.proportional
        if self.model.kinds > 1:
            relative = relative[data.columns["kind"].long()]
        # of the log deviation, by eta
        growth = (relative.square() * f / deviation.square())[..., None] * slope
        r = (f - data.columns["measured"]) / deviation
        return r, deviation.log(), slope / deviation[..., None], growth

    def at_mode(self, effects: Effects) -> Tensor:
        """Return the most probable eta of each task, [B, Q]."""

        def linearise(eta: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                r, logs, slope, growth = self._values(effects, eta, self.data[rows])
            # the log deviation as half a square, so that least squares minimises it too
            root = (2 * (logs - floor[rows])).clamp(min=1.0).sqrt()
            jacobian = torch.cat([slope - r[..., None] * growth, growth / root[..., None]], 1)
            return torch.cat([r, root], 1), jacobian

        with torch.no_grad():
            # low enough: a deviation is hardly ever e^20 times smaller than at the mean
            floor = self._values(effects, torch.zeros_like(self.mode), self.data)[1] - 20.0
        mask, size = torch.cat([self.data.mask, self.data.mask], 1), self.mode.shape[1]
        identity = torch.eye(size, dtype=self.mode.dtype)
        prior = GaussianPrior(torch.zeros(size, dtype=self.mode.dtype), identity, 1.0)
        fit = gauss_newton(
            linearise, self.mode, mask, prior=prior, steps=15, tolerance=1e-3, least_gain=1e-7
        )
        eta = torch.where(torch.isfinite(fit.position), fit.position, 0.0)
        # where measurements are far off Gauss-Newton creeps, and the gradient asks for the mode
        for _ in range(MOST_NEWTON):
            step = self._newton_step(effects, eta).detach()
            eta = eta - torch.where(step.norm(dim=1, keepdim=True) < 1.0, step, 0.0)
            if float(step.norm(dim=1).max()) < 1e-9:
                break
        self.mode = eta
        return eta

    def of_each(self, effects: Effects) -> Tensor:
        """Return each task's log marginal likelihood, [B]; differentiable by the effects."""
        eta = self.at_mode(Effects(*(value.detach() for value in vars(effects).values())))
        if effects.beta.requires_grad:
            step = self._newton_step(effects, eta)
            eta = eta - (step - step.detach())
        r, logs, slope, growth = self._values(effects, eta, self.data)
        weight = self.data.mask[..., None]
        hessian = slope.mT @ (weight * slope) + 2 * growth.mT @ (weight * growth)
        hessian = hessian + torch.eye(eta.shape[1], dtype=eta.dtype)
        misfit = (self.data.mask * (r.square() / 2 + logs)).sum(1) + eta.square().sum(1) / 2
        constant = self.data.mask.sum(1) * math.log(2 * math.pi) / 2
        return -misfit - constant - torch.logdet(hessian) / 2

    def _newton_step(self, effects: Effects, eta: Tensor) -> Tensor:
        """Return Newton's step to each mode from eta, with its derivative by the effects.

        At the mode that is, with the other sign, the mode's own (implicit-function theorem). None
        where the curvature is that of no mode.
        """
        eta = eta.clone().requires_grad_()
        with torch.enable_grad():
            r, logs, _, _ = self._values(effects, eta, self.data)
            lost = (self.data.mask * (r.square() / 2 + logs)).sum() + eta.square().sum() / 2
            (gradient,) = torch.autograd.grad(lost, eta, create_graph=True)
            rows = [torch.autograd.grad(one.sum(), eta, retain_graph=True)[0] for one in gradient.T]
        factor, failed = torch.linalg.cholesky_ex(torch.stack(rows, 1).detach())
        usable = (failed == 0)[:, None] & torch.isfinite(gradient)
        factor = torch.where(usable[..., None], factor, torch.eye(eta.shape[1], dtype=eta.dtype))
        step = torch.cholesky_solve(gradient[..., None], factor)[..., 0]
        return torch.where(usable, step, 0.0)


def _linearised(function: Pointwise, z: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Return a pointwise function [B, N] and its Jacobian [B, N, P], both differentiable."""
    outer = torch.is_grad_enabled()
    with torch.enable_grad():
        copies = z[:, None].expand(-1, columns["measured"].shape[1], -1)
        copies = copies if copies.requires_grad else copies.detach().requires_grad_()
        value = function(copies, columns)
        (slope,) = torch.autograd.grad(value.sum(), copies, create_graph=outer)
    return (value, slope) if outer else (value.detach(), slope.detach())


def learn_effects(
    model: MixedModel,
    data: TaskData,
    beta: Tensor,
    *,
    spread: float = 0.3,
    noise: dict[str, float] | None = None,
    iterations: int = 200,
    with_errors: bool = True,
) -> LearnedEffects:
    """Learn a population from tasks: the maximum of their marginal likelihood, by BFGS.

    Parameters
    ----------
    beta, spread, noise
        Where to start: fixed effects [F], standard deviation of the parameters between tasks, and
        "constant" and "proportional" parts of the noise.
    iterations
        Most of BFGS; a warning says so where they did not suffice.
    with_errors
        Whether to compute standard errors, by the "sandwich" of Hessian and scores (White,
        Econometrica 50 (1982) 1), which holds also where the model is not quite true.

    Raises
    ------
    ValueError
        With fewer than two tasks, or where nothing varies between them.
    """
    from scipy.optimize import minimize

    if len(data) < 2:
        raise ValueError(f"{len(data)} task(s) cannot show how tasks differ: give at least 2")
    if not model.varying:
        raise ValueError("no parameter varies between tasks: let at least one vary")
    size, count = len(beta), len(model.varying)
    below = count * (count - 1) // 2 if model.correlated else 0
    measured = data.columns["measured"][data.mask > 0].abs()
    starts = {"constant": 0.1 * float(measured.median()), "proportional": 0.2} | (noise or {})
    parts = [
        math.log(starts[name])
        for name, present in zip(("constant", "proportional"), NOISES[model.noise], strict=True)
        if present
        for _ in range(model.kinds)
    ]
    start = torch.cat(
        [beta, beta.new_tensor([math.log(spread)] * count + [0.0] * below + parts)]
    ).numpy()
    least = math.log(SMALLEST)
    bounds = [(None, None)] * size + [(least, math.log(10.0))] * count + [(None, None)] * below
    bounds += [(part + least, part + math.log(1e3)) for part in parts]
    marginal, used = Marginal(model, data), 0

    def evaluated(coordinates: np.ndarray) -> tuple[Tensor, np.ndarray]:
        nonlocal used
        used += 1
        free = torch.from_numpy(coordinates.copy()).requires_grad_()
        value = marginal.of_each(effects_at(model, free, size))
        (gradient,) = torch.autograd.grad(value.sum(), free)
        return value.detach(), gradient.numpy()

    def lost(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = evaluated(coordinates)
        if not (torch.isfinite(value).all() and np.isfinite(gradient).all()):
            marginal.mode = torch.zeros_like(marginal.mode)
            return 1e10, np.zeros_like(coordinates)
        return -float(value.sum()), -gradient

    options = {"maxiter": iterations, "ftol": 1e-11, "gtol": 1e-4}
    end = minimize(lost, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    converged = bool(end.success) and end.fun < 1e9
    if not converged:
        log.warning(
            "the population of %d tasks is not learned to the end (%s after %d evaluations); "
            "allow more iterations or start nearer",
            *(len(data), end.message, used),
        )
    covariance = torch.full((len(start), len(start)), math.nan, dtype=beta.dtype)
    if with_errors:
        # a part at its bound is as good as not there, and has no error
        free = [k for k, (x, (a, _)) in enumerate(zip(end.x, bounds, strict=True)) if a != x]
        found = torch.from_numpy(_sandwich(evaluated, end.x, free))
        index = torch.tensor(free)
        covariance[index[:, None], index] = found
    effects = effects_at(model, torch.from_numpy(end.x), size)
    return LearnedEffects(
        **vars(effects),
        errors=covariance.diagonal().clamp(min=0.0).sqrt(),
        beta_covariance=covariance[:size, :size],
        log_evidence=-float(end.fun),
        evaluations=used,
        converged=converged,
    )


def _sandwich(evaluated, at: np.ndarray, free: list[int], step: float = 1e-4) -> np.ndarray:
    """Return the covariance of estimates from central differences of scores and gradients."""
    scores, hessian = [], []
    for k in free:
        ahead, behind = at.copy(), at.copy()
        ahead[k] += step
        behind[k] -= step
        (above, up), (under, down) = evaluated(ahead), evaluated(behind)
        scores.append(((above - under) / (2 * step)).numpy())
        hessian.append(((down - up) / (2 * step))[free])
    bread = np.array(hessian)
    bread = (bread + bread.T) / 2
    if np.linalg.eigvalsh(bread)[0] <= 0:
        return np.full_like(bread, math.nan)
    inverse = np.linalg.inv(bread)
    return inverse @ (np.array(scores) @ np.array(scores).T) @ inverse


def posterior_of(
    model: MixedModel,
    effects: Effects,
    data: TaskData,
    *,
    uncertainty: Tensor | None = None,
    draws: int = 400,
    proposals: int = 2048,
    seed: int = 0,
) -> Posterior:
    """Return draws of the parameters z [B, S, P] of tasks, which may have no observation.

    Exact in the limit of many proposals (`importance_sampling`), at the population's noise.

    Parameters
    ----------
    uncertainty
        Covariance of the errors of `beta`, [F, F], with which the prior is widened; parameters
        that do not vary keep their value.
    """
    mean = data.offset + data.design @ effects.beta
    factor, count = effects.factor, effects.factor.shape[1]
    covariance = torch.eye(count, dtype=mean.dtype)
    if uncertainty is not None and bool(torch.isfinite(uncertainty).all()):
        back = torch.linalg.pinv(factor) @ data.design
        covariance = covariance + (back @ uncertainty @ back.mT).mean(0)

    def residual(eta: Tensor, c: Columns) -> Tensor:
        f = model.predict(c["mean"] + eta @ factor.mT, c)
        return (f - c["measured"]) / model.deviation(effects.constant, effects.proportional, f, c)

    def log_density(eta: Tensor, c: Columns) -> Tensor:
        f = model.predict(c["mean"] + eta @ factor.mT, c)
        return -model.deviation(effects.constant, effects.proportional, f, c).log()

    observations = data.mask.shape[1]
    columns = {**data.columns, "mean": mean[:, None].expand(-1, observations, -1)}
    tasks = Tasks.of(residual, columns, data.mask)
    prior = GaussianPrior(torch.zeros(count, dtype=mean.dtype), covariance, 1.0)
    priors = replace(TaskPriors.normal(prior, len(data)), log_design=log_density)
    found = sample_posterior(tasks, priors, draws=draws, proposals=proposals, seed=seed)
    return replace(found, draws=mean[:, None] + found.draws @ factor.mT)
