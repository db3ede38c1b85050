"""What a caller gives as structures: objects, texts, paths, dictionaries, a table of these."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pymatgen.core import Composition, IStructure, Lattice, SiteCollection, Structure

from matml.core.errors import MatmlError
from matml.structures.crystal import Crystal, crystal_of
from matml.structures.errors import BadCrystal
from matml.structures.ingest import document_crystals
from matml.structures.io.documents import Document, file_kind
from matml.structures.io.json.databases import is_crystal
from matml.structures.io.json.dictionaries import cartesian_structure
from matml.structures.io.tables import CRYSTALS, KEYS, crystal_column, crystal_text, read_text
from matml.structures.labels.values import RESERVED, check_label
from matml.structures.settings import StructuresSection

ANY = (
    "give a pymatgen Structure, ASE Atoms, a path, CIF or POSCAR text, a dictionary, or a "
    "DataFrame with a column of these"
)
FORMULA = re.compile(r"(?:[A-Z][a-z]?\d*|[()\d])+")


Columns: TypeAlias = Sequence[str] | pd.DataFrame | Mapping[str, Any] | None
"""Names of columns of a table of structures, or columns with one value a structure."""


@dataclass(frozen=True)
class Given:
    """Structures as they were given.

    Attributes
    ----------
    items
        Each as `crystal_of_item` takes it.
    ids
        Distinct names: those of the table or its index, else '0', '1', …
    index
        Of the table, series or mapping that they came in; None for other collections.
    table
        That they came in.
    """

    items: list[Any]
    ids: list[str]
    index: pd.Index | None
    table: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.items)

    def aligned(self, values: Any) -> Any:
        """Return values in the order of the structures, where both carry an index.

        Raises
        ------
        MatmlError
            Where the two name different rows.
        """
        if self.index is None or not isinstance(values, pd.Series):
            return values
        if values.index.equals(self.index):
            return values
        other = [name for name in self.index if name not in values.index]
        if other or not (values.index.is_unique and len(values) == len(self)):
            told = f"{other[0]!r} has no value" if other else "some are given twice, or not at all"
            raise MatmlError(
                f"values: their index is not that of the structures ({told}); give one value for "
                "each structure"
            )
        return values.loc[self.index]


def given(structures: Any) -> Given:
    """Return what a caller gives as structures.

    Raises
    ------
    MatmlError
        For a table without a column of crystals, and for what is no collection at all.
    """
    if isinstance(structures, Given):
        return structures
    if isinstance(structures, pd.DataFrame):
        column = crystal_column(structures)
        if column is None:
            raise MatmlError(
                f"structures: the table has no column of crystals ({', '.join(CRYSTALS)}), only "
                f"{', '.join(map(str, structures.columns))}"
            )
        key = next((name for name in KEYS if name in structures), None)
        names = structures[key] if key else structures.index
        return replace(_named(structures[column], names, structures.index), table=structures)
    if isinstance(structures, pd.Series):
        return _named(structures, structures.index, structures.index)
    if isinstance(structures, Mapping) and _are_named(structures):
        index = pd.Index(list(structures))
        return _named(structures.values(), index, index)
    if isinstance(structures, SiteCollection | str | Path | Mapping) or is_ase(structures):
        structures = [structures]
    try:
        items = list(structures)
    except TypeError:
        raise MatmlError(f"structures: is of the type {type(structures).__name__}; {ANY}") from None
    return Given(items, [str(i) for i in range(len(items))], None)


def column_names(wanted: Columns) -> list[str]:
    """Return the names of columns, each once, however these are given.

    Raises
    ------
    MatmlError
        For one that every crystal's row has.
    """
    if wanted is None:
        return []
    names = [wanted] if isinstance(wanted, str) else list(dict.fromkeys(map(str, wanted)))
    if own := [name for name in names if name in RESERVED]:
        raise MatmlError(
            f"input {own[0]}: every crystal's row has a column of that name; give yours another"
        )
    return names


def columns_of(structures: Any, wanted: Columns) -> pd.DataFrame | None:
    """Return columns that belong to structures, in their order; None for those that are not there.

    Parameters
    ----------
    structures
        As `given` returns them, or a `CrystalSet`.

    Raises
    ------
    MatmlError
        Where there are not as many values as structures, or one is no number.
    """
    if wanted is None:
        return None
    names = column_names(wanted)
    if not isinstance(wanted, pd.DataFrame | Mapping):
        table = structures.table
        if table is None or not names:
            return None
        wanted = {name: table[name].array for name in names if name in table}
    ids = structures.ids if isinstance(structures, Given) else structures.table["id"].tolist()
    found = {}
    for name, column in wanted.items():
        own = structures.aligned(column) if isinstance(structures, Given) else column
        values = np.asarray(own)
        if len(values) != len(structures):
            raise MatmlError(
                f"inputs: {len(values)} values of {name} for {len(structures)} structures: give "
                "one each"
            )
        found[str(name)] = _numbers(str(name), values, ids)
    return pd.DataFrame(found)


def _numbers(name: str, values: np.ndarray, ids: Sequence[str]) -> np.ndarray:
    """Return a column as numbers, NaN where a value is not given."""
    if values.dtype.kind in "fiub":
        return values.astype(float)
    numbers = np.empty(len(values))
    for row, cell in enumerate(values.tolist()):
        numbers[row], reason, remedy = check_label(name, cell)
        if reason:
            raise MatmlError(f"crystal {ids[row]}: input {reason}; {remedy}")
    return numbers


def _named(items: Iterable[Any], names: Iterable[Any], index: pd.Index) -> Given:
    ids = [str(name) for name in names]
    if len(set(ids)) < len(ids):
        ids = [str(i) for i in range(len(ids))]
    return Given(list(items), ids, index)


def _are_named(value: Mapping) -> bool:
    """Whether a dictionary holds crystals by name, and is not one itself."""
    return not is_crystal(value) and all(
        isinstance(item, SiteCollection | Mapping | Path | str) or is_ase(item)
        for item in value.values()
    )


def is_ase(item: Any) -> bool:
    """Whether an object is ASE's Atoms, which need not be installed."""
    return any(base.__module__.split(".")[0] == "ase" for base in type(item).__mro__) and hasattr(
        item, "get_scaled_positions"
    )


