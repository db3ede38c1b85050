"""Prices of elements, and what the raw material of a crystal costs, with a band."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Element

from matml.core.errors import MatmlError
from matml.core.statistics import NORMAL_90
from matml.core.text.cells import number_or_nan
from matml.core.text.table import FIRST_ROW, read_text_table
from matml.screening.objectives import COST

POPULATION_VOLATILITY = 0.31
"""Deviation per year of the log price of a raw material of which nothing more is known: root mean
square over crude oil, gold and silver, 1978 to 2019 (`data/prices`)."""
PRICE_DRAWS = 400


@dataclass(frozen=True)
class Prices:
    """What elements cost.

    Attributes
    ----------
    by_kg
        Price by symbol.
    volatility
        Deviation of the logarithm of the price after one year, by symbol.
    currency, source
        In which prices are, '' where that is not said, and the file they are from.
    """

    by_kg: Mapping[str, float]
    volatility: Mapping[str, float]
    currency: str
    source: str

    @property
    def unit(self) -> str:
        """Unit of a cost."""
        return f"{self.currency}/kg" if self.currency else "per kg"

    @cached_property
    def symbols(self) -> list[str]:
        """The elements, in the order of `shares`."""
        return sorted(self.by_kg)

    def lacking(self, formula: str) -> list[str]:
        """Return the elements of a formula that have no price."""
        return sorted({e.symbol for e in Composition(formula).elements} - set(self.by_kg))

    def shares(self, formulas: Sequence[str]) -> np.ndarray:
        """Return the share of each element in the cost of crystals, times the cost, [n, E]."""
        place = {symbol: i for i, symbol in enumerate(self.symbols)}
        found = np.zeros((len(formulas), len(place)))
        for row, formula in enumerate(formulas):
            composition = Composition(formula)
            for element in composition.elements:
                weight = composition.get_wt_fraction(element)
                found[row, place[element.symbol]] = weight * self.by_kg[element.symbol]
        return found

    def deviations(self, horizon: float) -> np.ndarray:
        """Return the deviation of each log price after so many years, [E]."""
        return np.sqrt(horizon) * np.array([self.volatility[symbol] for symbol in self.symbols])

    def columns(self, formulas: Sequence[str], horizon: float) -> dict[str, np.ndarray]:
        """Return the cost by mass fractions, with its 90 % band after so many years, [n] each.

        All prices move together in the band, which is then widest: raw materials do so in part.
        """
        shares = self.shares(formulas)
        cost = shares.sum(1)
        factor = np.exp(NORMAL_90 * shares @ self.deviations(horizon) / cost)
        return {COST: cost, f"{COST}_low": cost / factor, f"{COST}_high": cost * factor}

    def draws(self, formulas: Sequence[str], horizon: float, seed: int) -> np.ndarray:
        """Return costs under prices drawn after so many years, each by itself, [draws, n]."""
        generator = np.random.default_rng(seed)
        logs = generator.normal(size=(PRICE_DRAWS, len(self.symbols))) * self.deviations(horizon)
        return np.exp(logs) @ self.shares(formulas).T


def stays_in_top(
    costs: np.ndarray, drawn: np.ndarray, scores: np.ndarray, parts: Sequence, top: int
) -> np.ndarray:
    """Return the share of price draws in which each candidate is among the first `top`, [n].

    Parameters
    ----------
    costs, drawn
        As they are, [n], and under the draws, [draws, n].
    scores
        That candidates are ranked by, [n].
    parts
        Objectives on the cost.
    """
    inside = np.zeros(len(scores))
    for own in drawn:
        moved = scores.copy()
        for objective in parts:
            both = (np.log10(each) for each in (own, costs))
            if objective.kind == "window":
                new, old = (-100.0 * (objective.gap(each) > 0) for each in both)
            else:
                new, old = (objective.utility(each) for each in both)
            moved += new - old
        inside[np.argsort(-moved, kind="stable")[:top]] += 1
    return inside / len(drawn)


def prices_of(path: Path | None) -> Prices:
    """Return the prices of a user's file, or those that come with pymatgen (2013)."""
    if path is not None:
        return read_prices(path)
    import pymatgen.analysis.cost as module

    table = Path(module.__file__).with_name("costdb_elements.csv")
    with table.open(encoding="utf-8") as lines:
        found = {row[0]: float(row[1]) for row in csv.reader(lines) if row}
    volatility = dict.fromkeys(found, POPULATION_VOLATILITY)
    return Prices(found, volatility, "USD", "pymatgen's table of 2013")


def read_prices(path: Path) -> Prices:
    """Return prices from columns element, price_per_kg and, if there, volatility and currency.

    Raises
    ------
    MatmlError
        For a file that is no table, a missing column, what is no element, an element twice, what is
        no positive number, and prices in two currencies.
    """
    by_kg = read_numbers(path, "element", "price_per_kg", positive=True)
    table = read_text_table(path)
    for line, symbol in zip(table.index, table["element"], strict=True):
        if not Element.is_valid_symbol(symbol):
            raise MatmlError(
                f"{path}, line {line + FIRST_ROW}: element: {symbol!r} is no element; give symbols "
                "such as Pb"
            )
    currency = ""
    if "currency" in table:
        currency = table["currency"].iloc[0]
        if (other := table["currency"] != currency).any():
            row = other.idxmax()
            raise MatmlError(
                f"{path}, line {row + FIRST_ROW}: currency {table['currency'][row]!r} of "
                f"{table['element'][row]!r}, and {currency!r} above; convert all to one"
            )
    volatility = dict.fromkeys(by_kg, POPULATION_VOLATILITY)
    if "volatility" in table:
        given = table["volatility"] != ""
        volatility |= read_numbers(path, "element", "volatility", table=table[given])
    return Prices(by_kg, volatility, currency, str(path))


def read_numbers(
    path: Path,
    key: str,
    column: str,
    *,
    positive: bool = False,
    table: pd.DataFrame | None = None,
) -> dict[str, float]:
    """Return the numbers of a column by the names of another.

    Raises
    ------
    MatmlError
        For a file that is no table, a missing column, a name twice, what is no number, what is
        negative or not finite, and 0 where it must be positive.
    """
    table = read_text_table(path) if table is None else table
    if missing := {key, column} - set(table):
        raise MatmlError(
            f"{path}: no column {min(missing)!r} among {', '.join(table)}; give {key} and {column}"
        )
    found: dict[str, float] = {}
    for line, name, text in zip(table.index, table[key], table[column], strict=True):
        where = f"{path}, line {line + FIRST_ROW}"
        value = number_or_nan(text)
        if not 0 <= value < np.inf or (positive and not value):
            least = "above 0" if positive else "from 0 on"
            raise MatmlError(f"{where}: {column} {text!r} of {name!r}; give a number {least}")
        if name in found:
            raise MatmlError(f"{where}: {name!r} is there twice; keep one")
        found[name] = value
    return found
