"""Crystals that are known already: read, found among candidates, compared with."""

import contextlib
import difflib
import hashlib
import logging
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.core import Composition

import matml.structures.elements  # noqa: F401  (silences noble gases)
from matml import __version__
from matml.core.errors import MatmlError
from matml.core.files import read_table
from matml.core.project import input_path
from matml.core.provenance import file_hash
from matml.structures.duplicates import (
    SAME_VOLUME,
    Matcher,
    Scaled,
    comparable,
    first_match,
    note_undecided,
)
from matml.structures.ingest import ingest
from matml.structures.settings import STRUCTURES, TABLE, StructuresSection

log = logging.getLogger(__name__)


def read_known(folder: Path) -> pd.DataFrame:
    """The table of ingested crystals in a folder.

    Raises
    ------
    MatmlError
        Where `structures.parquet` is missing, or lacks columns that ingest writes.
    """
    path = Path(folder) / TABLE
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; run `matml structures ingest` with --out {folder}")
    table = read_table(path, STRUCTURES)
    needed = {"id", "formula", "family", "common_name", "prototype", "duplicate_of", "lattice"}
    if missing := sorted(needed - set(table.columns)):
        raise MatmlError(f"{path}: lacks the column {missing[0]!r}; ingest the crystals again")
    return table


def known_folder(folder: Path | None) -> Path:
    """Return the folder of the known crystals: by default those that ship with matml.

    They are ingested once and kept in the user's cache folder.
    """
    if folder is not None:
        return Path(folder)
    settings = StructuresSection()
    tables = [input_path(path) for path in settings.inputs]
    about = [__version__, str(STRUCTURES.version), *map(file_hash, tables)]
    key = hashlib.sha256("\0".join(about).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "matml"
    place = cache / f"crystals-{key}"
    if place.is_dir():
        return place
    log.info("reading the known crystals that ship with matml, once: %s", place)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".crystals-") as unfinished:
        made = Path(unfinished) / "crystals"
        ingest(tables, made, settings)
        # another process may have been quicker
        with contextlib.suppress(OSError):
            made.rename(place)
    return place


GUESSED_VOLUME = 0.25
"""How far the volume of a candidate, as the logarithm of a ratio, may be guessed wrong: cells from
ionic radii err by some percent in length."""
CELL = ["lattice", "frac_coords", "atomic_numbers", "occupancy"]


