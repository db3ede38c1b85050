"""Daily log returns: those that come with matml, and of a user's own prices."""

from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.project import input_path
from matml.core.text.cells import number_or_nan
from matml.core.text.table import FIRST_ROW, read_text_table

SHIPPED = Path("data/prices/daily_log_returns.csv.gz")
MOST_STILL = 0.3
"""Share of days without any change above which a price says nothing of volatility."""
LONGEST_GAP_DAYS = 14
SPLIT = 0.4
"""Log return from which one that is the ratio of small whole numbers is taken for a split."""


def shipped_returns() -> pd.DataFrame:
    """Return log returns by date of 20 stocks, crude oil, gold and silver; NaN: not traded."""
    path = input_path(SHIPPED)
    return pd.read_csv(path, index_col="date", parse_dates=["date"]) / 1e4


def moves(returns: np.ndarray) -> bool:
    """Return whether a price moves often enough to say something of volatility."""
    return bool((returns == 0).mean() <= MOST_STILL)


def read_prices(path: Path) -> dict[str, pd.Series]:
    """Return the log returns of each asset by date, from columns asset, date, price[, currency].

    Raises
    ------
    MatmlError
        For what is no positive number or date, a date twice or out of order, an asset in two
        currencies, a gap, what looks like a split, and a price that stands still.
    """
    table = read_text_table(path)
    if missing := [name for name in ("asset", "date", "price") if name not in table]:
        raise MatmlError(
            f"{path}: no column {missing[0]!r} among {', '.join(table)}; give asset, date, price, "
            "and a row a day"
        )
    rows = pd.Series([f"{path}, row {i + FIRST_ROW}" for i in table.index], table.index)
    prices = pd.Series([_price(*row) for row in zip(rows, table["price"], strict=True)], rows.index)
    dates = pd.to_datetime(table["date"], format="%Y-%m-%d", errors="coerce")
    if dates.isna().any():
        row = dates.isna().idxmax()
        raise MatmlError(f"{rows[row]}: date {table['date'][row]!r}; write it as 2024-01-31")
    found = {}
    for asset, own in table.groupby("asset", sort=False):
        if "currency" in own and (other := own["currency"] != own["currency"].iloc[0]).any():
            raise MatmlError(
                f"{rows[other.idxmax()]}: currency {own['currency'][other.idxmax()]!r} of "
                f"{asset!r}, which was {own['currency'].iloc[0]!r} before; convert to one"
            )
        returns = np.log(prices[own.index]).diff()
        days = dates[own.index].diff().dt.days
        for row in own.index[1:]:
            _check(f"{rows[row]}: {asset!r}", table["date"][row], days[row], returns[row])
        if len(own) < 3 or not moves(returns.iloc[1:].to_numpy()):
            still = returns.index[returns == 0]
            row = still[0] if len(still) else own.index[-1]
            raise MatmlError(
                f"{rows[row]}: price {table['price'][row]!r} of {asset!r} stands still on "
                f"{len(still)} of {len(own) - 1} days, which says nothing of volatility; give days "
                "that were traded"
            )
        found[str(asset)] = pd.Series(returns.iloc[1:].to_numpy(), dates[own.index[1:]])
    return found


def _price(where: str, text: str) -> float:
    price = number_or_nan(text)
    if not 0 < price < np.inf:
        raise MatmlError(
            f"{where}: price {text!r}; returns are of positive prices: leave the day out, or give "
            "a contract whose price stayed above zero (crude oil for May 2020 did not)"
        )
    return price


def _check(where: str, date: str, days: float, change: float) -> None:
    """Refuse a day that does not follow the one before it, or a jump of a split."""
    if not days > 0:
        raise MatmlError(f"{where}: date {date!r} is not after the row before; sort, once a day")
    if days > LONGEST_GAP_DAYS:
        raise MatmlError(
            f"{where}: date {date!r} is {days:.0f} days after the row before; give the days "
            "between, or only those after the gap"
        )
    ratio = np.exp(abs(change))
    whole = [n / m for n, m in ((3, 2), (2, 1), (3, 1), (4, 1), (5, 1), (10, 1), (20, 1))]
    if abs(change) > SPLIT and min(abs(ratio / w - 1) for w in whole) < 0.02:
        raise MatmlError(
            f"{where}: the price of {date!r} is {np.exp(change):.3g} times the one before, as "
            "after a split; give prices adjusted for splits"
        )
