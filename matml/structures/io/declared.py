"""What a file declares of its crystal, held against what was read.

A contradiction is told with both values; nothing is corrected here.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product

import numpy as np
from pymatgen.core import Composition
from pymatgen.core.periodic_table import Element

from matml.structures.elements import ELECTRONEGATIVITY
from matml.structures.errors import BadCrystal
from matml.structures.symmetry.cell import cell_volume

VOLUME_TOLERANCE = 0.01
ELECTRON_TOLERANCE = 0.1
DENSITY_TOLERANCE = WEIGHT_TOLERANCE = 0.03
LIGHTER, HEAVIER = 0.6, 1.15
"""Densities that are measured lie between these parts of the crystal's: specimens have pores."""
DENSEST_G_CM3 = 30.0
"""A larger density is in kg/m^3."""
ATOMIC_MASS_CONSTANT = 1.66053906660
"""In g/cm^3 A^3: mass in u over volume in cubic angstrom to density (CODATA 2018)."""

WATER = r"\d*\(|\d*H ?2 ?O"
ADDED = rf"\.(?=\d+\.\d)|(?<!\.\d)\.(?=\s|[A-Z]|{WATER})"
"""The dot before what is added to a compound, such as water."""
EITHER = rf"(?<=[a-zA-Z)])\.(?!{WATER})(?=\d+[A-Z])"
"""A dot that may be that, or a decimal point: of `Fe.5Al2O3`."""

LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-")
SUBSCRIPT = re.compile(r"</?(?:sub|i|b)>|~|\$?_\{([\d.]+)\}\$?|\$_([\d.]+)\$", re.IGNORECASE)
SUPERSCRIPT = re.compile(r"<sup>.*?</sup>|\^[^^]*\^|[⁰¹²³⁴-⁹⁺⁻]+", re.IGNORECASE)
"""How CIF, HTML, TeX and Unicode lower the amounts of a formula, and raise its charges."""

DOUBT = re.compile(r"\s*(?:\?|\([a-z. ]+\)|approx\.?|ca\.)\s*$")
"""What stands behind a formula that is uncertain."""
LONGEST_RUN, MOST_READINGS = 12, 64
"""Of letters in a formula whose capitals are lost, and of ways to read it."""

FARTHEST_UNCONFIRMED = 2.0
"""Fractional coordinates beyond look like angstroms, where symmetry and formula do not confirm."""


@dataclass(frozen=True)
class Declared:
    """Facts that a file states beside cell and sites; None or empty where it does not.

    Attributes
    ----------
    formula
        Atoms by symbol, of a formula unit or of the whole cell.
    formula_text
        As it stands in the file.
    other_formulas
        Further ones by their text, as of ions and molecules.
    units
        Formula units per cell (Z).
    atoms
        Sites per cell, where that is declared itself.
    volume_A3, density_g_cm3
        Of the cell.
    measured_g_cm3
        Density of the specimen.
    weight_u
        Of a formula unit.
    in_cell
        Atoms of the whole cell by symbol.
    electrons
        In the cell, F(000), which may count anomalous scattering.
    """

    formula: Mapping[str, float] | None = None
    formula_text: str = ""
    other_formulas: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    units: float | None = None
    atoms: int | None = None
    volume_A3: float | None = None
    density_g_cm3: float | None = None
    measured_g_cm3: float | None = None
    weight_u: float | None = None
    in_cell: Mapping[str, float] | None = None
    electrons: float | None = None

    @property
    def whole_cell(self) -> bool:
        """Whether the formula may be the content of the cell: some programs write it so."""
        if self.formula is None or self.units is None:
            return False
        # pymatgen keeps some formulas unreduced, such as Na2O2
        units = Composition(self.formula).get_reduced_formula_and_factor()[1]
        atoms = sum(self.formula.values())
        return self.units == units or abs(_reduced(self.formula) * self.units - atoms) <= 0.1

    @property
    def largest_cell(self) -> float:
        """Atoms in the cell by formula and Z, 0 where neither is declared."""
        per_unit = sum(self.formula.values()) if self.formula else 1.0
        if self.formula is None and self.units is None:
            return 0.0
        return per_unit if self.whole_cell else per_unit * (self.units or 1.0)

    @property
    def tells_amount(self) -> bool:
        """Whether it says how many atoms the cell holds."""
        return (
            self.atoms is not None
            or self.in_cell is not None
            or self.density_g_cm3 is not None
            or self.electrons is not None
            or (self.formula is not None and self.units is not None)
        )


def parse_formula(text: str) -> dict[str, float] | None:
    """Return the atoms of a formula by symbol, D and T counted as H; None where it is not plain.

    Takes sums (`Na2 O4 S`), structural formulas with brackets and amounts (`Ca (C O3)`), and
    hydrates written with a dot.
    """
    found = _parsed(text)
    return None if found is None else dict(found)


