"""Labels: which are numbers, finite and in the physical range of their property."""

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.cells import number_or_nan, to_number
from matml.core.text.table import FIRST_ROW


@dataclass(frozen=True)
class LabelRange:
    """Unit and plausible range of one property.

    Attributes
    ----------
    unit
        The unit of the column, '' where it has none.
    low, high
        Inclusive bounds in that unit.
    mistakes
        Name of another unit, and how many of it make one of `unit`.
    """

    unit: str
    low: float
    high: float
    mistakes: dict[str, float]


ENERGY = {"meV/atom": 1e3, "kJ/mol": 96.485, "kcal/mol": 23.061, "J/mol": 96485.0}
PRESSURE = {"Pa": 1e9, "MPa": 1e3, "kbar": 10.0, "psi": 145037.7}
# Bounds leave room around what is known: diamond's moduli (443 and 535 GPa), the band gap of LiF
# (13.6 eV), the hardest bound compounds (HfO2, -4 eV/atom).
RANGES = {
    "formation_energy_eV_per_atom": LabelRange("eV/atom", -10.0, 10.0, ENERGY),
    "energy_above_hull_eV_per_atom": LabelRange("eV/atom", -0.5, 10.0, ENERGY),
    "bulk_modulus_GPa": LabelRange("GPa", 0.1, 1000.0, PRESSURE),
    "shear_modulus_GPa": LabelRange("GPa", 0.1, 1000.0, PRESSURE),
    "band_gap_eV": LabelRange("eV", 0.0, 25.0, {"meV": 1e3, "cm^-1": 8065.5, "kJ/mol": 96.485}),
    "refractive_index": LabelRange("", 0.5, 50.0, {}),
}
MODULI, HIGHEST_LOGARITHM = ("bulk_modulus_GPa", "shear_modulus_GPa"), 6.3
"""ln of diamond's modulus. Of 1,181 crystals of `data/crystals` no bulk modulus lies below, and 1.2
percent of the shear moduli."""
NEAR = 0.85
"""Likeness of a column's name to a known property's from which on that may be meant."""
UNITS = "[munkGT]?(ev|pa|bar|ry|hartree|psi|k?j|k?cal)|cm_1|n_m2|dyn_cm2"
OF_UNIT = re.compile(rf"_({UNITS})((_per)?_(atom|mol|fu|f_u|formula|formula_unit|cell))?", re.I)
"""How a property's name ends where it has another unit than the known one."""
LOOKS_LIKE = ": looks like "
MAYBE_NUMBER = re.compile(r"[~<>≈±(]?\s*[-+\u2212]?\d[\d\s.,'%()±+\u2212-]*\w{0,3}$")
"""Cells such as `~1.5`, `24 400` and `3-5`."""
EMPTY = frozenset({"", "na", "n/a", "none", "null", "-"})
# columns of structures.parquet, which a label may not overwrite
RESERVED = frozenset(
    (
        *("id", "file", "source", "row", "material_id", "formula", "anonymous_formula"),
        *("n_sites", "volume_per_atom_A3", "space_group_number", "prototype", "family"),
        *("common_name", "duplicate_of", "lattice", "frac_coords", "atomic_numbers", "orbit"),
        *("notes", "poscar", "structure", "occupancy", "disordered"),
        # numbers that are no property
        *("nsites", "num_sites", "natoms", "n_atoms", "num_atoms", "nelements", "n_elements"),
        *("spacegroup", "space_group", "spacegroup_number", "space_group_it_number", "spg_number"),
    )
)


def check_label(name: str, cell: object) -> tuple[float, str, str]:
    """Read one cell of a label column.

    Returns
    -------
    float, str, str
        The value (NaN where there is none), and reason and remedy where it was dropped ('' if
        it is good or the cell is empty).
    """
    if cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return math.nan, "", ""
    text = str(cell).strip()
    if text.lower() in EMPTY:
        return math.nan, "", ""
    try:
        value = to_number(text)
    except ValueError:
        return (
            math.nan,
            f"{name} = {text[:60]!r} is not a number",
            "write a plain number with a decimal point, or leave the cell empty",
        )
    if not math.isfinite(value):
        return (
            math.nan,
            f"{name} = {text} is not finite",
            "leave the cell empty where there is no value",
        )
    known = RANGES.get(name)
    if known is None or known.low <= value <= known.high:
        return value, "", ""
    outside = f"{name} = {value:g} is outside {known.low:g} to {known.high:g} {known.unit}".rstrip()
    fitting = {
        unit: per_unit
        for unit, per_unit in known.mistakes.items()
        if abs(value) > known.high and known.low <= value / per_unit <= known.high
    }
    if fitting:
        factors = " or ".join(f"{per_unit:g}" for per_unit in fitting.values())
        return math.nan, f"{outside}{LOOKS_LIKE}{' or '.join(fitting)}", f"divide by {factors}"
    return math.nan, outside, "check the value" + f" and its unit ({known.unit})" * bool(known.unit)


