"""Speed of `matml screen` where candidates are perovskites of low symmetry.

    python tests/benchmarks/low_symmetry.py [--candidates 15000]

Candidates are the ABX3 crystals of the embedded formation energies, of many prototypes, and beyond
them synthetic ones: their elements replaced by neighbours in their groups, their cells changed. Two
properties and the energy above the hull are asked for, with ten labelled crystals. The command is
run with half of the candidates and with all; the slope is without the start of its processes.
"""

import itertools
import tempfile
from pathlib import Path

import click
import pandas as pd
from ingest import DATA, MATML, changed, measured

OBJECTIVES = (
    "bulk_modulus_GPa maximise",
    "formation_energy_eV_per_atom minimise",
    "energy_above_hull_eV_per_atom <= 0.1",
)


def is_perovskite(poscar: str) -> bool:
    """Return whether the amounts of a POSCAR are 1 : 1 : 3."""
    counts = [int(word) for word in poscar.splitlines()[6].split()]
    return sorted(count / min(counts) for count in counts) == [1, 1, 3]


def write(number: int, folder: Path) -> tuple[Path, Path]:
    """Write tables of candidates and of the support; returns their paths."""
    energies, elastic = pd.read_csv(DATA), pd.read_csv(DATA.with_name("elastic.csv.gz"))
    real = energies["poscar"][energies["poscar"].map(is_perovskite)]
    rows = (changed(text, cycle) if cycle else text for cycle in itertools.count() for text in real)
    candidates, support = folder / f"{number}.csv", folder / "support.csv"
    table = pd.DataFrame({"poscar": list(itertools.islice(rows, number))})
    table.rename_axis("id").to_csv(candidates)
    labelled = elastic[elastic["poscar"].map(is_perovskite)].head(10)
    labelled[["poscar", "bulk_modulus_GPa"]].to_csv(support, index=False)
    return candidates, support


@click.command()
@click.option("--candidates", default=15_000, show_default=True)
@click.option("--threads", default=2, show_default=True)
def main(candidates: int, threads: int) -> None:
    """Screen half of the candidates and all, and print the rate between them."""
    print("| candidates | by the clock, s | processor time, s | peak memory, GB |")
    print("|---|---|---|---|")
    found = []
    with tempfile.TemporaryDirectory() as name:
        for number in (candidates // 2, candidates):
            table, support = write(number, Path(name))
            words = [*MATML, "screen", f"--support={support}", f"--candidates={table}"]
            words += [f"--objective={objective}" for objective in OBJECTIVES]
            words += [f"--out={name}/{number}", f"--threads={threads}"]
            found.append(row := measured(words))
            print(
                f"| {number:,} | {row['clock_s']:.0f} | {row['processor_s']:.0f} "
                f"| {row['GB']:.2f} |", flush=True,
            )  # fmt: skip
        families = pd.read_parquet(f"{name}/{candidates}/scores.parquet")["family"].nunique()
    few, many = found
    rates = [
        (candidates - candidates // 2) / (many[x] - few[x]) for x in ("clock_s", "processor_s")
    ]
    print(
        f"{families} families; without the start {rates[0]:.0f} candidates/s by the clock with "
        f"{threads} processes, {rates[1]:.0f} a second of processor time"
    )


if __name__ == "__main__":
    main()
