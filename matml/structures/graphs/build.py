"""`matml structures graph`: the graphs of all ingested crystals."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from matml.core.files import read_table, write_json
from matml.core.parallel import map_ordered
from matml.structures.disorder.atoms import first_of_sites, occupancies
from matml.structures.graphs.graph import CrystalGraph, crystal_graph
from matml.structures.graphs.occupied import occupied
from matml.structures.graphs.store import GraphStore
from matml.structures.settings import STRUCTURES, TABLE, GraphsSection

Cell = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def graph_settings(settings: GraphsSection) -> dict[str, Any]:
    """What is stored beside the arrays."""
    return settings.model_dump(mode="json")


def cells_of(table: pd.DataFrame) -> list[Cell]:
    """Cells, as `graph_of` takes them, of a table like `structures.parquet`."""
    names = ("lattice", "frac_coords", "atomic_numbers", "orbit")
    return list(zip(*(table[name] for name in names), occupancies(table), strict=True))


def graph_of(cell: Cell, settings: GraphsSection) -> CrystalGraph:
    """Graph of one row: flat lattice, flat coordinates, atomic numbers, orbits and occupancies."""
    lattice, frac_coords, atomic_numbers, orbit, occupancy = cell
    lattice, frac_coords = np.reshape(lattice, (3, 3)), np.reshape(frac_coords, (-1, 3))
    numbers, orbit, occupancy = map(np.asarray, (atomic_numbers, orbit, occupancy))
    how = settings.neighbours, settings.tie_tolerance_A
    if (occupancy == 1).all():
        return crystal_graph(lattice, frac_coords, numbers, orbit, *how)
    first = first_of_sites(frac_coords)
    # the orbits of sites, numbered as the first of the occupants'
    site_orbit = np.unique(orbit[first], return_inverse=True)[1]
    sites = crystal_graph(lattice, frac_coords[first], numbers[first], site_orbit, *how)
    shown = np.unique(orbit, return_index=True)[1]
    owner = site_orbit[np.searchsorted(first, shown, side="right") - 1]
    return occupied(sites, owner, numbers[shown], occupancy[shown])


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
    table = read_table(Path(structures_dir) / TABLE, STRUCTURES)
    cells = cells_of(table)
    built = time.perf_counter()
    graphs = map_ordered(partial(graph_of, settings=settings), cells, threads, "graphs", 256)
    build_seconds = time.perf_counter() - built
    store = GraphStore.from_graphs(table["id"].tolist(), graphs, graph_settings(settings))
    store.save(out)
    summary = {
        "graphs": len(store),
        "nodes": len(store.node_atomic_number),
        "atoms": round(float(store.node_multiplicity.sum(dtype=np.float64))),
        "edges": len(store.edge_source),
        "structures_per_second": round(len(store) / max(build_seconds, 1e-9), 1),
        "settings": graph_settings(settings),
        "seconds": round(time.perf_counter() - begin, 3),
    }
    write_json(Path(out) / "summary.json", summary)
    return summary
