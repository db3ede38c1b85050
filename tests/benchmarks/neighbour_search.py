"""Speed of the neighbour search beside pymatgen's `get_neighbor_list`, on the same crystals.

    python tests/benchmarks/neighbour_search.py STRUCTURES_DIR [--crystals 1000] [--json FILE]

STRUCTURES_DIR is what `matml structures ingest` wrote. For every crystal the radius is the largest
at which the weights of an atom's neighbours reach 0; both searches then find the same pairs.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from pymatgen.core import Lattice, Structure

from matml.structures.graphs.graph import crystal_graph
from matml.structures.graphs.neighbours import fading_neighbours, neighbour_search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structures_dir", type=Path)
    parser.add_argument("--crystals", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = pd.read_parquet(options.structures_dir / "structures.parquet")
    table = table.iloc[:: max(1, len(table) // options.crystals)]
    cells = []
    for row in table.itertuples():
        lattice = np.reshape(row.lattice, (3, 3))
        frac_coords = np.reshape(row.frac_coords, (-1, 3))
        numbers = np.asarray(row.atomic_numbers, dtype=int)
        centres = np.arange(len(numbers))
        _, _, distance, _ = fading_neighbours(lattice, frac_coords @ lattice, centres, 8)
        structure = Structure(Lattice(lattice), numbers.tolist(), frac_coords)
        cells.append(
            (lattice, frac_coords, numbers, np.asarray(row.orbit), structure, distance.max() + 1e-6)
        )

    def ours() -> int:
        return sum(
            len(neighbour_search(lattice, frac @ lattice, np.arange(len(frac)), radius)[0])
            for lattice, frac, _, _, _, radius in cells
        )

    def pymatgen() -> int:
        return sum(
            len(structure.get_neighbor_list(radius)[0]) for _, _, _, _, structure, radius in cells
        )

    def reduced() -> int:
        return sum(
            len(crystal_graph(lattice, frac, numbers, orbit).edge_source)
            for lattice, frac, numbers, orbit, _, _ in cells
        )

    methods = {
        "matml search, all atoms": ours,
        "pymatgen get_neighbor_list": pymatgen,
        "matml reduced graph, search and shells": reduced,
    }
    records = []
    for name, run in methods.items():
        seconds = []
        for _ in range(options.repeats):
            begin = time.perf_counter()
            found = run()
            seconds.append(time.perf_counter() - begin)
        rates = [len(cells) / s for s in seconds]
        print(f"{name}: {max(rates):.0f} structures/s ({found} pairs or shells)")
        records.append(
            {
                "benchmark": "neighbour search",
                "setting": f"{len(cells)} embedded crystals, weights that sum to 8",
                "method": name,
                "is_default": name.startswith("matml"),
                "shots": None,
                "metric": "structures/s",
                "value": max(rates),
                "low": min(rates),
                "high": max(rates),
                "n_tasks": len(cells),
                "seed": None,
            }
        )
    if options.json:
        options.json.write_text(json.dumps(records, indent=2) + "\n")


if __name__ == "__main__":
    main()
