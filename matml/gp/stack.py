"""A Gaussian process for new families, stacked from what several models say of them.

Before any label of a family is known, each model (the networks, global Gaussian processes) gives a
mean for its crystals, and kernels say which of its crystals err together. The stack is the Gaussian
process whose mean is a weighted mean of theirs and whose covariance is a weighted sum of the
kernels; labels of the family condition it exactly. Its dozen weights are learned on training
families, each predicted crystal by crystal, with means and covariances from models that have not
seen the family (cross-fitting by family), since only there is what a new family leaves to learn.

Families differ in how far the models are off, so that the covariance holds up to a factor of the
family's own, inverse gamma distributed; the family's labels tell of it, in closed form (a Student-t
process, Shah, Wilson and Ghahramani 2014, arXiv 1402.4306). Predictions do not depend on it.
"""

import math
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import gammaln
from torch import Tensor

from matml.gp.condition import factorise
from matml.gp.joint import JointProcess, Process, Rows, Said
from matml.gp.kernels import JITTER
from matml.gp.sequences import Predictions, Sequences
from matml.gp.shifts import AS_LEARNED, CASES, Case, Shifted, student_likelihood
from matml.gp.trend import FLAT, Trend

FREEDOM = (1.0, 100.0)
"""Least and most degrees of freedom of the families' factors: from wild to all alike."""
TENSORS = ("mean_weights", "variances", "noise", "freedom", "spread")
WIDEST, SEVERAL = 2.5, 3
"""How many times that before any label a deviation may be, where the mean is as it was learned, and
from how many labels on: one odd label would widen all intervals without end, but one or two that
are far off may be all there is to tell that the model is wrong here."""
Told = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Mean and scale of labels, and their scale before any label was known, [m] each."""
ALIKE, ONE = torch.tensor(1e12, dtype=torch.float64), torch.tensor(1.0, dtype=torch.float64)


@dataclass(frozen=True)
class QueryPredictions:
    """What the base models say of m crystals one by one, and of how they go with a support.

    Attributes
    ----------
    means
        [models, m].
    cross
        Covariances with the k crystals of the support, [kernels, m, k].
    variances
        [kernels, m].
    """

    means: Tensor
    cross: Tensor
    variances: Tensor


@dataclass(frozen=True)
class GPStack:
    """The learned weights.

    Attributes
    ----------
    mean_weights
        [models], positive, sum 1.
    variances
        [kernels].
    noise
        Variance of a label.
    freedom, spread
        Degrees of freedom and scale of the inverse gamma distribution of a family's factor, whose
        shape and rate are half of `freedom` and of `freedom * spread`. All alike, by default.
    cases
        Of what the mean may be off by; not at all, by default.
    trend
        How a label's deviation goes with its prediction.
    offset
        Added to the mean.
    """

    mean_weights: Tensor
    variances: Tensor
    noise: Tensor
    freedom: Tensor = ALIKE
    spread: Tensor = ONE
    cases: tuple[Case, ...] = AS_LEARNED
    trend: Trend = FLAT
    offset: float = 0.0

    def joint(self, predictions: Predictions) -> JointProcess:
        """Return the process over crystals, written out."""
        mean, covariance = self._weigh(predictions.means, predictions.covariances)
        return JointProcess(mean, self.label_noise, covariance)

    @property
    def label_noise(self) -> float:
        """What the noise of a label adds to the covariance."""
        return float(self.noise) + JITTER

    def predict(
        self,
        joint: Process,
        rows: Rows,
        labels: np.ndarray,
        query: Rows,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return posterior mean and scale (noise included) of the query, [m].

        The scale is that of Student's t: the deviation before the factor, times the root of what
        the labels let expect of the factor.

        Parameters
        ----------
        joint
            What `joint` gave.
        rows, labels
            Labelled crystals and their labels, [k].
        """
        return self.query(joint, self.given_rows(joint, rows, labels), rows, query)[:2]

    def given_rows(self, joint: Process, rows: Rows, labels: np.ndarray) -> Shifted:
        """Return the process over crystals given labels of some of them, [k]."""
        mean = joint.mean[torch.as_tensor(np.asarray(rows, np.int64))]
        likelihood = student_likelihood(self.freedom, self.spread, len(labels))
        return Shifted.of(joint.given(rows, labels), mean, self.cases, likelihood)

    def query(
        self,
        joint: Process,
        given: Shifted,
        rows: Rows,
        query: Rows,
    ) -> Told:
        """Return what `predict` does, and the scale before any label, of the process given labels
        of `rows`.
        """
        asked = torch.as_tensor(np.asarray(query, np.int64))
        cross = joint.beside(rows)[asked]
        return self._at(given, joint.mean[asked], cross, joint.variance()[asked])

    def given(self, support: Predictions, labels: np.ndarray) -> Shifted:
        """Return the process given the support's predictions and labels, [k]."""
        return self.given_rows(self.joint(support), range(len(labels)), labels)

    def at(self, query: QueryPredictions, given: Shifted) -> Told:
        """Return what `query` does, of crystals one by one beside the support."""
        return self._at(given, *self.weigh(query))

    def weigh(self, query: QueryPredictions) -> Said:
        """Return mean, covariance with the support, and variance of crystals one by one."""
        return *self._weigh(query.means, query.cross), self.variances @ query.variances

    def _at(self, given: Shifted, mean: Tensor, cross: Tensor, variance: Tensor) -> Told:
        """Return mean and scale of labels, and their scale before any, [m]."""
        factor = self.factor(given.misfit, len(given))
        found, own = (part.numpy() for part in given.at(mean, cross, variance, self.noise, factor))
        deviation = own * self.trend.factor(found)
        before = ((variance + self.noise).clamp(min=1e-9) * self.spread).sqrt().numpy()
        before *= self.trend.factor(mean.numpy())
        if len(given) >= SEVERAL:
            # labels that speak against the mean may widen it without end
            deviation = np.minimum(deviation, before * (WIDEST / max(given.as_learned, 1e-9)))
        return found, deviation, before

    def _weigh(self, means: Tensor, covariances: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted mean and the weighted covariance."""
        mean = self.mean_weights @ means + self.offset
        return mean, torch.einsum("k,kab->ab", self.variances, covariances)

    def moved(self, offset: float, widening: float) -> "GPStack":
        """Return the stack of crystals whose labels lie elsewhere and spread wider than usual."""
        square = widening**2
        return replace(
            self, offset=offset, variances=self.variances * square, noise=self.noise * square
        )

    def factor(self, misfit: Tensor | float, shots: int) -> Tensor:
        """Return what a family's labels let expect of the factor of its covariance.

        Parameters
        ----------
        misfit
            Squared norm of the whitened residuals of the labels.
        shots
            Number of labels.
        """
        return (self.freedom * self.spread + misfit) / (self.freedom + shots)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, for a file."""
        trend = torch.tensor(astuple(self.trend), dtype=torch.float64)
        return {name: getattr(self, name) for name in TENSORS} | {"trend": trend}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> "GPStack":
        """Return what `tensors` gave."""
        known: dict[str, Any] = {name: tensors[name] for name in TENSORS}
        return cls(**known, cases=CASES, trend=Trend(*tensors["trend"].tolist()))


def sequential_loss(
    mean_weights: Tensor,
    variances: Tensor,
    noise: Tensor,
    sequences: Sequences,
) -> Tensor:
    """Return the cost of each family, [families]: each crystal from the labels of those before it.

    One triangular factor gives the predictions for every number of labels at once: the whitened
    residuals of a family in some order are its errors one step ahead, and the factor's diagonal
    their deviations (the prequential view of the likelihood, Dawid 1984, 10.2307/2981683). The
    cost is that of a Laplace distribution, since errors are judged by their absolute value.
    """
    ahead, deviation = _one_ahead(mean_weights, variances, noise, sequences)
    each = (math.sqrt(2) * ahead.abs() + deviation.log()) * sequences.present
    return each.sum(1) / sequences.present.sum(1)


def _one_ahead(
    mean_weights: Tensor, variances: Tensor, noise: Tensor, sequences: Sequences
) -> tuple[Tensor, Tensor]:
    """Return each crystal's error over its deviation given those before it, and the deviation.

    Both are [families, n]; a missing crystal has error 0 and deviation 1.
    """
    mean = torch.einsum("m,fmn->fn", mean_weights, sequences.means)
    covariance = torch.einsum("k,fkab->fab", variances, sequences.covariances)
    present = sequences.present
    diagonal = (noise + JITTER) * present + (1 - present)
    factor = factorise(covariance, diagonal)
    residual = ((sequences.labels - mean) * present)[..., None]
    ahead = torch.linalg.solve_triangular(factor, residual, upper=False)[..., 0]
    return ahead, factor.diagonal(dim1=1, dim2=2)


def family_factors(misfit: np.ndarray, crystals: np.ndarray) -> tuple[float, float]:
    """Return the most probable degrees of freedom and scale of the families' factors.

    By the likelihood of whole families, each a multivariate Student t.

    Parameters
    ----------
    misfit
        Squared norm of a family's whitened residuals, [families].
    crystals
        Their number, [families].
    """

    def cost(logarithms: np.ndarray) -> float:
        freedom, spread = np.exp(logarithms)
        each = (
            gammaln((freedom + crystals) / 2)
            - gammaln(freedom / 2)
            - crystals / 2 * np.log(freedom * spread)
            - (freedom + crystals) / 2 * np.log1p(misfit / (freedom * spread))
        )
        return -float(each.mean())

    start = np.log([4.0, max(float(misfit.sum() / crystals.sum()), 1e-6)])
    bounds = [np.log(FREEDOM), (start[1] - 5, start[1] + 5)]
    found = minimize(cost, start, method="Nelder-Mead", bounds=bounds)
    freedom, spread = np.exp(found.x)
    return float(freedom), float(spread)


STRENGTH = 0.1
"""Of the prior on logarithms about equal shares, in sequences; it decides where families do not."""
RATE, BATCH = 0.1, 48


def learn_stack(
    sequences: Sequences,
    scale: float,
    *,
    steps: int = 80,
    start: GPStack | None = None,
    seed: int = 0,
) -> GPStack:
    """Return the stack that best predicts each crystal of a family from those before it.

    Parameters
    ----------
    sequences
        Of training families, with cross-fitted predictions.
    scale
        Variance of a family's errors before any label, which the kernels share at the start.
    steps
        Of Adam, each on `BATCH` random sequences; the rate falls to 0 in the second half.
    start
        A stack to begin with, such as that of nearly the same families; else the prior's centre.
    """
    models, kernels = sequences.means.shape[1], sequences.covariances.shape[1]
    crystals = sequences.present.sum()
    size = sequences.covariances.diagonal(dim1=2, dim2=3).sum((0, 2)) / crystals
    share = torch.tensor([scale / kernels], dtype=torch.float64)
    centre = torch.cat(
        [
            torch.zeros(models, dtype=torch.float64),
            (share / size.clamp(min=1e-9)).log(),
            (0.1 * kernels * share).log(),
        ]
    )
    free = centre.clone()
    if start is not None:
        logarithms = start.mean_weights.log()
        free = torch.cat(
            [logarithms - logarithms.mean(), start.variances.log(), start.noise.reshape(1).log()]
        )
    free.requires_grad_()
    optimizer = torch.optim.Adam([free], lr=RATE)
    generator = torch.Generator().manual_seed(seed)

    def parts() -> tuple[Tensor, Tensor, Tensor]:
        return free[:models].softmax(0), free[models:-1].exp(), free[-1].exp()

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, 2 * (1 - step / steps))
        chosen = torch.randperm(len(sequences), generator=generator)[:BATCH]
        value = sequential_loss(*parts(), sequences[chosen]).mean()
        value = value + STRENGTH / len(sequences) * (free - centre).square().sum()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        mean_weights, variances, noise = (part.clone() for part in parts())
        ahead, _ = _one_ahead(mean_weights, variances, noise, sequences)
    factors = family_factors(ahead.square().sum(1).numpy(), sequences.present.sum(1).numpy())
    freedom, spread = (torch.tensor(each, dtype=torch.float64) for each in factors)
    return GPStack(mean_weights, variances, noise, freedom, spread, CASES)
