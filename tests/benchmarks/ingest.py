"""Time and memory of reading many crystals, and of their graphs.

    python tests/benchmarks/ingest.py --rows 6000 --rows 24000 --rows 150000 [--form json]

With `--form json` the crystals stand in one packed JSON file, a table by pandas as matbench has it.

Rows beyond the 3,938 real ones are synthetic: the same crystals again, every element replaced by a
neighbour in its group and the cell's size changed. They tell time and memory, nothing else.
Memory is the peak of the resident memory of the command and its processes together, sampled.
"""

import gzip
import itertools
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
import psutil
from pymatgen.core import Element, Structure

MATML = [sys.executable, "-c", "from matml.cli.main import main; main()"]
DATA = Path(__file__).parents[2] / "data/crystals/formation_energy.csv.gz"


def neighbour(symbol: str, steps: int) -> str:
    """Return the element so many places further in its group; lanthanoids among themselves."""
    own = Element(symbol)
    alike = [
        e for e in Element
        if e.Z <= 83 and e.is_lanthanoid == own.is_lanthanoid
        and (own.is_lanthanoid or e.group == own.group)
    ]  # fmt: skip
    alike.sort(key=lambda e: e.Z)
    return alike[(alike.index(own) + steps) % len(alike)].symbol if own in alike else symbol


def changed(poscar: str, cycle: int) -> str:
    """Return a POSCAR with other elements and a slightly different scale factor."""
    lines = poscar.splitlines()
    lines[1] = repr(float(lines[1]) * (1 + 0.002 * (cycle % 25)))
    symbols = lines[5].split()
    if len({neighbour(x, cycle) for x in symbols}) == len(set(symbols)):
        lines[5] = " ".join(neighbour(x, cycle) for x in symbols)
    # what names each site's element is left out: the line of symbols has it
    return "\n".join([*lines[:8], *(" ".join(line.split()[:3]) for line in lines[8:])])


def write(rows: int, path: Path) -> None:
    """Write a table of so many crystals, as CSV or JSON."""
    real = pd.read_csv(DATA)
    texts = (
        changed(text, cycle) if cycle else text
        for cycle in itertools.count()
        for text in real["poscar"]
    )
    labels = itertools.cycle(real["formation_energy_eV_per_atom"])
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        if path.suffixes[-2] == ".json":
            columns = ["structure", "formation_energy_eV_per_atom"]
            file.write(json.dumps({"index": list(range(rows)), "columns": columns})[:-1])
            file.write(', "data": [')
            for number, pair in enumerate(itertools.islice(zip(texts, labels, strict=False), rows)):
                crystal = Structure.from_str(pair[0], fmt="poscar").as_dict()
                file.write((", " if number else "") + json.dumps([crystal, pair[1]]))
            file.write("]}")
            return
        table = {"poscar": list(itertools.islice(texts, rows))}
        table["formation_energy_eV_per_atom"] = list(itertools.islice(labels, rows))
        pd.DataFrame(table).rename_axis("id").to_csv(file)


def measured(words: list[str]) -> dict[str, float]:
    """Return seconds by the clock and of processors, and the peak memory in GB, of a command."""
    begin = time.perf_counter()
    started = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, spent = 0.0, {}
    while started.poll() is None:
        resident = 0
        for process in (started, *_children(started)):
            try:
                resident += process.memory_info().rss
                times = process.cpu_times()
                spent[process.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, resident / 2**30)
        time.sleep(0.2)
    if started.returncode:
        raise SystemExit(started.stderr.read())
    return {"clock_s": time.perf_counter() - begin, "processor_s": sum(spent.values()), "GB": peak}


def _children(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


@click.command()
@click.option("--rows", multiple=True, type=int, default=[6_000, 24_000])
@click.option("--form", type=click.Choice(["csv", "json"]), default="csv", show_default=True)
@click.option("--threads", default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(rows: tuple[int, ...], form: str, threads: int, json_file: Path | None) -> None:
    """Ingest tables of several sizes, and print what each took."""
    found = []
    print("| crystals | kept | stage | by the clock, s | processor time, s | peak memory, GB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        for number in rows:
            table, out = place / f"{number}.{form}.gz", place / str(number)
            write(number, table)
            stages = {
                "ingest": [*MATML, "structures", "ingest", str(table), "--out", f"{out}/s"],
                "graph": [*MATML, "structures", "graph", f"{out}/s", "--out", f"{out}/g"],
            }
            for stage, words in stages.items():
                row = measured([*words, "--threads", str(threads)])
                kept = len(pd.read_parquet(out / "s/structures.parquet", columns=["id"]))
                found.append({"rows": number, "kept": kept, "stage": stage} | row)
                print(
                    f"| {number:,} | {kept:,} | {stage} | {row['clock_s']:.0f} | "
                    f"{row['processor_s']:.0f} | {row['GB']:.2f} |", flush=True,
                )  # fmt: skip
    for stage in ("ingest", "graph"):
        first, *_, last = [x for x in found if x["stage"] == stage]
        if first is not last:
            ratio = math.log(last["rows"] / first["rows"])
            power = {x: math.log(last[x] / first[x]) / ratio for x in ("processor_s", "GB")}
            print(
                f"{stage}: processor time grows as the crystals to the power of "
                f"{power['processor_s']:.2f}, memory of {power['GB']:.2f}"
            )
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