def is_dictionary(item: Any) -> bool:
    """Whether an object may be a crystal's dictionary, which a Composition is not."""
    return isinstance(item, Mapping) and all(isinstance(key, str) for key in item)


def crystal_of_item(item: Any, settings: StructuresSection) -> Crystal | BadCrystal:
    """Return the crystal of anything that `given` lists, or why it is none."""
    try:
        if isinstance(item, IStructure):
            return crystal_of(item, settings, [])
        if is_ase(item):
            return crystal_of(_of_ase(item), settings, [])
        if isinstance(item, str | Path) or is_dictionary(item):
            return _of_text(item, settings)
    except BadCrystal as bad:
        return bad
    return BadCrystal(_looks_like(item), ANY)


def _of_ase(atoms: Any) -> Structure:
    """Return the structure of ASE's Atoms."""
    if not np.all(atoms.pbc):
        raise BadCrystal(
            f"ASE Atoms with pbc = {np.asarray(atoms.pbc).tolist()}: not periodic in all three "
            "directions",
            "give a bulk crystal, with atoms.pbc = True",
        )
    return cartesian_structure(Lattice(np.asarray(atoms.cell)), atoms.numbers, atoms.positions)


def _of_text(item: str | Path | Mapping, settings: StructuresSection) -> Crystal | BadCrystal:
    """Return the crystal of a path, a text or a dictionary."""
    name = ""
    if isinstance(item, Mapping):
        kind, text, bad = crystal_text(dict(item), "dictionary", Path(), settings)
    elif isinstance(item, Path) or len(item.strip().splitlines()) == 1:
        name = str(item).strip()
        kind, text, bad = _of_file(Path(name), settings)
    else:
        kind, text, bad = crystal_text(item, "text", Path(), settings)
    found = document_crystals(Document(name, name, -1, kind, text, bad=bad), settings)
    if len(found) != 1:
        raise BadCrystal(f"{name or 'the text'} holds {len(found)} crystals", "give one by one")
    return found[0][1]


def _of_file(path: Path, settings: StructuresSection) -> tuple[str, str, BadCrystal | None]:
    """Return kind and text of a file."""
    if path.is_dir():
        raise BadCrystal(f"{path} is a folder", "give its files, or use `matml structures ingest`")
    if not path.is_file():
        formula = FORMULA.fullmatch(str(path)) is not None
        told = " (a formula? it has many crystals)" if formula else ""
        raise BadCrystal(f"{str(path)[:60]!r}: there is no such file{told}", ANY)
    kind = file_kind(path.name)
    if not kind:
        raise BadCrystal(
            f"{path}: its name is none of a structure file",
            "name it .cif, .vasp, POSCAR, .json or .xyz, as it is",
        )
    return kind, read_text(path, settings.max_file_MB), None


def _looks_like(item: Any) -> str:
    """Return what is wrong with an object that is no crystal."""
    kind = type(item).__name__
    if isinstance(item, SiteCollection):
        return f"is of the type {kind}, which has no cell"
    if isinstance(item, Composition):
        return f"is of the type {kind} ({item.reduced_formula}), which has no sites"
    if isinstance(getattr(item, "structure", None), IStructure):
        return f"is of the type {kind}, whose `.structure` is a crystal"
    return f"is of the type {kind}"
