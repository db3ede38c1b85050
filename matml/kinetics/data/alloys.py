"""The table of alloys: composition, group and reference temperature of each."""

from pathlib import Path

import gemmi
import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import FIRST_ROW, read_text_table
from matml.kinetics.data.columns import COLDEST_K, HOTTEST_K
from matml.kinetics.data.units import in_usual_units

SAME_COMPOSITION_PCT = 0.05
"""Two alloys are one composition when no element differs by more (in percent, and carbon less)."""

SAME_CARBON_PCT = 0.02

MOST_PCT = 100.5
"""Sum of a composition, with what rounding adds."""

FRACTIONS = (0.9975, 1.0025)
"""Sum of a composition that is given in fractions."""

TEXTS = ("composition_group", "steel")
"""Columns that name groups of alloys, even by numbers."""


def composition_columns(alloys: pd.DataFrame) -> list[str]:
    """Return the composition columns of a table of alloys."""
    return [name for name in alloys.columns if name.endswith(("_wt_pct", "_at_pct"))]


def read_alloys(path: str | Path, names: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Read the table of alloys for the alloys `names`; see `check_alloys`."""
    return check_alloys(read_text_table(path), path, names)


def check_alloys(
    text: pd.DataFrame, path: str | Path, names: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the alloys `names` of a table of text, in that order.

    Returns
    -------
    alloys
        One row per name; an alloy that the table lacks has empty cells.
    warnings
        One sentence per alloy that the table lacks, and per column or row that is not as it seems.

    Raises
    ------
    MatmlError
        Where the column `alloy` is missing, an alloy appears twice, or a composition or reference
        temperature is no number, or a composition has more than 100 % or an unknown element.
    """
    short = text.attrs.get("short", {})
    table = in_usual_units(text, path).cells
    if "alloy" not in table:
        raise MatmlError(f"{path}: column 'alloy' is missing; columns: {', '.join(table.columns)}")
    twice = table.loc[table["alloy"].duplicated(), "alloy"]
    if len(twice):
        raise MatmlError(f"{path}: alloy {twice.iloc[0]!r} appears twice; keep one row per alloy")
    table = table.where(table != "")
    ranges = dict.fromkeys(composition_columns(table), (0.0, 100.0))
    ranges["reference_temperature_K"] = (COLDEST_K, HOTTEST_K)
    for column in table.columns.drop(["alloy", *TEXTS], errors="ignore"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        text = table[column].notna() & numbers.isna()
        if column in ranges:
            low, high = ranges[column]
            wrong = text | (numbers < low) | (numbers > high)
            if wrong.any():
                row = table[wrong].iloc[0]
                raise MatmlError(
                    f"{path}: alloy {row['alloy']!r}, {column} = {row[column]!r}: give a number "
                    f"from {low:g} to {high:g}, or leave it empty"
                )
        if not text.any():
            table[column] = numbers
    for column in composition_columns(table):
        if not _is_element(column.split("_")[0]):
            raise MatmlError(f"{path}: column {column!r} names no chemical element; correct it")
    for unit in ("_wt_pct", "_at_pct"):
        columns = [name for name in table if name.endswith(unit)]
        whole = table[columns].astype(float).sum(axis=1)
        if (whole > MOST_PCT).any():
            name = table["alloy"][whole.idxmax()]
            raise MatmlError(
                f"{path}: the composition of alloy {name!r} adds up to {whole.max():.4g} % in the "
                f"columns {', '.join(columns)}; correct it"
            )
        given = whole[whole > 0]
        if len(given) > 1 and given.between(*FRACTIONS).all():
            raise MatmlError(
                f"{path}: the compositions of all {len(given)} alloys add up to 1 % in the columns "
                f"{', '.join(columns)}: fractions? Give percent, 100 times as much"
            )
    lacking = [name for name in names if name not in set(table["alloy"])]
    plain = [name for name in table if _is_element(name)]
    warnings = [f"{path}: row {row + FIRST_ROW} has {why}" for row, why in short.items()]
    warnings += [
        f"{path}: column {name!r} is not read: for a composition call it {name}_wt_pct or "
        f"{name}_at_pct"
        for name in plain
    ]
    warnings += [
        f"{path}: no row for alloy {name!r}: its composition is unknown" for name in lacking
    ]
    return table.set_index("alloy").reindex(names).reset_index(), warnings


def _is_element(name: str) -> bool:
    element = gemmi.Element(name)
    return element.atomic_number > 0 and element.name == name


def group_alloys(alloys: pd.DataFrame) -> pd.DataFrame:
    """Return the table with `composition_group` (never empty) and `reference_temperature_K`.

    A given group wins. Otherwise alloys of one `steel` name or of nearly one composition share a
    group, so that near-twins never stand on both sides of a split.
    """
    alloys = alloys.copy()
    if "reference_temperature_K" not in alloys:
        alloys["reference_temperature_K"] = np.nan
    count = len(alloys)
    label = list(range(count))

    def join(a: int, b: int) -> None:
        old, new = label[b], label[a]
        label[:] = [new if value == old else value for value in label]

    columns = composition_columns(alloys)
    amounts = alloys[columns].to_numpy(float)
    limits = np.array(
        [SAME_CARBON_PCT if name.startswith("C_") else SAME_COMPOSITION_PCT for name in columns]
    )
    steel = alloys["steel"] if "steel" in alloys else pd.Series([None] * count)
    for i in range(count):
        for k in range(i + 1, count):
            twins = bool(columns) and bool((np.abs(amounts[i] - amounts[k]) <= limits).all())
            named = isinstance(steel[i], str) and steel[i] == steel[k]
            if twins or named:
                join(i, k)
    own = pd.Series([f"group of {alloys['alloy'][value]}" for value in label])
    given = alloys.get("composition_group", pd.Series([None] * count))
    alloys["composition_group"] = given.where(given.notna(), own).astype(str)
    return alloys
