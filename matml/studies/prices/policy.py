"""Next-day returns, which cannot be forecast, and a policy that trades on volatility alone."""

from collections.abc import Sequence

import numpy as np

from matml.core.statistics import tidy_record
from matml.studies.prices.learners import fit_pooled
from matml.studies.prices.returns import shipped_returns
from matml.studies.prices.study import BEGIN, CUTS, PER_YEAR
from matml.studies.prices.volatility import QUERY, columns, cut_windows

LAGS = 5
FIRST_CUT, END = CUTS[0], CUTS[-1]
OWN_DAYS = 250
"""Of an asset, from which its own regression is learned."""
COST = 0.001
"""Of what is bought or sold: ten basis points."""
REBALANCED = 5
"""Trading days between two changes of the weights."""


def returns_records(seed: int) -> list[dict]:
    """Return the out-of-sample R2 of next-day returns, of each asset, as tidy records.

    Regression on the last five returns: before the first cut, tested from there on; against the
    mean return of the days before the cut (Campbell and Thompson, Rev. Financ. Stud. 21 (2008)
    1509). `pooled`: of the other assets; `each asset`: of its own first `OWN_DAYS` from the cut.
    """
    returns, found = shipped_returns(), dict[str, list[float]](pooled=[])
    found["each asset"] = []
    lagged: dict[str, tuple[np.ndarray, np.ndarray, int]] = {}
    for asset in returns:
        own = returns[asset].dropna()
        first = int((own.index < FIRST_CUT).sum())
        unit = own.to_numpy() / own.to_numpy()[:first].std()
        x = np.stack([np.roll(unit, k) for k in range(1, LAGS + 1)] + [np.ones_like(unit)], 1)
        lagged[asset] = x[LAGS:], unit[LAGS:], first - LAGS
    for asset, (x, y, first) in lagged.items():
        others = [(a[:n], b[:n]) for name, (a, b, n) in lagged.items() if name != asset]
        pooled = _least_squares(*(np.concatenate(part) for part in zip(*others, strict=True)))
        begin = first + OWN_DAYS
        alone = _least_squares(x[first:begin], y[first:begin])
        spread = ((y[begin:] - y[:first].mean()) ** 2).sum()
        for name, slope in (("pooled", pooled), ("each asset", alone)):
            found[name].append(1 - ((y[begin:] - x[begin:] @ slope) ** 2).sum() / spread)
    return [
        _record("returns", name, "R2 out of sample", np.array(values), seed)
        for name, values in found.items()
    ]


def _least_squares(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(x, y, rcond=None)[0]


def wealth(returns: np.ndarray, weights: np.ndarray, rebalance: np.ndarray) -> np.ndarray:
    """Return the daily returns of a portfolio after costs, [days].

    Parameters
    ----------
    returns
        Simple returns of each asset, [days, assets].
    weights
        Wanted at the begin of each day, [days, assets]; each row adds up to one.
    rebalance
        Days on which the weights are brought there, the first among them.
    """
    held, found = np.zeros(returns.shape[1]), np.empty(len(returns))
    for day, own in enumerate(returns):
        cost = 0.0
        if rebalance[day]:
            cost = COST * np.abs(weights[day] - held).sum()
            held = weights[day]
        grown = held * (1 + own)
        found[day] = (1 - cost) * grown.sum() - 1
        held = grown / grown.sum()
    return found


def policies() -> dict[str, np.ndarray]:
    """Return daily returns after costs of each policy on the 20 stocks from the first cut on.

    `inverse volatility`: weights one over the forecast deviation of the next day, by the pooled
    equation learned before the cut; looked at once.
    """
    table = shipped_returns().drop(columns=["crude", "gold", "silver"]).dropna()
    train = cut_windows(table, table, BEGIN, FIRST_CUT, 60 + QUERY)
    scale = float(np.sqrt(np.mean(train.returns**2)))
    z = fit_pooled(train.scaled(scale), 60)
    late = np.asarray(table.index >= FIRST_CUT)
    deviations = np.exp(columns(table.to_numpy().T / scale) @ z / 2).T[late]
    inverse = 1 / deviations
    days, assets = deviations.shape
    returns, equal = np.expm1(table.to_numpy()[late]), np.full((days, assets), 1 / assets)
    weekly, once = np.arange(days) % REBALANCED == 0, np.arange(days) == 0
    return {
        "inverse volatility": wealth(returns, inverse / inverse.sum(1, keepdims=True), weekly),
        "equal weight": wealth(returns, equal, weekly),
        "buy and hold": wealth(returns, equal, once),
    }


def policy_records(seed: int) -> list[dict]:
    """Return yearly return, deviation and Sharpe ratio of each policy as tidy records.

    Intervals, and that of the difference to equal weight, over resampled calendar years.
    """
    found = policies()
    table = shipped_returns().drop(columns=["crude", "gold", "silver"]).dropna()
    years = table.index[table.index >= FIRST_CUT].year.to_numpy()
    each = {name: _by_year(daily, years) for name, daily in found.items()}
    rows = []
    for name, own in each.items():
        for metric, values in own.items():
            rows.append(_record("policy", name, metric, values, seed))
        gain = own["Sharpe ratio"] - each["equal weight"]["Sharpe ratio"]
        if name != "equal weight":
            rows.append(
                _record("policy", name, "Sharpe ratio less that of equal weight", gain, seed)
            )
    return rows


def _by_year(daily: np.ndarray, years: Sequence[int]) -> dict[str, np.ndarray]:
    """Return each calendar year's return, deviation (both by year) and their ratio."""
    parts = [daily[years == year] for year in np.unique(years)]
    mean = np.array([PER_YEAR * part.mean() for part in parts])
    deviation = np.array([np.sqrt(PER_YEAR) * part.std() for part in parts])
    return {
        "return per year": mean,
        "deviation per year": deviation,
        "Sharpe ratio": mean / deviation,
    }


def _record(setting: str, name: str, metric: str, values: np.ndarray, seed: int) -> dict:
    return tidy_record(
        "prices", setting, name, metric, values, shots=0, is_default=False, seed=seed
    )
