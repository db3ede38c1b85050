"""What a trial of a new alloy will give: the population's curves, and how alloys depart from them.

A fitted equation leaves differences that neighbouring conditions share. They decide whether a
second trial hits after a first one that missed: a departure with a Gaussian covariance over
temperature and log time carries over what was measured, beside the parameters. Alloys differ in how
far they are from what their composition predicts, so that curves and departures come at several
scales, whose probabilities a measurement changes, too.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

NOTHING = 1e-4
"""Of the largest weight."""
AXIS = 48
"""Values between which equally probable ones are sought."""


@dataclass(frozen=True)
class Spread:
    """How far values of a new alloy stray from the curve that its prior predicts.

    Attributes
    ----------
    share
        Part of the prior's variance of curves that counts.
    common, local
        Standard deviation of a departure that all conditions share, and of one that near ones do,
        in the population's noise.
    noise
        Of a single measurement, in the population's noise.
    temperature_K, decades
        Over which the local departure persists: in temperature, and in the logarithm of time.
    scales, chances
        Of the variances of all but the noise, and their probabilities.
    """

    share: float = 1.0
    common: float = 0.0
    local: float = 0.0
    noise: float = 1.0
    temperature_K: float = 100.0
    decades: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    chances: tuple[float, ...] = (1.0,)

    def covariance(self, temperature_K: Tensor, log_time: Tensor) -> Tensor:
        """Return that of departures at conditions [..., M], in squares of the noise [..., M, M]."""
        apart = (temperature_K[..., :, None] - temperature_K[..., None, :]) / self.temperature_K
        later = (log_time[..., :, None] - log_time[..., None, :]) / self.decades
        near = torch.exp(-(apart.square() + later.square()) / 2)
        return self.common**2 + self.local**2 * near


@dataclass(frozen=True)
class Belief:
    """Joint distribution of what would be measured at M conditions of one alloy.

    Attributes
    ----------
    centre, curves
        Expected curve [M], and draws of it [S, M], from the population.
    departures
        Covariance of departures from the curve, [M, M].
    noise
        Standard deviation of a measurement.
    spread
        Scales, and the share of the curves' variance.
    """

    centre: Tensor
    curves: Tensor
    departures: Tensor
    noise: float
    spread: Spread

    @cached_property
    def scaled(self) -> tuple[Tensor, Tensor]:
        """Scales [L, 1, 1], and the curves at each, [L, S, M]."""
        scales = self.curves.new_tensor(self.spread.scales)[:, None, None]
        width = (scales * self.spread.share).sqrt()
        return scales, self.centre + width * (self.curves - self.centre)

    def given(self, measured: list[int], values: list[float]) -> "Outlook":
        """Return what is to be expected after values at some of the conditions (by number)."""
        scales, curves = self.scaled
        log_weights = curves.new_tensor(self.spread.chances).log()[:, None]
        log_weights = log_weights.expand(curves.shape[:2])
        variance = scales[..., 0] * self.departures.diagonal()
        if measured:
            at = torch.tensor(measured)
            cross = scales * self.departures[:, at]
            inner = scales * self.departures[at][:, at]
            inner = inner + self.noise**2 * torch.eye(len(at), dtype=inner.dtype)
            gain = torch.linalg.solve(inner, cross, left=False)
            misfit = curves.new_tensor(values) - curves[:, :, at]
            squares = (torch.linalg.solve(inner, misfit, left=False) * misfit).sum(-1)
            log_weights = log_weights - (squares + torch.logdet(inner)[:, None]) / 2
            curves = curves + misfit @ gain.mT
            variance = variance - (gain * cross).sum(-1)
        weights = torch.softmax(log_weights.flatten(), 0).reshape(log_weights.shape)
        # draws that count for nothing cost time only
        kept = weights.amax(0) > NOTHING * weights.max()
        weights = weights / weights[:, kept].sum()
        deviation = (variance.clamp(min=0.0) + self.noise**2).sqrt()
        return Outlook(weights[:, kept], curves[:, kept], deviation)


@dataclass(frozen=True)
class Outlook:
    """A mixture of normals at each condition.

    Attributes
    ----------
    weights, means
        Of scales and draws, [L, S] and [L, S, M].
    deviations
        [L, M].
    """

    weights: Tensor
    means: Tensor
    deviations: Tensor

    def chance(self, low: float, high: float) -> Tensor:
        """Return the probability of each condition to give a value between two ends, [M]."""
        upper, lower = (
            torch.special.ndtr((end - self.means) / self.deviations[:, None]) for end in (high, low)
        )
        return torch.einsum("ls,lsm->m", self.weights, upper - lower)

    def mean(self) -> Tensor:
        """Return the expected values [M]."""
        return torch.einsum("ls,lsm->m", self.weights, self.means)

    def collapsed(self) -> "Outlook":
        """Return the mixture with one normal a scale, of the same mean and variance."""
        weights = self.weights.sum(1, keepdim=True).clamp(min=1e-300)
        shares = (self.weights / weights)[:, None]
        means = shares @ self.means
        variance = (shares @ (self.means - means).square())[:, 0] + self.deviations.square()
        return Outlook(weights, means, variance.sqrt())

    def outcomes(self, condition: int, count: int) -> list[float]:
        """Return equally probable values of one condition: middles of as many parts."""
        ladder = (torch.arange(count, dtype=self.means.dtype) + 0.5) / count
        means = self.means[..., condition]
        deviation = self.deviations[:, condition, None].expand_as(means)
        low, high = (means - 6 * deviation).min(), (means + 6 * deviation).max()
        axis = torch.linspace(float(low), float(high), AXIS, dtype=means.dtype)
        below = torch.special.ndtr((axis[:, None, None] - means) / deviation)
        return axis[
            torch.searchsorted((self.weights * below).sum((1, 2)), ladder).clamp(max=AXIS - 1)
        ].tolist()
