"""A process whose mean may be off by an offset and a slope, as far as the labels say so.

What was learned can be wrong for a user: energies against another reference, values of another
method, another unit. The mean m is then a + (1 + b) m, with normal priors of a and b whose widths
are a mixture over decades, which makes heavy tails. Given the labels each case is a linear model
within the Gaussian process, in closed form (Rasmussen and Williams 2006, section 2.7), and the
evidence of the labels weighs the cases.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from matml.gp.condition import Conditioned

Case = tuple[float, float, float]
"""Prior deviations of offset and slope, in units of the labels' and 1; how likely they are."""
SHIFTED = 0.05
"""How likely the mean is off; with a slope in half of the cases."""
OFFSETS = {1.0: 0.45, 5.0: 0.45, 25.0: 0.05, 125.0: 0.05}
SLOPES = {0.5: 0.9, 5.0: 0.1}
"""Prior deviations and how likely each is, chosen on perturbed labels of validation families."""
CASES: tuple[Case, ...] = (
    (0.0, 0.0, 1 - SHIFTED),
    *((o, 0.0, SHIFTED / 2 * share) for o, share in OFFSETS.items()),
    *((o, s, SHIFTED / 2 * a * b) for o, a in OFFSETS.items() for s, b in SLOPES.items()),
)
AS_LEARNED: tuple[Case, ...] = ((0.0, 0.0, 1.0),)


@dataclass(frozen=True)
class Shifted:
    """A conditioned process, with what its labels say of an offset and a slope of its mean.

    Attributes
    ----------
    given
        The process as learned, given k labels.
    basis
        One and the prior mean of the labelled crystals through the inverse of the factor, [k, 2].
    shift, covariance
        Posterior mean and covariance of offset and slope in each case, [cases, 2], [cases, 2, 2].
    misfit
        Squared norm of the whitened residuals in each case, [cases].
    weights
        Of the cases, [cases]; sum 1.
    evidence
        Logarithm of the labels' probability, [].
    """

    given: Conditioned
    basis: Tensor
    shift: Tensor
    covariance: Tensor
    misfit: Tensor
    weights: Tensor
    evidence: Tensor

    @classmethod
    def of(
        cls,
        given: Conditioned,
        mean: Tensor,
        cases: tuple[Case, ...],
        log_likelihood: Callable[[Tensor, Tensor], Tensor],
    ) -> "Shifted":
        """Return what labels say.

        Parameters
        ----------
        mean
            Prior mean of the labelled crystals, [k].
        cases
            To choose from; the first alone where there is no label.
        log_likelihood
            Of the labels, from misfits and logarithms of the covariance's determinant, [cases].
        """
        table = torch.tensor(cases if len(given) else cases[:1], dtype=torch.float64)
        basis = given.whiten(torch.stack([torch.ones_like(mean), mean], 1))
        residual = given.factor.mT @ given.solved[:, None]
        inner, side = basis.mT @ basis, basis.mT @ residual
        prior = torch.diag_embed(table[:, :2].square())
        # (1 / prior + inner)^-1, also where a prior is zero
        identity = torch.eye(2, dtype=torch.float64)
        spread = identity + prior @ inner
        covariance = torch.linalg.solve(spread, prior)
        shift = (covariance @ side)[..., 0]
        misfit = (residual.square().sum() - shift @ side[:, 0]).clamp(min=0.0)
        determinant = 2 * given.factor.diagonal().log().sum() + torch.linalg.slogdet(spread)[1]
        joint = log_likelihood(misfit, determinant) + (table[:, 2] / table[:, 2].sum()).log()
        evidence = joint.logsumexp(0)
        weights = (joint - evidence).exp()
        return cls(given, basis, shift, covariance, misfit, weights, evidence)

    def __len__(self) -> int:
        """Return the number of labels."""
        return len(self.given)

    @property
    def as_learned(self) -> float:
        """How likely the mean is as it was learned."""
        return float(self.weights[0])

    @property
    def expected(self) -> tuple[float, float]:
        """Offset and slope of the mean that the labels let expect."""
        offset, slope = (self.weights @ self.shift).tolist()
        return offset, 1 + slope

    @property
    def sloped(self) -> float:
        """How likely the mean is off by a slope, too."""
        return float(self.weights[self.covariance[:, 1, 1] > 0].sum())

    def at(
        self, mean: Tensor, cross: Tensor, variance: Tensor, noise: Tensor, factor: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mean and deviation (noise included) of labels of m crystals, [m].

        Parameters
        ----------
        mean, variance
            Before any label, without noise, [m].
        cross
            Covariances with the labelled crystals, [m, k].
        noise
            Variance of a label.
        factor
            Of the covariance in each case, [cases].
        """
        half = self.given.whiten(cross.mT)
        left = variance - half.square().sum(0)
        rest = torch.stack([torch.ones_like(mean), mean], 1) - half.mT @ self.basis
        means = mean + self.given.mean(cross) + self.shift @ rest.mT
        further = torch.einsum("mi,cij,mj->cm", rest, self.covariance, rest)
        variances = (left + further + noise).clamp(min=1e-9) * factor[:, None]
        total = self.weights @ means
        spread = self.weights @ (variances + (means - total).square())
        return total, spread.sqrt()


def student_likelihood(
    freedom: Tensor, spread: Tensor, shots: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the log likelihood of k labels whose covariance holds up to an inverse gamma factor.

    Parameters
    ----------
    freedom, spread
        As of `matml.gp.stack.GPStack`.
    """
    # beyond, the logarithms of gamma functions lose their digits, and the tails no longer matter
    freedom = freedom.clamp(max=1e6)
    constant = torch.lgamma((freedom + shots) / 2) - torch.lgamma(freedom / 2)
    constant = constant - shots / 2 * (math.log(math.pi) + (freedom * spread).log())

    def value(misfit: Tensor, determinant: Tensor) -> Tensor:
        tail = torch.log1p(misfit / (freedom * spread))
        return constant - determinant / 2 - (freedom + shots) / 2 * tail

    return value
