"""Which crystals may be labelled at all: by their elements, and by what these cost."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np
from pymatgen.core import Composition, Element

from matml.core.errors import MatmlError
from matml.screening.data.prices import read_numbers, read_prices


@dataclass(frozen=True)
class Limits:
    """What `matml screen suggest` may choose, and what it may cost; by default all.

    Attributes
    ----------
    only_elements, without_elements
        Symbols, as of `allowed_rows`.
    prices, most_price
        CSV of elements' prices by kg, and the highest of a candidate by its mass fractions.
    costs, budget
        CSV of what a label of each candidate costs, and what all may cost together.

    Raises
    ------
    MatmlError
        For a budget without costs, and one of prices and the highest price without the other.
    """

    only_elements: Collection[str] = ()
    without_elements: Collection[str] = ()
    prices: Path | None = None
    most_price: float | None = None
    costs: Path | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and self.costs is None:
            raise MatmlError(f"--budget {self.budget:g}: needs --costs FILE, which is not given")
        if (self.most_price is None) != (self.prices is None):
            raise MatmlError("--prices FILE and --most-price NUMBER: give both, or neither")

    def allowed(self, formulas: Iterable[str]) -> np.ndarray:
        """Return whether each candidate is within the limits of elements and price, bool [n]."""
        by_kg = None if self.prices is None else read_prices(self.prices).by_kg
        most = np.inf if self.most_price is None else self.most_price
        return allowed_rows(formulas, self.only_elements, self.without_elements, by_kg, most)

    def cost(self, ids: Iterable[str]) -> np.ndarray | None:
        """Return what a label of each candidate costs, [n], one at least within the budget."""
        if self.costs is None:
            return None
        found = read_costs(self.costs, ids)
        if self.budget is not None and not found.min() <= self.budget:
            raise MatmlError(
                f"--budget {self.budget:g}: the cheapest label costs {found.min():g}; give more"
            )
        return found


def allowed_rows(
    formulas: Iterable[str],
    only: Collection[str] = (),
    without: Collection[str] = (),
    prices: Mapping[str, float] | None = None,
    most_price: float = np.inf,
) -> np.ndarray:
    """Return whether each formula is of allowed elements and not too dear, bool [n].

    Parameters
    ----------
    only, without
        Symbols of elements of which all must be, by default any; and none may be, such as those of
        a list of toxic ones.
    prices, most_price
        By kg of each element, and of the crystal by its mass fractions.

    Raises
    ------
    MatmlError
        For what is no element, and an element without a price.
    """
    wanted, excluded = _symbols("only_elements", only), _symbols("without_elements", without)
    if prices is not None:
        _check_prices(prices)
    found = []
    for formula in formulas:
        composition = Composition(formula)
        own = {element.symbol for element in composition.elements}
        allowed = not own & excluded and (not wanted or own <= wanted)
        if allowed and prices is not None:
            if missing := sorted(own - set(prices)):
                raise MatmlError(
                    f"prices: {', '.join(missing)} of {formula} has none; give it by kg, or leave "
                    "crystals with the element out (without elements)"
                )
            shares = {e.symbol: composition.get_wt_fraction(e) for e in composition.elements}
            allowed = sum(prices[symbol] * share for symbol, share in shares.items()) <= most_price
        found.append(allowed)
    return np.array(found, dtype=bool)


def _check_prices(prices: Mapping[str, float]) -> None:
    """Refuse what is no table of elements and prices from 0 on."""
    if not isinstance(prices, Mapping):
        raise MatmlError(f"prices: {prices!r} is no mapping; give prices by kg as {{'Mg': 2.5}}")
    _symbols("prices", prices)
    for symbol, price in prices.items():
        if not isinstance(price, Real) or not 0 <= price < np.inf:
            raise MatmlError(f"prices: {price!r} of {symbol}; give a number from 0 on, by kg")


def _symbols(name: str, given: Collection[str]) -> set[str]:
    if isinstance(given, str):
        raise MatmlError(f"{name}: {given!r} is one text; give a set of symbols, {{{given!r}}}")
    for symbol in given:
        if not Element.is_valid_symbol(symbol):
            raise MatmlError(f"{name}: {symbol!r} is no element; give symbols such as Pb")
    return set(given)


def read_costs(path: Path, ids: Iterable[str]) -> np.ndarray:
    """Return the cost of a label of each candidate, [n]: columns `id`, `cost`.

    Raises
    ------
    MatmlError
        As `read_numbers`; for a candidate that has none, and a cost of 0.
    """
    found = read_numbers(path, "id", "cost")
    if missing := [name for name in ids if name not in found]:
        raise MatmlError(
            f"{path}: {len(missing)} of the candidates have no cost, the first {missing[0]!r}; "
            "give each a row with that id"
        )
    if free := [name for name, cost in found.items() if cost == 0]:
        raise MatmlError(f"{path}: cost 0 of {free[0]!r}; give positive numbers")
    return np.array([found[name] for name in ids])
