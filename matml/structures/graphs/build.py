"""`matml structures graph`: the graphs of all ingested crystals."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from matml.core.files import read_table, write_json
from matml.core.parallel import map_ordered
from matml.structures.graphs.graph import CrystalGraph, crystal_graph
from matml.structures.graphs.store import GraphStore
from matml.structures.settings import STRUCTURES, GraphsSection

Cell = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def graph_settings(settings: GraphsSection) -> dict[str, Any]:
    """What is stored beside the arrays."""
    return settings.model_dump(mode="json")


def graph_of(cell: Cell, settings: GraphsSection) -> CrystalGraph:
    """Graph of one row: flat lattice, flat fractional coordinates, atomic numbers and orbits."""
    lattice, frac_coords, atomic_numbers, orbit = cell
    return crystal_graph(
        np.reshape(lattice, (3, 3)),
        np.reshape(frac_coords, (-1, 3)),
        np.asarray(atomic_numbers),
        np.asarray(orbit),
        neighbours=settings.neighbours,
        tie_tolerance=settings.tie_tolerance_A,
    )


def build_graphs(
    structures_dir: str | Path,
    out: str | Path,
    settings: GraphsSection,
    threads: int | None = None,
) -> dict[str, Any]:
    """Build and write the graphs of `structures.parquet`, in its order.

    Returns
    -------
    dict
        The content of `summary.json`.
    """
    begin = time.perf_counter()
    table = read_table(Path(structures_dir) / "structures.parquet", STRUCTURES)
    names = ("lattice", "frac_coords", "atomic_numbers", "orbit")
    cells = list(zip(*(table[name] for name in names), strict=True))
    built = time.perf_counter()
    graphs = map_ordered(partial(graph_of, settings=settings), cells, threads, "graphs", 256)
    build_seconds = time.perf_counter() - built
    store = GraphStore.from_graphs(table["id"].tolist(), graphs, graph_settings(settings))
    store.save(out)
    summary = {
        "graphs": len(store),
        "nodes": len(store.node_atomic_number),
        "atoms": int(store.node_multiplicity.sum()),
        "edges": len(store.edge_source),
        "edges_before_reduction": int(
            (
                store.edge_multiplicity
                * store.node_multiplicity[
                    store.edge_target
                    + np.repeat(store.node_offset[:-1], np.diff(store.edge_offset))
                ].astype(np.int64)
            ).sum()
        ),
        "structures_per_second": round(len(store) / max(build_seconds, 1e-9), 1),
        "settings": graph_settings(settings),
        "seconds": round(time.perf_counter() - begin, 3),
    }
    write_json(Path(out) / "summary.json", summary)
    return summary
