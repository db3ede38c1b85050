"""Candidates equal to an earlier one, marked in the table of all scores.

Which candidates might be equal is told by 8 bytes each; only those are laid on each other, some
thousands at once, from a file on disk. Memory so does not grow with the candidates but for these
bytes (16 MB a million).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from matml.core.files import atomic
from matml.structures.duplicates import copies

COPY = "is_copy"
GROUPED_BY = ["prototype", "formula"]
CELLS = [*GROUPED_BY, "lattice", "frac_coords", "atomic_numbers", "occupancy"]
"""Columns of the cells that are compared; equal crystals agree in the first two."""
AT_ONCE = 20_000


def mark_copies(scores: Path, cells: Path) -> int:
    """Add a column `is_copy` to a Parquet file of scores; returns how many are copies.

    Parameters
    ----------
    scores
        Rewritten, row group by row group.
    cells
        Parquet file with the columns `CELLS`, the same rows in the same order.
    """
    from pyarrow import parquet

    with parquet.ParquetFile(cells) as file:
        starts = np.cumsum([0, *(file.metadata.row_group(g).num_rows for g in _groups(file))])
        is_copy = np.zeros(starts[-1], dtype=bool)
        for rows in _alike(_keys(file)):
            is_copy[rows] = copies(_rows(file, starts, rows))
    with parquet.ParquetFile(scores) as file, atomic(scores) as temporary:
        start, writer = 0, None
        for group in _groups(file):
            table = file.read_row_group(group)
            own = is_copy[start : start + len(table)]
            start += len(table)
            table = table.append_column(COPY, [own])
            writer = writer or parquet.ParquetWriter(temporary, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()
    return int(is_copy.sum())


def _groups(file) -> range:
    return range(file.num_row_groups)


def _keys(file) -> np.ndarray:
    """A number for each row, the same for all that might be equal."""
    parts = [
        pd.util.hash_pandas_object(
            file.read_row_group(group, columns=GROUPED_BY).to_pandas(), index=False
        ).to_numpy()
        for group in _groups(file)
    ]
    return np.concatenate(parts)


def _alike(keys: np.ndarray) -> Iterator[np.ndarray]:
    """Rows whose key occurs again, those of one key together, some `AT_ONCE` at a time."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    size = np.diff(np.r_[first, len(keys)])
    rows, number = [], 0
    for begin, n in zip(first[size > 1], size[size > 1], strict=True):
        rows.append(order[begin : begin + n])
        number += n
        if number >= AT_ONCE:
            yield np.sort(np.concatenate(rows))
            rows, number = [], 0
    if rows:
        yield np.sort(np.concatenate(rows))


def _rows(file, starts: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
    """Some rows, given in rising order."""
    group_of = np.searchsorted(starts, rows, side="right") - 1
    parts = [
        file.read_row_group(int(group)).take(rows[group_of == group] - starts[group]).to_pandas()
        for group in np.unique(group_of)
    ]
    return pd.concat(parts, ignore_index=True)
