"""Memory and time of pre-training against the number of crystals.

    python tests/benchmarks/pretraining.py --rows 3000 --rows 12000 --rows 48000

Graphs are streamed from disk. Rows beyond the 3,938 real ones are synthetic, as those of ingest.py:
they tell time and memory, nothing else. Memory is the peak of what is sampled, of one process: all
that is resident, and of it what is the process's own, that is without mapped files (libraries, and
graphs as far as the system keeps them).
"""

import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import click
import pandas as pd
import psutil
from ingest import MATML, write

SETTINGS = """
properties: {formation_energy_eV_per_atom: 1.0}
epochs: {epochs}
"""


def measured(words: list[str]) -> dict[str, float]:
    """Return processor seconds and peaks of memory in MB of a command of one process."""
    started = psutil.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    resident, own, spent = 0, 0, 0.0
    while started.poll() is None:
        try:
            memory, times = started.memory_info(), started.cpu_times()
        except psutil.Error:
            continue
        resident = max(resident, memory.rss)
        own = max(own, memory.rss - memory.shared)
        spent = times.user + times.system
        time.sleep(0.05)
    if started.returncode:
        raise SystemExit(started.stderr.read())
    return {"processor_s": spent, "resident_MB": resident / 2**20, "own_MB": own / 2**20}


@click.command()
@click.option("--rows", multiple=True, type=int, default=[3_000, 12_000, 48_000])
@click.option("--epochs", default=1, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep crystals and graphs here.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(rows: tuple[int, ...], epochs: int, keep: Path | None, json_file: Path | None) -> None:
    """Pre-train one network on several numbers of crystals, and print what it took."""
    found = []
    print("| crystals | kept | graphs, MB | processor time, s | resident, MB | its own, MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        place = keep or Path(name)
        settings = place / "settings.yaml"
        settings.write_text(SETTINGS.replace("{epochs}", str(epochs)), encoding="utf-8")
        for number in rows:
            table, out = place / f"{number}.csv.gz", place / str(number)
            given = ["--structures", f"{out}/s", "--graphs", f"{out}/g", "--config", str(settings)]
            if not out.exists():
                write(number, table)
                for words in (
                    ["structures", "ingest", str(table), "--out", f"{out}/s"],
                    ["structures", "graph", f"{out}/s", "--out", f"{out}/g"],
                    ["properties", "split", "--out", f"{out}/run", *given],
                ):
                    subprocess.run([*MATML, *words], check=True, capture_output=True)
            run = ["--run", f"{out}/run", "--member", "0", "--out", f"{out}/member"]
            row = measured([*MATML, "properties", "pretrain", *run, *given])
            kept = len(pd.read_parquet(out / "s/structures.parquet", columns=["id"]))
            size = (out / "g/graphs.safetensors").stat().st_size / 2**20
            found.append({"rows": number, "kept": kept, "graphs_MB": size} | row)
            print(
                f"| {number:,} | {kept:,} | {size:.1f} | {row['processor_s']:.0f} | "
                f"{row['resident_MB']:.0f} | {row['own_MB']:.0f} |", flush=True,
            )  # fmt: skip
    first, *_, last = found
    if first is not last:
        ratio = math.log(last["kept"] / first["kept"])
        power = {x: math.log(last[x] / first[x]) / ratio for x in ("processor_s", "own_MB")}
        print(
            f"processor time grows as the crystals to the power of {power['processor_s']:.2f}, "
            f"memory of its own of {power['own_MB']:.2f}: "
            f"{1e3 * (last['own_MB'] - first['own_MB']) / (last['kept'] - first['kept']):.2f} "
            "kB a crystal"
        )
    if json_file:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
