"""Condition a Gaussian process on labels: what every process here does, in one place.

With the covariance K of the labelled crystals (noise included), the covariance C of others with
them, and r what the labels differ from the prior mean by, the others' mean rises by C K^-1 r and
their covariance falls by C K^-1 C^T (Rasmussen and Williams 2006, eqs. 2.23 and 2.24).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def factorise(
    gram: Tensor, noise: Tensor | float, *, check: bool = True, overwrite: bool = False
) -> Tensor:
    """Return the lower Cholesky factor of a covariance with noise, [..., k, k].

    Parameters
    ----------
    gram
        Covariance without noise, [..., k, k].
    noise
        Variance of the labels' noise: one number, or [..., k].
    check
        Whether a covariance that is not positive definite is an error; without, as under
        `torch.vmap`, its factor is not finite.
    overwrite
        Whether `gram` may be written over, which saves the memory of a copy.

    Raises
    ------
    torch.linalg.LinAlgError
        Where the covariance is not positive definite.
    """
    if overwrite:
        gram.diagonal(dim1=-2, dim2=-1).add_(noise)
    else:
        noise = torch.as_tensor(noise, dtype=gram.dtype, device=gram.device)
        k = gram.shape[-1]
        gram = gram + torch.diag_embed(noise.expand(*noise.shape[:-1], k))
    return torch.linalg.cholesky_ex(gram, check_errors=check)[0]


def condition(
    gram: Tensor,
    noise: Tensor | float,
    residuals: Tensor,
    *,
    check: bool = True,
    overwrite: bool = False,
) -> "Conditioned":
    """Return a process given labels.

    Parameters
    ----------
    gram, noise, check, overwrite
        As of `factorise`.
    residuals
        Labels less their prior mean, [..., k]; k may be 0.
    """
    factor = factorise(gram, noise, check=check, overwrite=overwrite)
    return Conditioned(factor, torch.cholesky_solve(residuals[..., None], factor)[..., 0])


@dataclass(frozen=True)
class Conditioned:
    """A Gaussian process given k labels.

    Attributes
    ----------
    factor
        Lower Cholesky factor of the labels' covariance, [..., k, k].
    solved
        Their residuals through the inverse of that covariance, [..., k].
    """

    factor: Tensor
    solved: Tensor

    def __len__(self) -> int:
        """Return the number of labels."""
        return self.solved.shape[-1]

    def whiten(self, columns: Tensor) -> Tensor:
        """Return columns [..., k, m] through the inverse of the factor."""
        return torch.linalg.solve_triangular(self.factor, columns, upper=False)

    def mean(self, cross: Tensor) -> Tensor:
        """Return what the labels add to the mean of crystals, [..., m].

        Parameters
        ----------
        cross
            The crystals' covariance with the labelled ones, [..., m, k].
        """
        return (cross @ self.solved[..., None])[..., 0]

    def explained(self, cross: Tensor) -> Tensor:
        """Return the variance of crystals that the labels take away, [..., m]."""
        return self.whiten(cross.mT).square().sum(-2)

    def covariance(self, cross: Tensor, prior: Tensor, others: Tensor | None = None) -> Tensor:
        """Return what the labels leave of the prior covariance of crystals, [..., m, m].

        Parameters
        ----------
        others
            Of other crystals, [..., l, k], with which `prior` is the covariance, [..., m, l].
        """
        half = self.whiten(cross.mT)
        return prior - half.mT @ (half if others is None else self.whiten(others.mT))

    @property
    def misfit(self) -> Tensor:
        """Squared norm of the whitened residuals, [...]."""
        return (self.factor.mT @ self.solved[..., None]).square().sum((-2, -1))

    def left_out(self, blocks: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return residuals [m] and covariance [m, m] (noise included) of each block's labels.

        Each block is predicted from all labels but its own, in closed form from what stands for all
        of them (Rasmussen and Williams 2006, section 5.4.2, for several labels at once).

        Parameters
        ----------
        blocks
            Row numbers, [m] each.
        """
        precision, found = torch.cholesky_inverse(self.factor), []
        for rows in blocks:
            factor = torch.linalg.cholesky(precision[rows[:, None], rows])
            residuals = torch.cholesky_solve(self.solved[rows, None], factor)[:, 0]
            found.append((residuals, torch.cholesky_inverse(factor)))
        return found
