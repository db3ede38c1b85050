"""Many graphs as flat arrays: memory-mapped safetensors beside a Parquet index."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from matml.core.errors import MatmlError
from matml.core.files import atomic, read_table, write_table
from matml.core.integrity.formats import Format, check_seal, header, read_header, seal
from matml.structures.graphs.graph import CrystalGraph

ARRAYS = {
    "node_atomic_number": np.int16,
    "node_multiplicity": np.float32,
    "node_offset": np.int64,
    "edge_source": np.int32,
    "edge_target": np.int32,
    "edge_distance": np.float32,
    "edge_weight": np.float32,
    "edge_offset": np.int64,
}
GRAPHS = Format("graphs", 2, "run `matml structures graph` again")
FILE = "graphs.safetensors"
INDEX = "index.parquet"


@dataclass(frozen=True)
class GraphStore:
    """G crystal graphs with N nodes (orbits) and E edges (shells) in all.

    Attributes
    ----------
    ids
        Id of each crystal, length G.
    settings
        How the graphs were made (neighbours, tie tolerance in angstrom).
    node_atomic_number, node_multiplicity
        Shape (N,); multiplicity is the number of atoms of the orbit in the primitive cell, the mean
        where sites are not always occupied.
    node_offset, edge_offset
        First node and edge of each graph, shape (G + 1,).
    edge_source, edge_target
        Orbit of the neighbours and of the centre, numbered within the graph, shape (E,).
    edge_distance, edge_weight
        Angstrom, and share of the shell among the centre's neighbours, shape (E,).
    """

    ids: list[str]
    settings: dict[str, Any]
    node_atomic_number: np.ndarray
    node_multiplicity: np.ndarray
    node_offset: np.ndarray
    edge_source: np.ndarray
    edge_target: np.ndarray
    edge_distance: np.ndarray
    edge_weight: np.ndarray
    edge_offset: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def from_graphs(
        cls, ids: Sequence[str], graphs: Sequence[CrystalGraph], settings: dict[str, Any]
    ) -> "GraphStore":
        """Pack graphs, in their order."""

        def flat(name: str, dtype: type) -> np.ndarray:
            parts = [getattr(graph, name) for graph in graphs]
            return np.concatenate([*parts, np.empty(0)]).astype(dtype)

        def offsets(name: str) -> np.ndarray:
            sizes = [len(getattr(graph, name)) for graph in graphs]
            return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

        return cls(
            ids=list(ids),
            settings=dict(settings),
            node_atomic_number=flat("atomic_number", np.int16),
            node_multiplicity=flat("node_multiplicity", np.float32),
            node_offset=offsets("atomic_number"),
            edge_source=flat("edge_source", np.int32),
            edge_target=flat("edge_target", np.int32),
            edge_distance=flat("edge_distance", np.float32),
            edge_weight=flat("edge_weight", np.float32),
            edge_offset=offsets("edge_source"),
        )

    @classmethod
    def open(cls, folder: str | Path) -> "GraphStore":
        """Memory-map the graphs of a folder.

        Raises
        ------
        MatmlError
            Where a file is missing, damaged, or the two files do not belong together.
        """
        path = Path(folder) / FILE
        arrays, settings = map_graphs(path)
        if missing := [name for name in ARRAYS if name not in arrays]:
            raise MatmlError(
                f"{path}: array {missing[0]} is missing; run `matml structures graph` again"
            )
        index_path = Path(folder) / INDEX
        ids = read_table(index_path, GRAPHS)["id"].tolist()
        if len(ids) + 1 != len(arrays["node_offset"]):
            raise MatmlError(
                f"{index_path}: {len(ids)} rows for {len(arrays['node_offset']) - 1} graphs; "
                "run `matml structures graph` again"
            )
        return cls(ids=ids, settings=settings, **{name: arrays[name] for name in ARRAYS})

    def save(self, folder: str | Path) -> None:
        """Write `graphs.safetensors` and `index.parquet`."""
        with atomic(Path(folder) / FILE) as temporary:
            arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ARRAYS}
            save_file(arrays, temporary, metadata=header(GRAPHS, self.settings))
            seal(temporary)
        index = pd.DataFrame(
            {
                "id": pd.Series(self.ids, dtype="str"),
                "n_nodes": np.diff(self.node_offset),
                "n_edges": np.diff(self.edge_offset),
                "node_start": self.node_offset[:-1],
                "edge_start": self.edge_offset[:-1],
            }
        )
        write_table(Path(folder) / INDEX, index, GRAPHS)

    def gather(self, indices: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Join some graphs into one flat batch.

        Parameters
        ----------
        indices
            Graph numbers, shape (B,); repeats are allowed.

        Returns
        -------
        dict
            `atomic_number`, `node_multiplicity`, `graph` (0 to B - 1, per node), and per edge
            `edge_source`, `edge_target` (node numbers in the batch), `edge_distance` (angstrom),
            `edge_weight`.
        """
        indices = np.asarray(indices, dtype=np.int64)
        node, node_graph, node_first = _ranges(self.node_offset, indices)
        edge, edge_graph, _ = _ranges(self.edge_offset, indices)
        shift = node_first[edge_graph]
        return {
            "atomic_number": self.node_atomic_number[node],
            "node_multiplicity": self.node_multiplicity[node],
            "graph": node_graph,
            "edge_source": self.edge_source[edge] + shift,
            "edge_target": self.edge_target[edge] + shift,
            "edge_distance": self.edge_distance[edge],
            "edge_weight": self.edge_weight[edge],
        }

    def subset(self, indices: Sequence[int] | np.ndarray) -> "GraphStore":
        """A store of some of the graphs, in the order of `indices`."""
        indices = np.asarray(indices, dtype=np.int64)
        node, _, node_first = _ranges(self.node_offset, indices)
        edge, _, edge_first = _ranges(self.edge_offset, indices)
        arrays = {
            name: getattr(self, name)[node if name.startswith("node") else edge]
            for name in ARRAYS
            if not name.endswith("offset")
        }
        return GraphStore(
            ids=[self.ids[i] for i in indices],
            settings=self.settings,
            node_offset=np.append(node_first, len(node)),
            edge_offset=np.append(edge_first, len(edge)),
            **arrays,
        )


def _ranges(offset: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items of some blocks, the position of their block, and each block's first new number."""
    start = offset[indices]
    size = offset[indices + 1] - start
    first = np.cumsum(size) - size
    block = np.repeat(np.arange(len(indices)), size)
    return np.arange(len(block)) + np.repeat(start - first, size), block, first


def map_graphs(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Memory-map the arrays of a safetensors file, and return the graphs' settings.

    The format is eight bytes of header length, a JSON header, and the arrays end to end.

    Raises
    ------
    MatmlError
        Where the file is missing, damaged, or not of this format.
    """
    if not path.is_file():
        raise MatmlError(f"{path}: no such file; {GRAPHS.remedy}")
    check_seal(path, GRAPHS)
    kinds = {"F64": "f8", "F32": "f4", "I64": "i8", "I32": "i4", "I16": "i2"}
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            entries = json.loads(file.read(length))
        settings = read_header(entries.pop("__metadata__", {}), path, GRAPHS)
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
        arrays = {}
        for name, entry in entries.items():
            begin, end = (8 + length + at for at in entry["data_offsets"])
            arrays[name] = content[begin:end].view(f"<{kinds[entry['dtype']]}")
            arrays[name] = arrays[name].reshape(entry["shape"])
    except (ValueError, KeyError, struct.error, TypeError) as error:
        raise MatmlError(f"{path}: is damaged ({error}); {GRAPHS.remedy}") from None
    return arrays, settings
