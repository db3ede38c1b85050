"""A set of crystals with their graphs: what predictors and screening work on."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from pymatgen.core import IStructure, Structure

from matml.core.errors import MatmlError, reading
from matml.core.files import check_table, read_table
from matml.core.parallel import Helpers, processors
from matml.structures.crystal import Crystal, cell_of, crystal_of_cell
from matml.structures.disorder.sites import Mixture
from matml.structures.elements import structure_of
from matml.structures.errors import BadCrystal
from matml.structures.given import crystal_of_item, given
from matml.structures.graphs.build import cells_of, graph_of, graph_settings
from matml.structures.graphs.graph import CrystalGraph
from matml.structures.graphs.store import GraphStore
from matml.structures.settings import STRUCTURES, TABLE, GraphsSection, StructuresSection
from matml.structures.table import QUARANTINE_COLUMNS, crystal_row, quarantine_row

FEWEST_FOR_PROCESSES = 2000
"""Structures below which starting processes costs more than it saves."""
TEXTS = ("id", "family", "duplicate_of")
"""Columns that are read of any number of crystals, beside those of numbers."""
AT_ONCE = 512
"""Structures that a process takes at a time."""

Structures: TypeAlias = Any
"""Structures of any kind: a `CrystalSet`, or what `given` takes."""
Cell = tuple[np.ndarray, np.ndarray, np.ndarray, list[str], list[Mixture]]


def _prepared(item: Any, settings: StructuresSection) -> Cell | Crystal | BadCrystal:
    """What is sent to another process: of a structure its cell, which is smaller."""
    if not isinstance(item, IStructure):
        return crystal_of_item(item, settings)
    try:
        return cell_of(item)
    except BadCrystal as bad:
        return bad


def _make_all(
    cells: Sequence[Cell | Crystal | BadCrystal], **how: Any
) -> list[tuple[Crystal, CrystalGraph] | BadCrystal]:
    return [crystal_with_graph(cell, **how) for cell in cells]


def crystal_with_graph(
    cell: Cell | Crystal | BadCrystal,
    settings: StructuresSection,
    graphs: GraphsSection,
) -> tuple[Crystal, CrystalGraph] | BadCrystal:
    """A cell's crystal and its graph, or why it is none."""
    if isinstance(cell, BadCrystal):
        return cell
    try:
        crystal = cell if isinstance(cell, Crystal) else _of_cell(cell, settings)
    except BadCrystal as bad:
        return bad
    ideal = (crystal.lattice, crystal.frac_coords, crystal.atomic_numbers, crystal.orbit)
    return crystal, graph_of((*ideal, crystal.occupancy), graphs)


def _of_cell(cell: Cell, settings: StructuresSection) -> Crystal:
    lattice, coords, kinds, notes, mixtures = cell
    return crystal_of_cell(lattice, coords, kinds, settings, notes, mixtures=mixtures)


def _made(
    structures: Sequence[Any],
    settings: StructuresSection | None,
    graph_section: GraphsSection | None,
    processes: int,
) -> Iterator[list[tuple[Crystal, CrystalGraph] | BadCrystal]]:
    """Yield what becomes of structures, some hundred at a time, in their order."""
    settings = settings or StructuresSection()
    work = partial(_make_all, settings=settings, graphs=graph_section or GraphsSection())
    chunks = (
        [_prepared(structure, settings) for structure in structures[start : start + AT_ONCE]]
        for start in range(0, len(structures), AT_ONCE)
    )
    others = processors(processes) - 1 if len(structures) >= FEWEST_FOR_PROCESSES else 0
    if not others:
        yield from map(work, chunks)
        return
    with Helpers(others, "structures") as helpers:
        yield from helpers.share(work, chunks)


