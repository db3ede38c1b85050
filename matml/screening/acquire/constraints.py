"""Which crystals may be labelled at all: by their elements, and by what these cost."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from pymatgen.core import Composition, Element

from matml.core.errors import MatmlError


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
    _symbols("prices", prices or ())
    found = []
    for formula in formulas:
        composition = Composition(formula)
        own = {element.symbol for element in composition.elements}
        allowed = not own & excluded and (not wanted or own <= wanted)
        if allowed and prices is not None:
            if missing := sorted(own - set(prices)):
                raise MatmlError(
                    f"prices: {missing[0]} has none, and {formula} holds it; give its price by kg, "
                    f"or leave it out with without_elements={{{missing[0]!r}}}"
                )
            shares = {e.symbol: composition.get_wt_fraction(e) for e in composition.elements}
            allowed = sum(prices[symbol] * share for symbol, share in shares.items()) <= most_price
        found.append(allowed)
    return np.array(found, dtype=bool)


def _symbols(name: str, given: Collection[str]) -> set[str]:
    if isinstance(given, str):
        raise MatmlError(f"{name}: {given!r} is one text; give a set of symbols, {{{given!r}}}")
    for symbol in given:
        if not Element.is_valid_symbol(symbol):
            raise MatmlError(f"{name}: {symbol!r} is no element; give symbols such as Pb")
    return set(given)
