"""What stays of a stream of scored candidates: the best, the Pareto front, counts, and a table."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.files import sealed_metadata
from matml.screening.objectives import Objective
from matml.screening.score.scoring import Scored
from matml.screening.select.diversity import dominated_by
from matml.structures.duplicates import copies

LARGEST_FRONT = 1000
MOST_KNOWN = 20_000
"""Candidates with a known value that the check looks at."""
ROW_GROUP = 16_384
CELL_COLUMNS = ["lattice", "frac_coords", "atomic_numbers", "orbit", "occupancy"]
UNSAID = ["row", "anonymous_formula", *CELL_COLUMNS]
"""Columns that the table of all scores goes without."""
CHECKED = ["prediction", "low", "high", "known_value", "in_support", "held_out"]


class Keeper:
    """The best rows so far, and all that the summary tells of the others.

    Parameters
    ----------
    number
        How many rows to keep; the Pareto front (the first 1,000 of it met) stays besides.
    leading
        The property whose predictions are checked against known values.
    held_out
        Families that no stage of training has seen: the others' labels may have been learned.
    """

    def __init__(
        self,
        number: int,
        leading: str,
        objectives: Sequence[Objective],
        held_out: Collection[str] = (),
    ) -> None:
        self.number, self.leading, self.held_out = number, leading, set(held_out)
        self.windows = [o for o in objectives if o.kind == "window"]
        self.several = len(objectives) > 1
        self.counts = dict.fromkeys(
            (
                *("read", "quarantined", "copies", "ranked", "in_domain", "far", "rare", "beyond"),
                "otherwise_outside",
                *("duplicates_of_known", "known_composition", "meet_all_windows"),
            ),
            0,
        )
        self.known: list[pd.DataFrame] = []
        self.nearest: dict[str, dict[str, Any]] = {}
        self.best = pd.DataFrame()
        self.waiting: list[pd.DataFrame] = []
        self.n_waiting = 0
        self.threshold = (False, -np.inf)
        self.front, self.front_criteria = pd.DataFrame(), np.zeros((0, len(objectives)))

    def add(self, scored: Scored) -> None:
        """Take one chunk in."""
        self.counts["read"] += scored.n_read
        self.counts["copies"] += scored.n_copies
        self.counts["quarantined"] += sum(r["dropped"] == "crystal" for r in scored.quarantine)
        table = scored.table
        if not len(table):
            return
        self._count(table)
        self._note_nearest(table, scored.gaps)
        extra = scored.extra.rename(columns={name: f"given_{name}" for name in table.columns})
        full = pd.concat([table, extra], axis=1)
        if self.several:
            self._extend_front(full, scored.criteria)
        # ties at the threshold stay in, since ids decide among them
        domain, score = self.threshold
        ahead = (table["in_domain"] > domain) | (
            (table["in_domain"] == domain) & (table["score"] >= score)
        )
        self.waiting.append(full[ahead.to_numpy()])
        self.n_waiting += int(ahead.sum())
        if self.n_waiting > max(self.number, 1000):
            self._compact()

    def kept(self) -> pd.DataFrame:
        """The best rows and the Pareto front, best first."""
        self._compact()
        parts = [part for part in (self.best, self.front) if len(part)]
        if not parts:
            return pd.DataFrame()
        rows = pd.concat(parts, ignore_index=True).drop_duplicates(["id", "source", "row"])
        # what the front holds of copies was counted where it fell out of the best
        return best_first(rows[~copies(rows)])

    def _compact(self) -> None:
        parts = [part for part in (self.best, *self.waiting) if len(part)]
        if parts:
            rows = best_first(pd.concat(parts, ignore_index=True))
            # copies from other chunks must not take the places of other crystals; each is worse
            # than what it equals, so it could not come back when that one falls out
            repeated = copies(rows)
            self.counts["copies"] += int(repeated.sum())
            self.best = rows[~repeated].head(self.number).reset_index(drop=True)
        if len(self.best) == self.number:
            last = self.best.iloc[-1]
            self.threshold = bool(last["in_domain"]), float(last["score"])
        self.waiting, self.n_waiting = [], 0

    def _count(self, table: pd.DataFrame) -> None:
        far, rare = table["distance"] > 1, table["rare_elements"] != ""
        counted = far | rare | table["beyond_labels"]
        for name, values in {
            "ranked": np.ones(len(table)),
            "in_domain": table["in_domain"],
            "far": far,
            "rare": rare,
            "beyond": table["beyond_labels"],
            "otherwise_outside": ~(table["in_domain"].astype(bool) | counted),
            "duplicates_of_known": table["duplicate_of"] != "",
            "known_composition": table["known_composition"],
        }.items():
            self.counts[name] += int(np.sum(np.asarray(values)))
        checked = table[table["known_value"].notna()]
        if len(checked) and sum(map(len, self.known)) < MOST_KNOWN:
            names = {
                self.leading: "prediction",
                f"{self.leading}_low": "low",
                f"{self.leading}_high": "high",
            }
            checked = checked.rename(columns=names)
            checked["held_out"] = checked["family"].isin(self.held_out)
            self.known.append(checked[CHECKED])

    def _note_nearest(self, table: pd.DataFrame, gaps: np.ndarray) -> None:
        """Note which candidate comes nearest to each window, and to all of them.

        One of the model's domain goes before all others, which stand for it where there is none.
        """
        inside = table["in_domain"].to_numpy(bool)
        if not self.windows:
            return
        self.counts["meet_all_windows"] += int((gaps[inside] == 0).all(1).sum())
        # by the prediction that is shown: in deviations the least certain would be the nearest
        measures = {
            str(w): w.gap(w.to_scale(table[w.property].to_numpy(float))) for w in self.windows
        }
        measures["all windows"] = gaps.max(1)
        for name, gap in measures.items():
            row = int(np.lexsort((gap, ~inside))[0])
            entry = {
                "gap": float(gap[row]),
                "in_domain": bool(inside[row]),
                "id": table["id"].iloc[row],
                "formula": table["formula"].iloc[row],
                "probability": float(table["probability"].iloc[row]),
                "values": {
                    w.property: [
                        float(table[w.property + suffix].iloc[row])
                        for suffix in ("", "_low", "_high")
                    ]
                    for w in self.windows
                },
            }
            _note(self.nearest, name, entry)

    def _extend_front(self, rows: pd.DataFrame, criteria: np.ndarray) -> None:
        inside = rows["in_domain"].to_numpy().nonzero()[0]
        new = inside[~dominated_by(criteria[inside], self.front_criteria)]
        new = new[~dominated_by(criteria[new], criteria[new])]
        if not len(new):
            return
        old = ~dominated_by(self.front_criteria, criteria[new])
        parts = [part for part in (self.front[old] if len(self.front) else None, rows.iloc[new])]
        parts = [part for part in parts if part is not None and len(part)]
        self.front = pd.concat(parts, ignore_index=True).head(LARGEST_FRONT)
        together = np.concatenate([self.front_criteria[old], criteria[new]])
        self.front_criteria = together[:LARGEST_FRONT]

    def state(self) -> dict[str, Any]:
        """Counts and findings, for JSON."""
        known = pd.concat(self.known, ignore_index=True) if self.known else None
        return {
            "counts": self.counts,
            "nearest": self.nearest,
            "known": [] if known is None else known.to_dict("records"),
        }


def best_first(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows in the model's domain first, in each part the best score first, then by id."""
    return rows.sort_values(
        ["in_domain", "score", "id"], ascending=[False, False, True], ignore_index=True
    )


