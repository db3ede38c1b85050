"""The support set: a few labelled members of the new family, read from a CSV or drawn."""

import difflib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError
from matml.core.text.table import FIRST_ROW, read_text_table
from matml.properties.data.targets import PROPERTIES
from matml.screening.data.known import family_rows
from matml.structures.io.tables import CRYSTALS, crystal_text, is_there
from matml.structures.labels.values import EMPTY, as_known, check_label
from matml.structures.settings import StructuresSection

log = logging.getLogger(__name__)
IN_A_CELL = tuple(name for name in CRYSTALS if name not in ("file", "path"))
UNPACKED = StructuresSection()
"""Limits of a file that a cell names."""


@dataclass(frozen=True)
class InTable:
    """A crystal that stands in a cell of the support's table itself: its format and text."""

    kind: str
    text: str
    place: str

    def __str__(self) -> str:
        return self.place


Key = tuple[str, Path | InTable | None]


@dataclass(frozen=True)
class Support:
    """Labelled members of a family: known ids, structure files or texts, one of each per value.

    Attributes
    ----------
    ids
        Ids of known crystals; '' where the row gives another.
    files
        Paths of structures (relative ones against the CSV's folder), or what stands in the row
        itself; None where it names an id.
    labels
        Values in the property's unit, shape [K].
    formulas
        That the rows give; '' where they give none.
    columns
        What the rows give of columns that are inputs, by name; nothing of those that are empty.
    """

    ids: list[str]
    files: list[Path | InTable | None]
    labels: np.ndarray
    formulas: list[str]
    columns: list[dict[str, float]]

    def __len__(self) -> int:
        return len(self.labels)


def read_supports(
    path: Path,
    properties: Sequence[str],
    known_ids: set[str],
    folders: Sequence[Path] = (),
    inputs: Sequence[str] = (),
) -> dict[str, Support]:
    """Read a support CSV with label columns of several properties: property to its support.

    With label columns of several properties a cell may be empty where the crystal has no such
    label, and a property without a column is left out.

    Parameters
    ----------
    folders
        Where files may lie that are not beside the CSV: those of the candidates.
    inputs
        Columns from which properties are learned too; a known crystal may have them itself.

    Raises
    ------
    MatmlError
        As `read_support`; where no property has a column.
    """
    table = _read_text(path, properties[0])
    given = [name for name in properties if name in table]
    if not given or (given == [properties[0]] and sum(n in PROPERTIES for n in table) < 2):
        return {properties[0]: read_support(path, properties[0], known_ids, folders, inputs)}
    options = known_ids, folders, inputs, True
    return {name: _support_of(path, table, name, *options) for name in given}


def read_support(
    path: Path,
    property_name: str,
    known_ids: set[str],
    folders: Sequence[Path] = (),
    inputs: Sequence[str] = (),
) -> Support:
    """Read and check a support CSV: crystals, and a column named as the property.

    Crystals stand in a column as tables of crystals have it (`poscar`, `cif`, `structure`, …), or
    are named in `id` or `file`.

    Rows that repeat another exactly are dropped.

    Raises
    ------
    MatmlError
        Missing file or column, empty or unknown id, file that is not there, label that is no
        finite number or outside the range of its property, one crystal with two different
        labels, fewer than two distinct labels.
    """
    table = _read_text(path, property_name)
    return _support_of(path, table, property_name, known_ids, folders, inputs)


def _read_text(path: Path, property_name: str) -> pd.DataFrame:
    """A CSV as text, so that a bad number can be shown as it was written."""
    path = Path(path)
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; give a CSV with columns id and {property_name}")
    table = as_known(read_text_table(path), path)
    for note in table.attrs["notes"]:
        log.warning("%s: %s", path, note)
    return table


def _support_of(
    path: Path,
    table: pd.DataFrame,
    property_name: str,
    known_ids: set[str],
    folders: Sequence[Path],
    inputs: Sequence[str],
    skip_empty: bool = False,
) -> Support:
    """The labelled crystals of one property."""
    path = Path(path)
    folders = [path.parent, *(folder for folder in folders if folder.is_dir())]
    if property_name not in table:
        raise MatmlError(
            f"{path}: has no column {property_name!r}, only {', '.join(table.columns)}; ask for "
            "the column that holds the labels, or add one"
        )
    if not {"id", "file", *IN_A_CELL} & set(table):
        raise MatmlError(
            f"{path}: needs a column `id` (of a known crystal), `file` (of a structure) or "
            "`poscar` (its text)"
        )
    labels: dict[Key, float] = {}
    formulas, columns = {}, dict[Key, dict[str, float]]()
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        where = f"{path}, line {line + FIRST_ROW}"
        if skip_empty and row[property_name].strip().lower() in EMPTY:
            continue
        key = _crystal({str(name): cell for name, cell in row.items()}, where, folders, known_ids)
        formulas[key] = row.get("formula", "")
        value = _number(row[property_name], property_name, where)
        if labels.setdefault(key, value) != value:
            raise MatmlError(
                f"{where}: {key[0] or key[1]} is labelled {labels[key]:g} and {value:g}; keep one"
            )
        own = {
            name: _number(row[name], name, where)
            for name in inputs
            if row.get(name, "").strip().lower() not in EMPTY
        }
        if columns.setdefault(key, own) != own:
            raise MatmlError(
                f"{where}: {key[0] or key[1]} has {own} here, and {columns[key]} before; keep one"
            )
    if len(set(labels.values())) < 2:
        raise MatmlError(
            f"{path}: {len(labels)} labelled crystals with {len(set(labels.values()))} distinct "
            f"values of {property_name}; at least 2 are needed to adapt"
        )
    return Support(
        ids=[name for name, _ in labels],
        files=[file for _, file in labels],
        labels=np.array(list(labels.values())),
        formulas=list(formulas.values()),
        columns=list(columns.values()),
    )