@dataclass(frozen=True)
class CrystalSet:
    """Crystals and their graphs, row by row.

    Attributes
    ----------
    table
        Columns as in `structures.parquet`.
    graphs
        Graph i belongs to row i.
    quarantine
        What `from_structures` could not use: columns as in `quarantine.csv`.
    unread
        File of the table, where only names and numbers of it were read: subsets have all columns.
    """

    table: pd.DataFrame
    graphs: GraphStore
    quarantine: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=QUARANTINE_COLUMNS)
    )
    unread: Path | None = None

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def open(
        cls, structures_dir: str | Path, graphs_dir: str | Path, *, whole: bool = True
    ) -> "CrystalSet":
        """Open what `matml structures ingest` and `matml structures graph` wrote.

        Parameters
        ----------
        whole
            Whether all columns are read, or only names and numbers; cells, formulas and other
            texts are then those of subsets, so that any number of crystals fits into memory.

        Raises
        ------
        MatmlError
            Where a file is missing or the two folders do not belong together.
        """
        path = Path(structures_dir) / TABLE
        table = read_table(path, STRUCTURES) if whole else _names_and_numbers(path)
        graphs = GraphStore.open(graphs_dir)
        if table["id"].tolist() != graphs.ids:
            raise MatmlError(
                f"{graphs_dir}: its graphs are not those of {structures_dir}; "
                "run `matml structures graph` again"
            )
        return cls(table, graphs, unread=None if whole else path)

    @classmethod
    def from_table(cls, table: pd.DataFrame, section: GraphsSection) -> "CrystalSet":
        """Return the crystals of a table like `structures.parquet`, graphs built in memory."""
        graphs = [graph_of(cell, section) for cell in cells_of(table)]
        store = GraphStore.from_graphs(table["id"].tolist(), graphs, graph_settings(section))
        return cls(table.reset_index(drop=True), store)

    @classmethod
    def from_structures(
        cls,
        structures: Structures,
        ids: Sequence[str] | None = None,
        labels: Mapping[str, Sequence[float]] | pd.DataFrame | None = None,
        settings: StructuresSection | None = None,
        graph_section: GraphsSection | None = None,
        *,
        processes: int = 1,
    ) -> "CrystalSet":
        """Check structures, find their symmetry and family and build their graphs, in memory.

        Parameters
        ----------
        structures
            Anything that `given` takes; the set holds those that pass the checks, in their order.
        ids
            One per structure; by default as of `given`.
        labels
            Columns of numbers, one value per structure.
        settings, graph_section
            The sections `structures` and `graphs` of the configuration.
        processes
            Processes to use where there are thousands of structures. They are spawned: a script
            that asks for several must keep its work under `if __name__ == "__main__":`.

        Examples
        --------
        >>> from pymatgen.core import Lattice, Structure
        >>> salt = Structure.from_spacegroup(
        ...     "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        ... )
        >>> crystals = CrystalSet.from_structures([salt])
        >>> crystals.table["common_name"].tolist(), crystals.table["n_sites"].tolist()
        (['rocksalt'], [2])
        """
        listed = given(structures)
        names = listed.ids if ids is None else [str(i) for i in ids]
        if len(names) != len(listed) or len(set(names)) != len(names):
            raise MatmlError("ids: must be distinct and as many as there are structures")
        parts = _made(listed.items, settings, graph_section, processes)
        made = itertools.chain.from_iterable(parts)
        return cls._of(names, 0, made, labels, graph_section)

    @classmethod
    def stream(
        cls,
        structures: Structures,
        settings: StructuresSection | None = None,
        graph_section: GraphsSection | None = None,
        *,
        processes: int = 1,
    ) -> Iterator["CrystalSet"]:
        """Yield what `from_structures` gives in parts, some hundred crystals each.

        While the caller works on a part, other processes prepare the next ones.
        """
        listed, start = given(structures), 0
        for made in _made(listed.items, settings, graph_section, processes):
            names = listed.ids[start : start + len(made)]
            yield cls._of(names, start, made, None, graph_section)
            start += len(made)

    @classmethod
    def _of(
        cls,
        names: Sequence[str],
        start: int,
        made: Iterable[tuple[Crystal, CrystalGraph] | BadCrystal],
        labels: Mapping[str, Sequence[float]] | pd.DataFrame | None,
        graph_section: GraphsSection | None,
    ) -> "CrystalSet":
        """Return the set of what was made of structures, numbered from `start`."""
        rows, kept, quarantine, graphs = [], [], [], []
        for index, (name, each) in enumerate(zip(names, made, strict=True), start):
            if isinstance(each, BadCrystal):
                quarantine.append(
                    quarantine_row(name, "", index, "crystal", "", each.reason, each.remedy)
                )
                continue
            crystal, graph = each
            rows.append(crystal_row(name, "", index, "", crystal))
            graphs.append(graph)
            kept.append(index)
        table = pd.DataFrame(rows, columns=None if rows else ["id"])
        if labels is not None:
            columns = {
                str(name): np.asarray(values, dtype=np.float64)[kept]
                for name, values in labels.items()
            }
            table = pd.concat([table, pd.DataFrame(columns, index=table.index)], axis=1)
        store = GraphStore.from_graphs(
            [row["id"] for row in rows], graphs, graph_settings(graph_section or GraphsSection())
        )
        return cls(table, store, pd.DataFrame(quarantine, columns=QUARANTINE_COLUMNS))

    def with_columns(self, columns: pd.DataFrame) -> "CrystalSet":
        """Return the set with further columns of its table, one value a crystal."""
        return replace(self, table=self.table.assign(**{c: columns[c].array for c in columns}))

    def subset(self, indices: Sequence[int] | np.ndarray) -> "CrystalSet":
        """The crystals of some rows, in the order of `indices`."""
        indices = np.asarray(indices, dtype=np.int64)
        table = self.table.iloc[indices].reset_index(drop=True)
        if self.unread is not None:
            table = table.join(_unread(self.unread, table.columns, indices))
        return CrystalSet(table, self.graphs.subset(indices))

    def structure(self, index: int) -> Structure:
        """The idealised primitive cell of one row."""
        if self.unread is not None:
            return self.subset([index]).structure(0)
        row = self.table.iloc[index]
        names = ("lattice", "frac_coords", "atomic_numbers", "occupancy")
        return structure_of(*(row.get(name) for name in names))


def _names_and_numbers(path: Path) -> pd.DataFrame:
    """Return the columns of numbers of a table like `structures.parquet`, and some of text."""
    check_table(path, STRUCTURES)
    with reading(path, STRUCTURES.remedy):
        import pyarrow
        from pyarrow import parquet

        file = parquet.ParquetFile(path)
        numbers = (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_boolean)
        kept = [
            each.name
            for each in file.schema_arrow
            if each.name in TEXTS or any(is_kind(each.type) for is_kind in numbers)
        ]
        return file.read(columns=kept).to_pandas()


def _unread(path: Path, known: Collection[str], rows: np.ndarray) -> pd.DataFrame:
    """Return the other columns of some rows of such a table, which is read in parts."""
    import pyarrow
    from pyarrow import parquet

    file = parquet.ParquetFile(path)
    names = [name for name in file.schema_arrow.names if name not in known]
    order, found, start = rows.argsort(kind="stable"), [], 0
    for part in file.iter_batches(columns=names, batch_size=AT_ONCE):
        first, last = np.searchsorted(rows[order], [start, start + len(part)])
        found.append(part.take(pyarrow.array(rows[order[first:last]] - start)))
        start += len(part)
    others = pyarrow.Table.from_batches(found).to_pandas()
    return others.iloc[order.argsort()].reset_index(drop=True)