def plain_formula(text: str, own: Collection[str]) -> dict[str, float] | None:
    """Return the atoms of a formula as `parse_formula`, also where its capitals are lost.

    `TI O2` and `SNO2` are read as the elements `own` of the sites; `NACL` and `Kcl` in the one way
    in which their letters make symbols, and `Na Cl ?` as if it were certain.
    """
    standard = parse_formula(text)
    if standard and not (text.isupper() and own and standard.keys() - own):
        return standard
    bare = DOUBT.sub("", text.strip())
    parts = [
        # a small letter alone counts, as in (C2H4)n
        _symbols_in(part) if part[:1].isupper() else [part]
        for part in re.split("([A-Za-z]+)", bare)
    ]
    if math.prod(map(len, parts)) > MOST_READINGS:
        return standard
    readings = [formula for way in product(*parts) if (formula := parse_formula("".join(way)))]
    fitting = [formula for formula in readings if formula.keys() == own]
    if len(fitting) == 1:
        return fitting[0]
    return standard or parse_formula(bare) or (readings[0] if len(readings) == 1 else None)


@lru_cache(maxsize=4096)
def _symbols_in(letters: str) -> list[str]:
    """Return all ways to write letters of either case as symbols of elements."""
    if not letters or len(letters) > LONGEST_RUN:
        return [] if letters else [""]
    heads = {letters[:size].capitalize() for size in (1, 2)} & ELECTRONEGATIVITY.keys()
    return [head + rest for head in sorted(heads) for rest in _symbols_in(letters[len(head) :])]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[tuple[str, float], ...] | None:
    """Atoms of a formula; a crystal's is looked at by several checks."""
    words = SUPERSCRIPT.sub("", text.strip().strip("'\"").translate(LOWERED))
    words = SUBSCRIPT.sub(r"\1\2", words)
    words = re.sub(r"[\[{]", "(", re.sub(r"[\]}]", ")", words))
    words = re.sub(r"\d*[+-](?=[\s,)]|$)", "", words)
    if re.search(EITHER, words):
        return None
    total: dict[str, float] = {}
    for part in re.split(rf"[·•*,;]|{ADDED}", words):
        part = "".join(part.split())
        if not part:
            continue
        found = re.fullmatch(r"(\d+(?:\.\d+)?)?(.+)", part)
        assert found is not None
        times, rest = float(found[1] or 1), found[2]
        rest = re.sub(r"(?<![A-Z])[DT](?![a-z])", "H", rest)
        if not re.fullmatch(r"(?:[A-Z][a-z]?|[()]|\d+(?:\.\d*)?|\.\d+)+", rest):
            return None
        try:
            amounts = Composition(rest).get_el_amt_dict()
        except Exception:  # pymatgen raises many kinds
            return None
        for symbol, amount in amounts.items():
            if symbol not in ELECTRONEGATIVITY:
                return None
            total[symbol] = total.get(symbol, 0.0) + times * amount
    return tuple(total.items()) or None


def formula_of(amounts: Mapping[str, float]) -> str:
    """Return amounts by symbol as text, such as `Mg1 O2 H2`."""
    return " ".join(f"{symbol}{amount:.4g}" for symbol, amount in amounts.items())


def contradictions(
    declared: Declared, amounts: Mapping[str, float], lattice: np.ndarray
) -> list[str]:
    """Return what contradicts a crystal as it was read, each with both values.

    Parameters
    ----------
    amounts
        Atoms in the cell by symbol.
    lattice
        Row vectors in angstrom, [3, 3].
    """
    found = []
    total = sum(amounts.values())
    volume = cell_volume(lattice)
    stated = declared.volume_A3 or 0.0
    if stated > 0 and abs(volume - stated) > VOLUME_TOLERANCE * stated:
        found.append(
            f"the cell's edges and angles give {volume:.2f} A^3, but a volume of "
            f"{stated:.2f} A^3 is declared"
        )
    if declared.atoms is not None and abs(total - declared.atoms) > 0.01:
        found.append(f"{total:.4g} atoms in the cell, but {declared.atoms} are declared")
    if declared.in_cell and any(
        abs(declared.in_cell.get(symbol, 0.0) - amounts.get(symbol, 0.0)) > 0.1
        for symbol in {**declared.in_cell, **amounts}
    ):
        found.append(
            f"the sites give {formula_of(amounts)} in the cell, but {formula_of(declared.in_cell)} "
            "are declared"
        )
    if declared.formula:
        found += _of_formula(declared, amounts, total)
    elif (
        declared.units
        and declared.weight_u is None
        and not _rounded({**amounts, "Z": declared.units})
        and any(round(amount) % round(declared.units) for amount in amounts.values())
    ):
        found.append(
            f"the sites give {formula_of(amounts)} in the cell, which are not Z = "
            f"{declared.units:g} equal formula units"
        )
    for text, formula in declared.other_formulas.items():
        if not found and (wrong := other_ratio(formula, text, amounts)):
            found.append(wrong)
    electrons = sum(Element(symbol).Z * n for symbol, n in amounts.items())
    said = declared.electrons
    if said and abs(electrons - said) > ELECTRON_TOLERANCE * said:
        found.append(
            f"the atoms in the cell have {electrons:.4g} electrons, but F(000) = {said:g} is "
            "declared"
        )
    if found:
        return found
    mass = mass_u(amounts)
    if declared.weight_u is not None and declared.weight_u > 0:
        units = mass / declared.weight_u
        expected = declared.units or max(round(units), 1)
        # the formula unit may be given as a multiple, as of a dimer
        if abs(units / expected - 1) > WEIGHT_TOLERANCE and not declared.whole_cell:
            found.append(
                f"the atoms in the cell weigh {mass:.2f} u, {units:.3g} times the declared formula "
                f"weight of {declared.weight_u:.2f}"
                + (f", but Z = {declared.units:g}" if declared.units else "")
            )
    density, said = mass * ATOMIC_MASS_CONSTANT / volume, declared.density_g_cm3 or 0.0
    if said > 0 and not found and abs(density - said) > DENSITY_TOLERANCE * said:
        unit = "g/cm^3" if said < DENSEST_G_CM3 else "kg/m^3, as it seems,"
        found.append(
            f"the atoms in the cell give {density:.3f} g/cm^3, but a density of {said:.3f} {unit} "
            "is declared"
        )
    if not found and other_density(declared.measured_g_cm3 or 0.0, density):
        found.append(
            f"the atoms in the cell give {density:.3f} g/cm^3, but {declared.measured_g_cm3:.3f} "
            "g/cm^3 were measured (_exptl_crystal_density_meas)"
        )
    return found


