"""Time of reading crystals, dialect by dialect, beside that of another commit.

    python tests/benchmarks/reading_speed.py --against 8c55f52 [--crystals 800] [--rounds 2]

Embedded crystals are written as files, one each, and taken in by `matml structures ingest` in one
process; both commits in turn, in one environment. Milliseconds of processor time a crystal are
those beyond the ingest of a single file, which says what starting takes.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import pandas as pd
from pymatgen.core import Structure
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

ROOT = Path(__file__).parents[2]
START = (
    "import importlib\n"
    "module = importlib.import_module('matml.cli')\n"
    "entry = getattr(module, 'main', None)\n"
    "if not callable(entry):\n"
    "    entry = importlib.import_module('matml.cli.main').main\n"
    "entry()"
)
INGEST = [sys.executable, "-W", "ignore", "-c", START, "structures", "ingest"]
DIALECTS: dict[str, tuple[str, Callable[[Structure], str]]] = {
    "POSCAR, direct": ("vasp", lambda s: Poscar(s).get_str()),
    "POSCAR, Cartesian": ("vasp", lambda s: Poscar(s).get_str(direct=False, significant_figures=9)),
    "CIF, symmetric": ("cif", lambda s: str(CifWriter(s, symprec=0.01, angle_tolerance=-1.0))),
    "CIF, P1": ("cif", lambda s: str(CifWriter(s))),
    "JSON of pymatgen": ("json", lambda s: json.dumps(s.as_dict())),
}


def embedded(count: int) -> list[Structure]:
    """So many of the embedded crystals, well mixed."""
    tables = sorted((ROOT / "data/crystals").glob("*.csv.gz"))
    texts = pd.concat([pd.read_csv(path)["poscar"] for path in tables])
    return [Structure.from_str(text, fmt="poscar") for text in texts.sample(count, random_state=0)]


def used(code: Path, folder: Path) -> float:
    """Seconds of processor time of taking in a folder by the code of a checkout."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [*INGEST, str(folder), "--out", f"{out}/x", "--threads", "1"],
            cwd=code,
            env=os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@click.command(help=__doc__)
@click.option("--against", default="8c55f52", show_default=True, help="Commit to compare with.")
@click.option("--crystals", type=click.IntRange(min=2), default=800, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=2, show_default=True)
def main(against: str, crystals: int, rounds: int) -> None:
    """Print milliseconds a crystal by dialect, of both commits and round by round."""
    structures = embedded(crystals)
    with tempfile.TemporaryDirectory() as place:
        former = Path(place) / "former"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "-q", "--detach", str(former), against], check=True)
        try:
            for name, (suffix, write) in DIALECTS.items():
                many, one = Path(place) / name / "many", Path(place) / name / "one"
                for folder, some in ((many, structures), (one, structures[:1])):
                    folder.mkdir(parents=True)
                    for i, structure in enumerate(some):
                        (folder / f"{i}.{suffix}").write_text(write(structure))
                found: dict[Path, list[float]] = {former: [], ROOT: []}
                for _ in range(rounds):
                    for code, times in found.items():
                        extra = used(code, many) - used(code, one)
                        times.append(1000 * extra / (crystals - 1))
                then, now = (", ".join(f"{t:.2f}" for t in found[c]) for c in (former, ROOT))
                ratio = min(found[former]) / min(found[ROOT])
                click.echo(f"{name}: {then} ms at {against}, {now} ms now: {ratio:.1f}x as fast")
        finally:
            subprocess.run([*git, "remove", "--force", str(former)], check=True)


if __name__ == "__main__":
    main()
