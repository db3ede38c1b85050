"""Volatility of assets not seen before, walking forward in time: methods against each other."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from matml.core.statistics import NORMAL_90, tidy_record
from matml.studies.prices.learners import Learned, learn, meta_learned
from matml.studies.prices.returns import shipped_returns
from matml.studies.prices.volatility import (
    QUERY,
    Windows,
    cut_windows,
    quasi_likelihood,
    usual_forecasts,
)

log = logging.getLogger(__name__)

FOLDS = 4
BEGIN, CUTS = "1978-01-01", ("2000-01-01", "2008-01-01", "2015-01-01", "2023-01-01")
"""Learned from what is before a cut, tested from there to the next one."""
LONG = 500
"""Days, after the first ones, of the windows that tell how assets differ."""
DEFAULT = "Bayes"
NEW = 60
"""First days of a new asset."""
PER_YEAR = 252
"""Trading days."""


@dataclass(frozen=True)
class Split:
    """Windows of one fold of assets and one cut in time, in units of the training returns."""

    long: Windows
    train: Windows
    validation: Windows
    test: Windows


def folds(assets: Sequence[str], seed: int) -> list[list[str]]:
    """Return the assets dealt into folds at random."""
    order = np.random.default_rng(seed).permutation(len(assets))
    return [[assets[i] for i in order[fold::FOLDS]] for fold in range(FOLDS)]


def split(returns: pd.DataFrame, held: Sequence[str], cut: int, shots: int) -> Split:
    """Return the windows of a fold: no asset and no day of the test is learned from.

    A fifth of the other assets is for validation.
    """
    others = [name for name in returns if name not in held]
    validation, learned = others[::5], [n for i, n in enumerate(others) if i % 5]
    days = shots + QUERY
    train = cut_windows(returns, learned, BEGIN, CUTS[cut], days)
    scale = float(np.sqrt(np.mean(train.returns**2)))
    return Split(
        cut_windows(returns, learned, BEGIN, CUTS[cut], shots + LONG).scaled(scale),
        train.scaled(scale),
        cut_windows(returns, validation, BEGIN, CUTS[cut], days).scaled(scale),
        cut_windows(returns, held, CUTS[cut], CUTS[cut + 1], days).scaled(scale),
    )


def forecasts(windows: Split, shots: int, seed: int) -> tuple[dict[str, np.ndarray], Learned]:
    """Return the variances of each day of the test windows by method, and the default learner."""
    train, validation, test = windows.train, windows.validation, windows.test
    found = usual_forecasts(train, validation, test, shots)
    learned, pooled = learn(windows.long, train, validation, shots)
    found["log-linear, pooled"] = np.exp(test.columns() @ pooled)
    found["log-linear, MAML"] = meta_learned(pooled, train, validation, test, shots, seed=seed)
    found[DEFAULT] = learned.forecast(test)
    return found, learned


def volatility(
    shots: int, seed: int, parts: Sequence[tuple[int, int]] | None = None
) -> pd.DataFrame:
    """Return QLIKE and what lies within the 90 % bands, of each test window and method.

    QLIKE is of returns in units of the asset's own root mean square: that shifts all methods by
    one number.

    Parameters
    ----------
    shots
        Days from which the learners adapt.
    parts
        Fold and cut of each part, by default all.
    """
    returns, rows = shipped_returns(), []
    own = np.sqrt((returns**2).mean())
    for fold, cut in parts or [(f, c) for f in range(FOLDS) for c in range(len(CUTS) - 1)]:
        windows = split(returns, folds(list(returns), seed)[fold], cut, shots)
        found, learned = forecasts(windows, shots, seed)
        test = windows.test
        for method, variances in found.items():
            after, own_returns = variances[:, shots:], test.returns[:, shots:]
            ratio = own_returns / np.sqrt(after)
            low, high = learned.band if method == DEFAULT else (-NORMAL_90, NORMAL_90)
            losses = quasi_likelihood(own_returns, after).mean(1)
            inside = ((ratio >= low) & (ratio <= high)).mean(1)
            for asset, loss, share in zip(test.assets, losses, inside, strict=True):
                unit = 2 * float(np.log(test.scale / own[asset]))
                rows.append((fold, cut, asset, method, loss + unit, share))
        log.info("fold %d, from %s: %d windows", fold + 1, CUTS[cut], len(test))
    return pd.DataFrame(rows, columns=["fold", "cut", "asset", "method", "qlike", "within"])


def records(table: pd.DataFrame, shots: int, seed: int) -> list[dict]:
    """Return tidy records: means over assets, and differences to the default on the same assets."""
    found = []
    for metric in ("qlike", "within"):
        by_asset = table.pivot_table(index="asset", columns="method", values=metric, sort=False)
        for method in by_asset:
            values = {metric: by_asset[method]}
            if metric == "qlike" and method != DEFAULT:
                values["qlike less default's"] = by_asset[method] - by_asset[DEFAULT]
            found += [
                tidy_record(
                    "prices",
                    "volatility",
                    method,
                    name,
                    each.to_numpy(),
                    shots=shots,
                    is_default=method == DEFAULT,
                    seed=seed,
                )
                for name, each in values.items()
            ]
    return found


def learned_from_all() -> Learned:
    """Return the default learner of all assets until the last cut, for one with `NEW` days."""
    windows = split(shipped_returns(), [], -1, NEW)
    return learn(windows.long, windows.train, windows.validation, NEW)[0]


def forecast(assets: Mapping[str, pd.Series], horizon: int, seed: int) -> pd.DataFrame:
    """Return what is learned of a user's assets, as `read_prices` returns them, a row each.

    Returns
    -------
    pandas.DataFrame
        asset, days given, volatility_per_year over the horizon; next_low, next_high: 90 % band of
        the next day's return; horizon_low, horizon_high: of the whole horizon's; both in percent.
    """
    rows = []
    learned = learned_from_all()
    for name, own in assets.items():
        # two years say what there is to say
        values = own.to_numpy()[-2 * PER_YEAR :] / learned.scale
        paths, variances = learned.simulate(values, horizon, seed=seed)
        yearly = np.sqrt(PER_YEAR * variances.mean()) * learned.scale
        ends = [np.quantile(each, [0.05, 0.95]) for each in (paths[:, 0], paths.sum(1))]
        bands = 100 * np.expm1(np.concatenate(ends) * learned.scale)
        rows.append((name, len(own), yearly, *bands))
    names = ["next_low", "next_high", "horizon_low", "horizon_high"]
    return pd.DataFrame(rows, columns=["asset", "days", "volatility_per_year", *names])