def _crystal(row: dict[str, str], where: str, folders: Sequence[Path], known_ids: set[str]) -> Key:
    name, file = row.get("id", "").strip(), row.get("file", "").strip()
    for column in IN_A_CELL:
        if cell := row.get(column, "").strip():
            kind, text, bad = crystal_text(cell, f"column {column}", folders[0], UNPACKED)
            if bad is None:
                return "", InTable(kind, text, where)
            # a column `structure` may say `rocksalt` beside an id
            if not (name or file):
                raise MatmlError(f"{where}: {bad.reason}; {bad.remedy}")
    if bool(name) == bool(file):
        state = "both `id` and `file` are" if name else "neither `id` nor `file` is"
        raise MatmlError(f"{where}: {state} given; name one crystal in each row")
    if name:
        if name not in known_ids:
            near = difflib.get_close_matches(name, known_ids, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; see structures.parquet"
            raise MatmlError(f"{where}: id {name!r} is not among the known crystals{hint}")
        return name, None
    for folder in folders:
        found = (folder / file.replace("\\", "/")).resolve()
        if is_there(found):
            return "", found
    looked = " and ".join(map(str, dict.fromkeys(folders)))
    raise MatmlError(f"{where}: file {file!r} is not there (looked in {looked})")


def _number(text: str, property_name: str, where: str) -> float:
    value, reason, remedy = check_label(property_name, text)
    if reason:
        raise MatmlError(f"{where}: {reason}; {remedy}")
    if np.isnan(value):
        raise MatmlError(f"{where}: {property_name} is empty; give a number or delete the row")
    return value


def draw_supports(
    table: pd.DataFrame, family: str, properties: Sequence[str], shots: int, seed: int
) -> pd.DataFrame:
    """Labelled members of a family drawn for each of several properties, one column each.

    Of a property with fewer labelled members all are taken; one with fewer than two is left out,
    and will be predicted without any label of the family.

    Raises
    ------
    MatmlError
        As `draw_support` for a single property; where no property has labels.
    """
    if len(properties) == 1:
        return draw_support(table, family, properties[0], shots, seed)
    drawn: pd.DataFrame | None = None
    for name in properties:
        labelled = _labelled_members(table, family, name)
        if len(labelled) < 2:
            log.info("%s: %d labelled members of %s, too few", name, len(labelled), family)
            continue
        found = draw_support(table, family, name, min(shots, len(labelled)), seed)
        log.info("%s: %d labelled members drawn", name, len(found))
        found = found.set_index(["id", "formula"])
        drawn = found if drawn is None else drawn.join(found, how="outer")
    if drawn is None:
        raise MatmlError(f"--family {family!r}: has no labels of {', '.join(properties)}")
    return drawn.reset_index()


def _labelled_members(table: pd.DataFrame, family: str, property_name: str) -> pd.DataFrame:
    """Members of a family with a label, one row per formula."""
    if property_name not in table or not pd.api.types.is_float_dtype(table[property_name]):
        raise MatmlError(f"--property {property_name!r}: the ingested crystals have no such label")
    rows = family_rows(table, family)
    return rows[rows[property_name].notna()].sort_values("id").drop_duplicates("formula")


def draw_support(
    table: pd.DataFrame, family: str, property_name: str, shots: int, seed: int
) -> pd.DataFrame:
    """Labelled members of a family drawn at random: columns id, formula and the property.

    Parameters
    ----------
    table
        `structures.parquet`; of one crystal or one composition only one row is drawn (any copy of
        a crystal may be the one that carries the label).

    Raises
    ------
    MatmlError
        Where the family or property is unknown or has too few labelled members.
    """
    rows = _labelled_members(table, family, property_name)
    if len(rows) < shots:
        raise MatmlError(
            f"--family {family!r}: {len(rows)} different members have a {property_name}, "
            f"{shots} were asked for; take fewer shots or another family or property"
        )
    drawn = np.random.default_rng(seed).choice(len(rows), size=shots, replace=False)
    return rows.iloc[np.sort(drawn)][["id", "formula", property_name]]