def _note(nearest: dict[str, dict], name: str, entry: dict[str, Any]) -> None:
    """Put an entry in its window's place where it is of the domain and the other not, or nearer."""
    old = nearest.get(name)
    if old is None or (not entry["in_domain"], entry["gap"]) < (not old["in_domain"], old["gap"]):
        nearest[name] = entry


def merge_states(states: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The state of several shards together."""
    counts = {name: sum(s["counts"][name] for s in states) for name in states[0]["counts"]}
    nearest: dict[str, dict] = {}
    for state in states:
        for name, entry in state["nearest"].items():
            _note(nearest, name, entry)
    known = [row for state in states for row in state["known"]]
    return {"counts": counts, "nearest": nearest, "known": known}


class ScoreWriter:
    """Writes scored rows to Parquet in row groups as they come.

    Parameters
    ----------
    path
        A temporary file of `matml.core.files.atomic`, which gives it its name when all is written.
    columns
        What is written; by default all but what only other steps need.
    """

    def __init__(self, path: Path, columns: Sequence[str] = ()) -> None:
        self.path, self.columns, self.size = path, list(columns), 0
        self.writer: Any = None
        self.parts: list[pd.DataFrame] = []

    def write(self, table: pd.DataFrame) -> None:
        """Take rows in; they are written when a row group is full."""
        if len(table):
            said = self.columns or [name for name in table.columns if name not in UNSAID]
            self.parts.append(table[said])
            self.size += len(table)
        if self.size >= ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        import pyarrow
        from pyarrow import parquet

        if self.parts:
            self._flush()
        if self.writer is None:
            said = sealed_metadata()
            parquet.write_table(pyarrow.table({}).replace_schema_metadata(said), self.path)
        else:
            self.writer.close()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow import parquet

        rows = pd.concat(self.parts, ignore_index=True)
        rows = rows[self.writer.schema.names] if self.writer else _score_columns(rows)
        if self.writer is None:
            arrow = pyarrow.Table.from_pandas(rows, preserve_index=False)
            schema = arrow.schema.with_metadata(sealed_metadata())
            self.writer = parquet.ParquetWriter(self.path, schema)
        self.writer.write_table(
            pyarrow.Table.from_pandas(rows, schema=self.writer.schema, preserve_index=False)
        )
        self.parts, self.size = [], 0


def _score_columns(rows: pd.DataFrame) -> pd.DataFrame:
    """The columns that any input has: identity, and what follows the last of the predictions."""
    return rows[[name for name in rows.columns if not name.startswith("given_")]]


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Columns of mixed origin as numbers where all that is said are numbers, else as text."""
    columns = {}
    for name in rows:
        values = rows[name]
        if values.dtype == object and name not in CELL_COLUMNS:
            filled = values.dropna()
            filled = filled[filled.astype(str).str.strip() != ""]
            numbers = pd.to_numeric(filled, errors="coerce")
            booleans = np.array([isinstance(value, bool) for value in filled], dtype=bool)
            if len(filled) and numbers.notna().all() and not booleans.any():
                values = numbers.reindex(values.index)
            elif not booleans.all() or not len(filled):
                values = values.fillna("").astype(str)
        columns[name] = values
    return pd.DataFrame(columns, index=rows.index)
