"""Describe crystals by a potential: what it says of them, kept in a file as it comes."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.errors import MatmlError, in_one_line
from matml.core.files import TABLE, read_table, write_table
from matml.core.parallel import SECONDS_BETWEEN_LINES
from matml.potentials.content import CELL, contents_of
from matml.potentials.mechanics import Deformations, Unstable, mechanics
from matml.potentials.named import Potential, load_potential, quiet
from matml.structures.crystals import CrystalSet, Structures
from matml.structures.disorder.atoms import are_disordered
from matml.structures.table import QUARANTINE_COLUMNS, quarantine_row

log = logging.getLogger(__name__)

KEYS = ("id", "content", "potential")
"""Columns of a table of features that are no features."""
SECONDS_BETWEEN_SAVES = 20.0


@dataclass(frozen=True)
class Described:
    """Crystals as a potential describes them.

    Attributes
    ----------
    table
        `id`, `content` (a hash of cell and atoms), `potential` (name, version and settings) and
        the features, a row for each crystal that could be described, in the order given.
    quarantine
        The others; columns as in `quarantine.csv`.
    """

    table: pd.DataFrame
    quarantine: pd.DataFrame

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return [name for name in self.table if name not in KEYS]


def describe(
    structures: Structures,
    potential: Any,
    out: str | Path | None = None,
    how: Deformations | None = None,
) -> Described:
    """Return what a potential says of crystals.

    A crystal at which it fails is named in the quarantine, and the rest goes on.

    Parameters
    ----------
    structures
        In any form; or a table like `structures.parquet`.
    potential
        As of `load_potential`: a name, or any calculator of ASE.
    out
        File that keeps the features, written every 20 s: what is there is not computed again,
        whatever the crystals are called, and crystals that are not asked for stay in it.
    how
        Deformations; by default the volume's alone.

    Raises
    ------
    MatmlError
        Where the potential cannot be loaded, or the file is of another potential, version or
        settings.

    Examples
    --------
    >>> from ase.calculators.emt import EMT  # doctest: +SKIP
    >>> describe(structures, EMT(), "emt.parquet").table  # doctest: +SKIP
    """
    bad = pd.DataFrame(columns=QUARANTINE_COLUMNS)
    if isinstance(structures, pd.DataFrame) and {*CELL} <= {*structures}:
        crystals = structures
    else:
        if not isinstance(structures, CrystalSet):
            structures = CrystalSet.from_structures(structures)
        crystals, bad = structures.table, structures.quarantine
    own, how = load_potential(potential), how or Deformations()
    said = f"{own}; {how}"
    path = None if out is None else Path(out)
    contents = contents_of(crystals) if len(crystals) else []
    known = _read(path, said)
    found: dict[str, dict[str, Any]] = {str(row["content"]): row for row in known}
    rows, failed = _todo(crystals, contents, found), []
    if len(found) and len(crystals):
        log.info(
            "%d of %d crystals are described already", len(crystals) - len(rows), len(crystals)
        )
    last_saved = last_told = time.monotonic()
    disordered = are_disordered(crystals)
    for number, row in enumerate(rows):
        crystal = crystals.iloc[row]
        try:
            if disordered[row]:
                raise Unstable("is disordered, and a potential knows whole atoms only")
            features = _features(crystal, own, how)
        except Exception as error:  # whatever it stumbles over costs one crystal only
            told = str(error) if isinstance(error, Unstable) else _failed(own, error)
            failed.append(_quarantine(crystal, told))
            continue
        key = contents[row]
        found[key] = {"id": str(crystal["id"]), "content": key, "potential": said} | features
        now = time.monotonic()
        if path is not None and now - last_saved > SECONDS_BETWEEN_SAVES:
            write_table(path, _table(found.values()))
            last_saved = now
        if now - last_told > SECONDS_BETWEEN_LINES:
            log.info("%s: %d of %d crystals", own.name, number + 1, len(rows))
            last_told = now
    asked = [
        found[key] | {"id": str(name)}
        for key, name in zip(contents, crystals["id"], strict=True)
        if key in found
    ]
    if path is not None:
        keys, ids = {*contents}, {row["id"] for row in asked}
        # what has changed since, or another crystal has the name of, is let go
        others = [row for key, row in found.items() if key not in keys and row["id"] not in ids]
        write_table(path, _table([*asked, *others]))
    refused = [*bad.to_dict("records"), *failed]
    return Described(_table(asked), pd.DataFrame(refused, columns=QUARANTINE_COLUMNS))


def _table(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    rows = list(rows)
    return pd.DataFrame(rows, columns=None if rows else [*KEYS])


def _todo(crystals: pd.DataFrame, contents: list[str], known: dict) -> list[int]:
    """Return the rows to describe, each crystal once, small ones first."""
    first = {key: row for row, key in reversed([*enumerate(contents)]) if key not in known}
    return sorted(first.values(), key=lambda row: (len(crystals["atomic_numbers"].iloc[row]), row))


def _read(path: Path | None, said: str) -> list[dict[str, Any]]:
    """Return the rows of a file of features.

    Raises
    ------
    MatmlError
        Where it is of another potential, version or settings.
    """
    if path is None or not path.exists():
        return []
    table = read_table(path, TABLE if path.suffix == ".parquet" else None, KEYS)
    if others := [each for each in table["potential"].unique() if each != said]:
        raise MatmlError(
            f"{path}: holds features of {others[0]}, not of {said}; give another file, or delete it"
        )
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _features(crystal: pd.Series, potential: Potential, how: Deformations) -> dict[str, float]:
    """Return the features of one row of a table of crystals."""
    with quiet():
        from ase import Atoms

        atoms = Atoms(
            np.asarray(crystal["atomic_numbers"], int),
            cell=np.reshape(crystal["lattice"], (3, 3)),
            scaled_positions=np.reshape(crystal["frac_coords"], (-1, 3)),
            pbc=True,
        )
        atoms.calc = potential.calculator
        embedding: dict[str, float] = {}
        if potential.embed is not None:
            # before the cell is deformed; ASE keeps what it has computed for what follows
            atoms.get_potential_energy()
            own = potential.embed(atoms)
            embedding = {f"embedding_{i}": float(value) for i, value in enumerate(own)}
        found = mechanics(atoms, how) | embedding
    return {f"{potential.name}_{name}": value for name, value in found.items()}


def _failed(potential: Potential, error: Exception) -> str:
    """Return what a potential stumbled over."""
    return f"{potential.name} fails ({type(error).__name__}: {in_one_line(error, 120)})"


def _quarantine(crystal: pd.Series, reason: str) -> dict[str, Any]:
    place = (str(crystal["id"]), str(crystal.get("source", "")), int(crystal.get("row", -1)))
    return quarantine_row(
        *place, "crystal", "", reason, "leave it out, or describe it by another potential"
    )
