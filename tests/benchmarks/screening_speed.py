"""Speed and memory of `matml screen` over the number of candidates; prints a table and records.

    python tests/benchmarks/screening_speed.py [--results results]

The model and the known crystals are those of the default run; candidates are elpasolites that
`matml candidates` makes, about 100,000, ranked by bulk modulus, formation energy and energy above
the hull. Beyond them come their rows again, each round with cells 0.1 % larger, so that none equals
another; only the chemistry repeats. Each size runs in processes of its own; memory is the peak
resident size of the main process plus that of the largest worker times their number. Memory and
time at a million are extrapolated from the slope between the smallest and the largest size.
"""

import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pandas as pd

FOLDER = click.Path(exists=True, path_type=Path)
FAMILY, SUPPORT_FAMILY = "elpasolite (cubic double perovskite)", "cubic perovskite"
OBJECTIVES = (
    "bulk_modulus_GPa >= 150",
    "formation_energy_eV_per_atom minimise",
    "energy_above_hull_eV_per_atom <= 0.1",
)


def enlarged(poscar: str, factor: float) -> str:
    """A POSCAR with its cell's edges multiplied by `factor`."""
    lines = poscar.split("\n")
    for number in (2, 3, 4):
        lines[number] = " ".join(f"{float(word) * factor:.6f}" for word in lines[number].split())
    return "\n".join(lines)


def write_candidates(source: Path, number: int, out: Path) -> None:
    """Write so many candidates, made from the rows of a table."""
    table = pd.read_parquet(source, columns=["material_id", "poscar"])
    parts, made = [], 0
    while made < number:
        cycle = len(parts)
        part = table.head(number - made)
        parts.append(
            pd.DataFrame(
                {
                    "material_id": part["material_id"] + f"-{cycle}",
                    "poscar": [enlarged(text, 1 + 0.001 * cycle) for text in part["poscar"]],
                }
            )
        )
        made += len(part)
    pd.concat(parts, ignore_index=True).to_parquet(out, index=False, row_group_size=10_000)


def run_one(options: dict) -> None:
    """Screen in this process and print what it took, as JSON."""
    from matml.screening.select.layout import STATE
    from matml.screening.select.run import screen_candidates

    logging.disable(logging.WARNING)
    start = time.perf_counter()
    paths = {n: Path(options[n]) for n in ("model", "support", "known", "known_graphs", "out")}
    screen_candidates(
        **paths,
        inputs=(Path(options["candidates"]),),
        config=None,
        seed=0,
        threads=options["threads"],
        device="cpu",
        objectives=options["objectives"],
    )
    own, workers = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    state = json.loads((paths["out"] / STATE).read_text())
    # the main process is one of them
    processes = state["workers"] - 1 if workers.ru_maxrss else 0
    found = {
        "seconds": time.perf_counter() - start,
        "scoring_seconds": state["seconds"],
        "cpu_seconds": sum(u.ru_utime + u.ru_stime for u in (own, workers)),
        "main_MB": own.ru_maxrss / 1024,
        "worker_MB": workers.ru_maxrss / 1024,
        "total_MB": (own.ru_maxrss + processes * workers.ru_maxrss) / 1024,
        "ranked": state["counts"]["ranked"],
    }
    click.echo(json.dumps(found))


def prepare(results: Path, folder: Path) -> tuple[Path, Path]:
    """Make candidates and a support with the commands that a user has."""
    settings, candidates, support = folder / "s.yaml", folder / "candidates", folder / "support.csv"
    settings.write_text(
        "anions: [O, F, Cl, Br, I, S]\noxidation_states: icsd\nradius_margin: 0.25\n"
        "max_candidates: 1000000\n"
    )
    structures = ["--structures", results / "structures"]
    make = ["--family", FAMILY, *structures, "--config", settings, "--out", candidates]
    draw = ["support", *structures, "--family", SUPPORT_FAMILY, "--out", support]
    for name in ("bulk_modulus_GPa", "formation_energy_eV_per_atom"):
        draw += ["--property", name]
    for command in (make, draw):
        words = [Path(sys.executable).with_name("matml"), "candidates", *map(str, command)]
        subprocess.run(words, check=True, capture_output=True)
    return candidates / "candidates.parquet", support


@click.command()
@click.option(
    "--results", type=click.Path(path_type=Path), default="results", help="Of the default run."
)
@click.option("--candidates", type=FOLDER, help="Parquet table with `poscar` in place of its own.")
@click.option("--support", type=FOLDER, help="CSV in place of the one drawn.")
@click.option(
    "--objective", "objectives", multiple=True, default=OBJECTIVES, help="As of `matml screen`."
)
@click.option("--size", "sizes", multiple=True, type=int, default=(10_000, 200_000))
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write tidy records.")
@click.option("--one", hidden=True)
def main(results, candidates, support, objectives, sizes, threads, json_file, one) -> None:
    """Measure `matml screen` at several numbers of candidates."""
    if one:
        run_one(json.loads(one))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        if candidates is None or support is None:
            made = prepare(results, Path(folder))
            candidates, support = candidates or made[0], support or made[1]
        for size in sorted(sizes):
            table = Path(folder) / f"{size}.parquet"
            write_candidates(candidates, size, table)
            given = {
                "model": results / "model",
                "known": results / "structures",
                "known_graphs": results / "graphs",
                "support": support,
                "candidates": table,
                "out": Path(folder) / f"out-{size}",
                "threads": threads,
                "objectives": objectives,
            }
            command = [sys.executable, __file__, "--one", json.dumps(given, default=str)]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append({"size": size, **json.loads(result.stdout.splitlines()[-1])})
            row = rows[-1]
            click.echo(
                f"{size:>9} candidates: {size / row['scoring_seconds']:.0f}/s in all, "
                f"{size / row['cpu_seconds']:.0f} per second of processor time (start included), "
                f"{row['total_MB']:.0f} MB ({row['main_MB']:.0f} main, "
                f"{row['worker_MB']:.0f} largest worker), {row['seconds']:.0f} s"
            )
            table.unlink()
    first, last = rows[0], rows[-1]
    span = last["size"] - first["size"]
    if span:
        memory = (last["total_MB"] - first["total_MB"]) / span
        pace = (last["seconds"] - first["seconds"]) / span
        rest = 1_000_000 - last["size"]
        click.echo(
            f"extrapolated to 1,000,000 from the slope: {last['total_MB'] + memory * rest:.0f} MB "
            f"({1e6 * memory:+.0f} MB per million), {(last['seconds'] + pace * rest) / 60:.0f} min"
        )
    if json_file:
        records = [
            {
                "benchmark": "screening_speed",
                "setting": ", ".join(objectives),
                "method": f"{threads} processes",
                "is_default": True,
                "shots": None,
                "metric": metric,
                "value": value,
                "low": None,
                "high": None,
                "n_tasks": row["size"],
                "seed": 0,
            }
            for row in rows
            for metric, value in {
                "candidates_per_second": row["size"] / row["scoring_seconds"],
                "candidates_per_processor_second": row["size"] / row["cpu_seconds"],
                "peak_memory_MB": row["total_MB"],
            }.items()
        ]
        json_file.write_text(json.dumps(records, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
