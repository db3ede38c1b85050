"""Windows of assets, what is known before each of their days, and the usual forecasts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.signal import lfilter

from matml.studies.prices.returns import moves

QUERY = 125
"""Days that are forecast, one after the other, after the first K."""
SPANS = (250, 22, 5)
"""Days of the moving averages of squared returns: a year, a month, a week (Corsi, J. Financ.
Econom. 7 (2009) 174)."""
NAMES = ("level", "month", "week", "fall")
DECAYS = (0.90, 0.94, 0.97, 0.99)
"""Of the exponentially weighted average; .94 is that of RiskMetrics (1996)."""


@dataclass(frozen=True)
class Windows:
    """Assets seen from a day on which they are taken to be listed.

    Attributes
    ----------
    assets
        Names, [W].
    returns
        In units of `scale`, [W, days].
    scale
        Root mean square log return of the training windows, 1 where none is known.
    """

    assets: list[str]
    returns: np.ndarray
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.assets)

    def columns(self) -> np.ndarray:
        """Return what is known before each day, [W, days, 5]; the first column is one."""
        return columns(self.returns)

    def scaled(self, scale: float) -> "Windows":
        """Return the windows in another unit."""
        return Windows(self.assets, self.returns * self.scale / scale, scale)


def cut_windows(
    returns: pd.DataFrame, assets: Iterable[str], begin: str, end: str, days: int
) -> Windows:
    """Return windows of so many days, one after the other, within the dates; what stands still not.

    `end` is excluded.
    """
    names, found = [], []
    for asset in assets:
        own = returns[asset].dropna()
        values = own[(own.index >= begin) & (own.index < end)].to_numpy()
        for start in range(0, len(values) - days + 1, days):
            window = values[start : start + days]
            if moves(window):
                names.append(asset)
                found.append(window)
    return Windows(names, np.array(found).reshape(-1, days))


def columns(returns: np.ndarray) -> np.ndarray:
    """Return what is known before each day, [W, days, 5].

    One; logarithms of moving averages of squared returns (`SPANS`: the longest, and how far each
    shorter one is above the next longer one), which begin at one, the population's; and the moving
    average over a week of minus the return in its own units: prices that fall are more volatile
    afterwards (Black 1976).
    """
    windows, days = returns.shape
    averages = np.ones((len(SPANS), windows, days))
    squares = returns**2
    for day in range(days - 1):
        weights = np.maximum(1 / np.array(SPANS), 1 / (day + 2))[:, None]
        averages[:, :, day + 1] = (1 - weights) * averages[:, :, day] + weights * squares[:, day]
    falls = np.concatenate([np.zeros((windows, 1)), -returns[:, :-1]], 1)
    falls[:, 1:] /= np.sqrt(averages[1, :, :-1])
    logs = np.log(averages + 1e-3)
    fall = lfilter([0.2], [1, -0.8], falls, axis=1)
    return np.stack([np.ones_like(fall), logs[0], logs[1] - logs[0], logs[2] - logs[1], fall], -1)


def quasi_likelihood(returns: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return QLIKE of each day, log h + r^2 / h (Patton, J. Econometrics 160 (2011) 246)."""
    return np.log(variances) + returns**2 / variances


def first_variance(returns: np.ndarray, shots: int) -> np.ndarray:
    """Return the mean square of the first days, [W, 1]."""
    return np.maximum((returns[:, :shots] ** 2).mean(1, keepdims=True), 1e-3)


def weighted_average(returns: np.ndarray, shots: int, decay: float) -> np.ndarray:
    """Return the exponentially weighted average of squares before each day, [W, days]."""
    before = np.concatenate([first_variance(returns, shots) / (1 - decay), returns[:, :-1] ** 2], 1)
    return lfilter([1 - decay], [1, -decay], before, axis=1)


def garch(free: np.ndarray, returns: np.ndarray, shots: int) -> np.ndarray:
    """Return variances h_t = w + a r_{t-1}^2 + b h_{t-1} (Bollerslev 1986), [W, days].

    `free`: log of the long-run variance; logits of the persistence a + b and of a's share of it.
    """
    persistence, share = 1 / (1 + np.exp(-np.clip(free[1:], -20, 8)))
    drive = np.exp(free[0]) * (1 - persistence) + persistence * share * np.concatenate(
        [np.zeros((len(returns), 1)), returns[:, :-1] ** 2], 1
    )
    drive[:, :1] = first_variance(returns, shots)
    return np.maximum(lfilter([1], [1, -persistence * (1 - share)], drive, axis=1), 1e-6)


def fit_garch(returns: np.ndarray, shots: int, days: slice) -> np.ndarray:
    """Return the parameters of highest likelihood on some days of all windows together."""

    def lost(free: np.ndarray) -> float:
        variances = garch(free, returns, shots)
        return float(quasi_likelihood(returns, variances)[:, days].mean())

    start = [np.log(np.mean(returns[:, days] ** 2) + 1e-3), 3.0, -2.0]
    return minimize(lost, start, method="Nelder-Mead", options={"maxfev": 400}).x


def usual_forecasts(
    train: Windows, validation: Windows, test: Windows, shots: int
) -> dict[str, np.ndarray]:
    """Return the variances of each day of the test windows by the usual methods, [W, days] each."""
    returns = test.returns
    decay = min(
        DECAYS, key=lambda d: _query(validation, shots, lambda r: weighted_average(r, shots, d))
    )
    pooled = fit_garch(train.returns, shots, slice(1, None))
    alone = [fit_garch(own[None], shots, slice(1, shots)) for own in returns]
    return {
        "constant": first_variance(returns, shots) + np.zeros_like(returns),
        "EWMA": weighted_average(returns, shots, decay),
        "GARCH, each asset": np.concatenate(
            [garch(free, own[None], shots) for free, own in zip(alone, returns, strict=True)]
        ),
        "GARCH, pooled": garch(pooled, returns, shots),
    }


def _query(windows: Windows, shots: int, forecast: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the mean QLIKE of a forecast after the first days."""
    variances = forecast(windows.returns)
    return float(quasi_likelihood(windows.returns, variances)[:, shots:].mean())
