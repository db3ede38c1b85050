"""Ions: oxidation states, Shannon radii and electronegativity, all from pymatgen's element data."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median

from pymatgen.core import Element

# Shannon's plain coordinations; square-planar and pyramidal ones (IVSQ, IVPY, IIIPY) are left out
ROMAN = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV"]
COORDINATIONS = {name: number for number, name in enumerate(ROMAN, start=1)}
SPINS = {"high": "High Spin", "low": "Low Spin"}


@dataclass(frozen=True)
class Ion:
    """One ion on a site: element symbol, charge, Shannon ionic radius.

    Attributes
    ----------
    radius
        Angstrom, at the coordination of the site.
    coordination_gap
        How far the coordination number of the site is from the nearest one that Shannon lists for
        this ion; where it is not zero, the radius was scaled from there.
    """

    symbol: str
    charge: int
    radius: float
    coordination_gap: int

    @property
    def extrapolated(self) -> bool:
        """Whether Shannon lists no radius at the coordination of the site."""
        return self.coordination_gap > 0

    def __str__(self) -> str:
        return f"{self.symbol}{self.charge:+d}"


@cache
def radii_by_coordination(symbol: str, charge: int, spin: str = "high") -> dict[int, float]:
    """Shannon ionic radii of an ion in angstrom, keyed by coordination number; empty where none.

    Parameters
    ----------
    spin
        "high" or "low": which state of a transition metal to take where both are listed.

    Notes
    -----
    R. D. Shannon, Acta Cryst. A32 (1976) 751, as tabulated in pymatgen. Radii that are not
    positive (bare protons) are left out.
    """
    table = (Element(symbol).data.get("Shannon radii") or {}).get(str(charge), {})
    radii = {}
    for name, by_spin in table.items():
        if name in COORDINATIONS:
            entry = by_spin.get(SPINS[spin]) or by_spin.get("") or next(iter(by_spin.values()))
            if entry["ionic_radius"] > 0:
                radii[COORDINATIONS[name]] = float(entry["ionic_radius"])
    return radii


@cache
def coordination_ratio(wanted: int, known: int) -> float | None:
    """Median of r(wanted) / r(known coordination) over all cations that Shannon lists at both.

    None where fewer than three cations have both.
    """
    ratios = []
    for element in Element:
        for charge in element.data.get("Shannon radii") or {}:
            if charge and int(charge) > 0:
                radii = radii_by_coordination(element.symbol, int(charge))
                if wanted in radii and known in radii:
                    ratios.append(radii[wanted] / radii[known])
    return median(ratios) if len(ratios) >= 3 else None


@cache
def ion(symbol: str, charge: int, coordination: int, spin: str = "high") -> Ion | None:
    """The ion with its radius at a coordination number; None where Shannon lists no usable radius.

    Where the coordination is not listed, the radius at the nearest listed one is scaled by
    `coordination_ratio` for a cation and taken as it is for an anion (O2- grows by 0.04 angstrom
    from two- to six-fold coordination only).
    """
    radii = radii_by_coordination(symbol, charge, spin)
    if coordination in radii:
        return Ion(symbol, charge, radii[coordination], coordination_gap=0)
    for known in sorted(radii, key=lambda number: abs(number - coordination)):
        ratio = 1.0 if charge < 0 else coordination_ratio(coordination, known)
        if ratio is not None:
            return Ion(symbol, charge, radii[known] * ratio, abs(known - coordination))
    return None


@cache
def oxidation_states(symbol: str, source: str = "common") -> tuple[int, ...]:
    """Non-zero oxidation states of an element that pymatgen lists.

    Parameters
    ----------
    source
        "common" (textbook states), "icsd" (at least ten entries and 1 % of the element's in the
        ICSD), or "both" (the common ones first, then the others).
    """
    element = Element(symbol)
    common = element.common_oxidation_states
    icsd = tuple(element.data.get("ICSD oxidation states") or ())
    states = {"common": common, "icsd": icsd, "both": (*common, *icsd)}[source]
    return tuple(dict.fromkeys(int(state) for state in states if state))


@cache
def electronegativity(symbol: str) -> float | None:
    """Pauling electronegativity, None where pymatgen has none."""
    value = Element(symbol).data.get("X")
    return None if value is None else float(value)


def electronegativity_gap(ions: Sequence[Ion]) -> float:
    """Least electronegativity of the anions minus the greatest of the cations (Pauling scale).

    Negative where some cation attracts electrons more than some anion: then the charges make no
    chemical sense (the Pauling test of D. W. Davies et al., Chem 1 (2016) 617).
    """
    anions: list[float] = []
    cations: list[float] = []
    for entry in ions:
        value = electronegativity(entry.symbol)
        if value is None:
            return float("-inf")
        if entry.charge:
            (anions if entry.charge < 0 else cations).append(value)
    return min(anions) - max(cations)


def balanced_charges(symbols: Sequence[str], counts: Sequence[int]) -> tuple[int, ...] | None:
    """The most usual charge-neutral oxidation states of a compound; None where there are none.

    Parameters
    ----------
    symbols, counts
        Elements and how many atoms of each the formula has.

    Returns
    -------
    tuple of int
        One charge for each element; every anion is at least as electronegative as every cation.
        Assignments with more of the common states win over ones that need rarer states.
    """
    choices = [oxidation_states(symbol, "both") for symbol in symbols]
    strength = [electronegativity(symbol) or 0.0 for symbol in symbols]
    best: tuple[int, tuple[int, ...]] | None = None
    for charges in itertools.product(*choices):
        if sum(n * q for n, q in zip(counts, charges, strict=True)):
            continue
        positive = [x for x, q in zip(strength, charges, strict=True) if q > 0]
        negative = [x for x, q in zip(strength, charges, strict=True) if q < 0]
        if not positive or not negative or max(positive) > min(negative):
            continue
        rare = sum(
            q not in oxidation_states(symbol, "common")
            for symbol, q in zip(symbols, charges, strict=True)
        )
        if best is None or rare < best[0]:
            best = rare, charges
    return None if best is None else best[1]