def mass_u(amounts: Mapping[str, float]) -> float:
    """Return the mass of atoms."""
    return sum(float(Element(symbol).atomic_mass) * n for symbol, n in amounts.items())


def other_density(measured: float, density: float) -> bool:
    """Whether a measured density, in g/cm^3, cannot be that of a crystal."""
    return 0 < measured < DENSEST_G_CM3 and not LIGHTER < measured / density < HEAVIER


def check_fractions(positions: np.ndarray) -> None:
    """Refuse positions, (sites, 3), that are rather angstroms than fractions of the cell."""
    farthest = np.abs(positions).max(axis=1, initial=0.0)
    if (farthest > FARTHEST_UNCONFIRMED).any():
        site = int(farthest.argmax())
        raise BadCrystal(
            f"site {site + 1} lies {farthest[site]:.3g} cells away: are its coordinates fractions "
            "of the cell?",
            "say that they are Cartesian (in angstrom), or give fractions within the cell",
        )


def other_ratio(
    formula: Mapping[str, float],
    text: str,
    amounts: Mapping[str, float],
    units: float | None = None,
) -> str:
    """Return what contradicts a formula where the amounts have another ratio, '' if they have not.

    Parameters
    ----------
    formula, text
        Atoms by symbol, and the formula as it was written, with Z = `units`.
    amounts
        Atoms by symbol, of a cell or a formula unit.
    """
    per_unit, total = sum(formula.values()), sum(amounts.values())
    for symbol in {**formula, **amounts}:
        expected, read = formula.get(symbol, 0.0) * total / per_unit, amounts.get(symbol, 0.0)
        if abs(expected - read) > _slack(formula, total):
            return (
                f"the sites give {formula_of(amounts)} in the cell, but the formula "
                f"'{text}'{f' with Z = {units:g}' if units else ''} is declared"
            )
    return ""


def _rounded(formula: Mapping[str, float]) -> bool:
    return any(abs(amount - round(amount)) > 1e-6 for amount in formula.values())


def _slack(formula: Mapping[str, float], total: float) -> float:
    """Return by how many atoms of `total` a formula, which may be rounded, may miss the sites."""
    return max(0.1, 0.01 * total) if _rounded(formula) else 0.1


def _of_formula(declared: Declared, amounts: Mapping[str, float], total: float) -> list[str]:
    """Return contradictions of formula and Z with the amounts."""
    formula = declared.formula
    assert formula is not None
    if wrong := other_ratio(formula, declared.formula_text, amounts, declared.units):
        return [wrong]
    per_unit, slack = sum(formula.values()), _slack(formula, total)
    if declared.units is None:
        # a whole number of formula units, unless the formula is rounded or the sites disordered
        times = total / per_unit
        least = _reduced(formula) or per_unit
        whole = not (_rounded(formula) or _rounded(amounts))
        if whole and abs(total / least - round(total / least)) > 0.01:
            return [f"{total:.4g} atoms in the cell are {times:.3g} formula units"]
        return []
    if declared.whole_cell and abs(per_unit - total) <= slack:
        return []
    if abs(per_unit * declared.units - total) <= slack * max(1.0, declared.units):
        return []
    return [
        f"{total:.4g} atoms in the cell ({formula_of(amounts)}), but the formula "
        f"'{declared.formula_text}' with Z = {declared.units:g} makes "
        f"{per_unit * declared.units:.4g}"
    ]


def _reduced(formula: Mapping[str, float]) -> float:
    """Return the atoms in the smallest formula with whole numbers."""
    whole = [round(amount) for amount in formula.values()]
    return sum(whole) / math.gcd(*whole) if whole and all(whole) else 0.0