def odd_scale(name: str, values: pd.Series) -> str:
    """Return a doubt of labels all of which are as low as logarithms of a modulus, else ''."""
    known = values.dropna()
    if name not in MODULI or len(known) < 3 or known.max() >= HIGHEST_LOGARITHM:
        return ""
    low, high = known.min(), known.max()
    read = [("ln", math.exp(low), math.exp(high))]
    if 10**high <= RANGES[name].high:
        read.insert(0, ("log10", 10**low, 10**high))
    meant = " or ".join(f"{base}, of {least:.3g} to {most:.3g} GPa" for base, least, most in read)
    return (
        f"all {len(known)} values of {name} lie at {low:.3g} to {high:.3g}, below nearly all of "
        f"the known crystals: are they logarithms ({meant})? Give the value itself"
    )


def as_known(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table whose columns are called as the known properties that they mean.

    `Bulk modulus (GPa)` can only be `bulk_modulus_GPa`; of `bulk_modulus_MPa` it is only asked. The
    notes of the table say both.

    Raises
    ------
    MatmlError
        Where a property stands in two columns.
    """
    known = {_plain(name): name for name in RANGES}
    stems = {OF_UNIT.sub("", plain): name for plain, name in known.items()}
    notes, names = list(table.attrs.get("notes", [])), dict[str, str]()
    for name in map(str, table.columns):
        if name in RANGES or name in RESERVED:
            continue
        if same := known.get(_plain(name)):
            twice = next((o for o in (*table.columns, *names) if names.get(o, o) == same), None)
            if twice is not None:
                raise MatmlError(
                    f"{path}: columns {twice!r} and {name!r} are both {same}; delete one of them"
                )
            names[name] = same
            notes.append(f"column {name!r} read as {same}")
            continue
        near = difflib.get_close_matches(_plain(name), known, n=1, cutoff=NEAR)
        meant = stems.get(OF_UNIT.sub("", _plain(name))) or (known[near[0]] if near else "")
        if meant:
            notes.append(
                f"column {name!r} is taken for a property of its own, whose values are not "
                f"checked: if it is {meant}, call it so and give it in that unit"
            )
    renamed = table.rename(columns=names)
    renamed.attrs = {**table.attrs, "notes": notes}
    return renamed


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower().replace("/", " per ")).strip("_")


def doubtful_cell(table: pd.DataFrame, names: Iterable[str]) -> str:
    """Say of columns that are left out which cell may be meant as a number; '' for none."""
    for name in names:
        for line, cell in table[name].dropna().astype(str).items():
            if MAYBE_NUMBER.match(cell.strip()) and not plain_number(cell):
                return f"{name} = {cell.strip()[:40]!r} in row {line + FIRST_ROW} is not a number"
    return ""


def plain_number(cell: str) -> bool:
    """Whether a cell is a number as people write it."""
    return math.isfinite(number_or_nan(cell))


def label_columns(table: pd.DataFrame, skip: set[str]) -> tuple[list[str], list[str]]:
    """Which columns are labels, and which are left out.

    Known properties are labels always; other columns where at least half of what they hold is
    numeric.
    """
    labels, ignored = [], []
    for name in table.columns:
        if name in skip:
            continue
        filled = table[name].dropna().astype(str).str.strip()
        filled = filled[~filled.str.lower().isin(EMPTY)]
        plain = filled.str.replace("\u2212", "-")  # a typographic minus
        numeric = pd.to_numeric(plain, errors="coerce").notna().sum()
        if name in RESERVED or name.startswith("Unnamed: "):
            ignored.append(name)
        elif name in RANGES or (len(filled) and 2 * numeric >= len(filled)):
            labels.append(name)
        else:
            ignored.append(name)
    return labels, ignored