def flag_known(candidates: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Mark candidates that are known already.

    Parameters
    ----------
    candidates, known
        Tables with the columns of `structures.parquet`.

    Returns
    -------
    pandas.DataFrame
        `duplicate_of`: id of the first known crystal equal to it, '' if none; `strained_copy_of`:
        else, of the first that is equal but for a volume that may be guessed; `known_composition`:
        whether a known crystal has this formula, in whatever structure; `notes`: those of the
        candidate, and what is undecided. One row per candidate.
    """
    known = known[known["duplicate_of"] == ""]
    groups = known.groupby(["formula", "prototype"]).indices
    formulas = set(known["formula"])
    ids = known["id"].tolist()
    keys = list(zip(candidates["formula"], candidates["prototype"], strict=True))
    rows = [row for row, key in enumerate(keys) if key in groups]
    known_rows = sorted({int(place) for row in rows for place in groups[keys[row]]})
    # of one table, so that kinds of sites are alike
    compared = [known.iloc[known_rows], candidates.iloc[rows]]
    cells = comparable(pd.concat([table.reindex(columns=CELL) for table in compared]))
    known_cells = dict(zip(known_rows, cells, strict=False))
    own_cells = dict(zip(rows, cells[len(known_rows) :], strict=True))
    flags: list[tuple[str, str, bool]] = []
    undecided: dict[int, str] = {}
    for row, key in enumerate(keys):
        group = [int(place) for place in groups.get(key, [])]
        equal = ["", ""]
        if group:
            matcher, own = Matcher(), Scaled.of(*own_cells[row])
            others = [Scaled.of(*known_cells[place]) for place in group]
            for place, strain in enumerate((SAME_VOLUME, GUESSED_VOLUME)):
                match, maybe = first_match(matcher, others, own, strain)
                if match is not None:
                    equal[place] = ids[group[match]]
                    break
                if maybe is not None:
                    undecided[row] = ids[group[maybe]]
        flags.append((equal[0], equal[1], _is_known(key[0], formulas)))
    names = ["duplicate_of", "strained_copy_of", "known_composition"]
    found = pd.DataFrame(flags, columns=names).astype({"known_composition": bool})
    found["notes"] = candidates["notes"].tolist() if "notes" in candidates else ""
    note_undecided(found, undecided)
    return found


def _is_known(formula: str, known: Collection[str]) -> bool:
    """Whether a formula, of a virtual crystal with fractions, is among known ones."""
    if formula in known or "." not in formula:
        return formula in known
    return Composition(formula).get_integer_formula_and_factor(max_denominator=100)[0] in known


def known_values(
    flags: pd.DataFrame, known: pd.DataFrame, property_name: str, without: Collection[str] = ()
) -> np.ndarray:
    """Known label of each candidate as of `flag_known`, shape [N], NaN where there is none.

    It is that of the crystal that it equals, if only but for its volume, averaged over the copies
    of that one (rows whose `duplicate_of` is the same crystal).

    Parameters
    ----------
    without
        Crystals whose strained copies get none: those that the user labelled.
    """
    if property_name not in known:
        return np.full(len(flags), np.nan)
    first = known["duplicate_of"].where(known["duplicate_of"] != "", known["id"])
    labels = known[property_name].groupby(first).mean()
    strained = flags["strained_copy_of"].where(~flags["strained_copy_of"].isin(without), "")
    same = flags["duplicate_of"].where(flags["duplicate_of"] != "", strained)
    return same.map(labels).to_numpy(dtype=float)


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that `check_on_known` compares."""
    given = table[table["known_value"].notna() & ~table["in_support"]]
    held_out = given["held_out"].to_numpy(bool)
    return given[held_out] if held_out.any() else given


def check_on_known(table: pd.DataFrame, support_mean: float) -> dict[str, Any]:
    """How predictions compare with known labels of candidates that were not in the support.

    Only families that training held out tell of new crystals; where there are none, the others are
    compared, and `held_out` is false.

    Returns
    -------
    dict
        `n`, and where it is not zero: `held_out`, `n_perhaps_learned` (known crystals of the other
        families, which are not counted beside held-out ones), mean absolute error of the
        predictions and of the support's mean, share of known values inside the 90 % interval,
        Spearman correlation (None below three).
    """
    given = table[table["known_value"].notna() & ~table["in_support"]]
    if given.empty:
        return {"n": 0}
    held_out = given["held_out"].to_numpy(bool)
    unseen = compared(table)
    truth, prediction = unseen["known_value"], unseen["prediction"]
    correlation = None
    if len(unseen) > 2 and truth.std() > 0 and prediction.std() > 0:
        correlation = float(truth.rank().corr(prediction.rank()))
    return {
        "n": len(unseen),
        "held_out": bool(held_out.any()),
        "n_perhaps_learned": int((~held_out).sum()),
        "mean_absolute_error": float((prediction - truth).abs().mean()),
        "mean_absolute_error_of_support_mean": float((support_mean - truth).abs().mean()),
        "share_inside_90_percent_interval": float(
            truth.between(unseen["low"], unseen["high"]).mean()
        ),
        "spearman_correlation": correlation,
    }


def _alike(name: str, known: Sequence[str]) -> list[str]:
    """At most four known names that hold a name, or are spelled nearly as it is."""
    letters = name.lower().replace(" ", "").replace("-", "")
    plain = [other.lower().replace(" ", "").replace("-", "") for other in known]
    holding = [other for other, text in zip(known, plain, strict=True) if letters in text]
    close = difflib.get_close_matches(letters, plain, n=4, cutoff=0.8)
    return (holding or [known[plain.index(text)] for text in close])[:4]


def family_rows(table: pd.DataFrame, family: str) -> pd.DataFrame:
    """Rows of `structures.parquet` of a family, named by its label or its common name.

    Where several labels share the common name, the most frequent prototype is taken. Copies are
    kept: their labels may differ from those of the first crystal.

    Raises
    ------
    MatmlError
        Where no row belongs to the family; names those of a like name, or the largest.
    """
    rows = table[(table["family"] == family) | (table["common_name"] == family)]
    if rows.empty:
        by_size = table.groupby("family").size().sort_values(ascending=False, kind="stable").index
        names = dict(zip(table["family"], table["common_name"], strict=True))
        known = list(dict.fromkeys(names[label] or label for label in by_size))
        if near := _alike(family, known):
            raise MatmlError(
                f"--family {family!r}: no ingested crystal belongs to it; did you mean "
                f"{' or '.join(map(repr, near))}?"
            )
        listed = ", ".join(known[:12])
        raise MatmlError(
            f"--family {family!r}: no ingested crystal belongs to it; large families are: {listed} "
            "(see families.csv for all)"
        )
    return rows[rows["prototype"] == rows["prototype"].mode().iloc[0]]
