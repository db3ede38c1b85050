"""Runs of the workflow are killed and starved at random, and their files spoilt at the end.

`python tests/faults/chaos.py --faults 100` works on crystals and their graphs, and takes some five
seconds a fault; with `--whole` on the whole small run of `workflow/config-small.yaml`, and takes an
hour. There one bit of what a killed job left to go on from is spoilt, too, and at the end one of
each kind of result file, whose readers run again (`--faults 0 --only '^model/'`: of these kinds
alone, in a copy of an undisturbed run). Ends with 1 where anything was lost, has other numbers,
hangs or shows a traceback; what it found is printed also where it is ended early (Ctrl-C, SIGTERM).
"""

import argparse
import contextlib
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matml.core.errors import MatmlError
from matml.core.provenance import result_files, verify_checksums, write_checksums

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))
from small_tables import cut, make, packed
from warm import ROOT, Run

FAULTS = ("group", "parent", "parent", "disk")
"""SIGKILL to the run and its jobs, to the run alone, and a limit that a file outgrows."""
STATE = "state"
"""SIGKILL to the run and its jobs, and one bit of what they had not finished is other."""
DISTURBED = ("one", "other")
FEW = "structures: {inputs: [few.csv.gz]}\n"
SLOWEST_S = 400.0
HANG, GOOD = "no end after", "nothing lost, nothing other, no traceback"
ENDING = threading.Event()
"""Set by a signal: runs are killed, and what was found is printed."""


class Ended(Exception):
    """Raised in place of going on, once `ENDING` is set."""


@dataclass
class Chaos:
    """A folder in which runs are spoilt, and what has come of it.

    Attributes
    ----------
    arguments
        Of `matml run`.
    results
        Folder of the results, below `folder`.
    latest
        Of an undisturbed run's time, after which a run is killed.
    problems
        What was lost, is other than in an undisturbed run, hangs, or shows a traceback.
    spent_s
        How long runs took that were waited for.
    """

    folder: Path
    arguments: list[str]
    results: str
    chance: random.Random
    slowest_s: float = SLOWEST_S
    faults: tuple[str, ...] = FAULTS
    latest: float = 0.7
    problems: list[str] = field(default_factory=list)
    done: Counter = field(default_factory=Counter)
    spent_s: list[float] = field(default_factory=list)
    orphans: set[int] = field(default_factory=set)
    kinds: dict[str, str] = field(default_factory=dict)

    def start(self, folder: Path, most_bytes: int | None = None) -> Run:
        """Start a run in a session of its own, where no file may grow beyond so many bytes."""
        self.told = folder / "told.txt"
        return Run(folder, self.arguments, self.told, most_bytes)

    def wait(self, run: Run, seconds: float, title: str) -> int | None:
        """Return the exit code; None where the run has not ended by then."""
        begun = time.monotonic()
        while (code := run.poll()) is None and time.monotonic() < begun + seconds:
            if ENDING.is_set():
                run.kill(jobs=True)
                raise Ended
            self.orphans = {orphan for orphan in self.orphans if lives(orphan)}
            if self.orphans and any(map(is_job, processes_of(run.pid))):
                self.problems.append(f"{title}: a job runs beside orphans {sorted(self.orphans)}")
                self.orphans = set()
            time.sleep(0.05)
        self.spent_s.append(time.monotonic() - begun)
        return code

    def end_of(self, run: Run, title: str) -> int | None:
        """Return the exit code of a run; one that does not end is killed and told, with None."""
        code = self.wait(run, self.slowest_s, title)
        if code is None:
            run.kill(jobs=True)
            self.problems.append(f"{title}: {HANG} {self.slowest_s:.0f} s")
        return code

    def finish(self, folder: Path, title: str) -> None:
        """Run to the end, which must come and be a good one."""
        run = self.start(folder)
        if code := self.end_of(run, title):
            tail = " / ".join(self.told.read_text(errors="replace").splitlines()[-5:])
            self.problems.append(f"{title}: ended with {code}: {tail}")
        self.look_for_tracebacks(folder, title)

    def look_for_tracebacks(self, folder: Path, title: str) -> None:
        """Note a traceback in what was printed and in the logs of the jobs."""
        for log in [self.told, *(folder / self.results / "logs").rglob("*.log")]:
            if "Traceback (most recent call last)" in log.read_text(errors="replace"):
                self.problems.append(f"{title}: a traceback in {log.relative_to(folder)}")
                log.rename(log.with_suffix(".seen"))

    def disturb(self, folder: Path, whole_s: float, sizes: list[int]) -> bool:
        """Start or go on with a run, and let one fault happen to it; returns whether it is done."""
        kind = self.chance.choice(self.faults)
        most = int(self.chance.choice(sizes) * self.chance.uniform(0.3, 0.95))
        run = self.start(folder, most if kind == "disk" else None)
        seconds = self.chance.uniform(0.1, 1) * self.latest * whole_s
        if kind == "disk":  # fails by itself
            seconds = self.slowest_s
        title = f"{folder.name}, fault {self.done.total() + 1} ({kind})"
        code = self.wait(run, seconds, title)
        if code is None:
            if kind == "disk":
                self.problems.append(f"{title}: {HANG} {seconds:.0f} s")
            self.orphans = processes_of(run.pid) if kind == "parent" else set()
            run.kill(jobs=kind != "parent")
        self.done[kind if code is None or code else "ended before"] += 1
        print(title, "ended by itself" if code == 0 else f"after {seconds:.0f} s", file=sys.stderr)
        self.look_for_tracebacks(folder, title)
        if kind == STATE and code is None:
            self.spoil_state(folder, seconds, title)
        return code == 0

    def spoil_state(self, folder: Path, seconds: float, title: str) -> None:
        """Spoil what a killed job would go on from: it is named, or the results are the same."""
        left = [
            path
            for place in (folder / self.results).rglob(".unfinished")
            for path in place.rglob("*")
            if path.is_file() and path.stat().st_size
        ]
        if not left:
            self.done["no state left"] += 1
            return
        path = self.chance.choice(sorted(left))
        whole = path.read_bytes()
        spoilt = self.flipped(whole)
        path.write_bytes(spoilt)
        run = self.start(folder)
        code = self.wait(run, seconds, title)
        if code is None:
            run.kill(jobs=True)
        self.look_for_tracebacks(folder, title)
        told = code is not None and path.name in self.told.read_text(errors="replace")
        if code and not told:
            self.problems.append(f"{title}: ended with {code} and does not name {path}")
        self.done["state refused" if code else "state gone on from, or begun anew"] += 1
        if path.exists() and path.read_bytes() == spoilt:
            path.write_bytes(whole)

    def flipped(self, whole: bytes) -> bytes:
        """Return bytes with one bit of them other."""
        place = self.chance.randrange(len(whole))
        return (
            whole[:place]
            + bytes([whole[place] ^ 1 << self.chance.randrange(8)])
            + whole[place + 1 :]
        )

    def differ(self, reference: Path, folder: Path, title: str) -> None:
        """Note what differs from an undisturbed run but for its times."""
        expected, found = (contents(place / self.results) for place in (reference, folder))
        for name in sorted(expected.keys() | found.keys()):
            if name not in found:
                self.problems.append(f"{title}: {name} is lost")
            elif name not in expected:
                self.problems.append(f"{title}: {name} is left over")
            elif expected[name] != found[name]:
                self.problems.append(f"{title}: {name} has another content")

    def spoil(self, results: Path) -> int:
        """Spoil each result file in turn; returns how many, all of which must be noticed."""
        files = result_files(results)
        write_checksums(results, results / "checksums.json")
        for path in files:
            whole = path.read_bytes()
            if not whole:
                continue
            path.write_bytes(self.flipped(whole))
            try:
                verify_checksums(results)
                self.problems.append(f"{path.relative_to(results)}: one bit is other, unnoticed")
            except MatmlError as error:
                if str(path.relative_to(results)) not in str(error):
                    self.problems.append(f"{path.relative_to(results)}: is not named: {error}")
            path.write_bytes(whole)
        (results / "checksums.json").unlink()
        return len(files)

    def spoil_and_read(self, source: Path, kinds: dict[str, list[str]], place: Path) -> None:
        """Spoil one file of each kind in a copy of a finished run, which then goes on.

        Whoever reads the file must refuse it by its name; where nobody does, all else stays as it
        is.
        """
        for kind, names in kinds.items():
            name = self.chance.choice(names)
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(source, place, symlinks=True)
            path = place / self.results / name
            whole = path.read_bytes()
            spoilt = self.flipped(whole)
            path.write_bytes(spoilt)
            run = self.start(place)
            code = self.end_of(run, kind)
            self.look_for_tracebacks(place, kind)
            told = self.told.read_text(errors="replace")
            if code:
                said = [line for line in told.splitlines() if "matml: error:" in line]
                self.kinds[kind] = "refused by the stage that reads it"
                if not any(path.name in line for line in said):
                    self.problems.append(f"{kind}: ended with {code}, and {name} is not named")
            elif path.exists() and path.read_bytes() == spoilt:
                self.kinds[kind] = "read by no stage, `config verify` tells"
                path.write_bytes(whole)
                self.differ(source, place, kind)
            else:
                self.kinds[kind] = "made again"
                self.differ(source, place, kind)

    def run(self, faults: int, only: str = "") -> None:
        """Make a reference, disturb so many runs, and compare the last one and each that ended.

        Two folders are worked in at once, half of the faults in each. At the end files are spoilt,
        of the kinds that hold the pattern `only`.
        """
        reference, begun = self.folder / "reference", time.monotonic()
        self.finish(reference, "undisturbed")
        whole_s = time.monotonic() - begun
        self.slowest_s = max(self.slowest_s, 20 * whole_s)
        own = {n: getattr(self, n) for n in ("problems", "done", "kinds", "spent_s")}
        chances = [random.Random(self.chance.random()) for _ in DISTURBED]
        parts = [replace(self, chance=chance, orphans=set(), **own) for chance in chances]
        finished = reference
        if faults:
            shares = (faults // 2, faults - faults // 2)
            with ThreadPoolExecutor() as threads:
                list(threads.map(Chaos.run_one, parts, DISTURBED, shares, [whole_s] * 2))
            finished = self.folder / DISTURBED[0]
        if STATE in self.faults:
            kinds = {
                kind: names
                for kind, names in kinds_of(finished / self.results).items()
                if re.search(only, kind)
            }
            shares = [dict(list(kinds.items())[place::2]) for place in range(2)]
            with ThreadPoolExecutor() as threads:
                places = [self.folder / f"read-{number}" for number in range(2)]
                list(threads.map(Chaos.spoil_and_read, parts, [finished] * 2, shares, places))
        self.done["files spoilt"] = self.spoil(finished / self.results)

    def run_one(self, name: str, faults: int, whole_s: float) -> None:
        """Disturb so many runs in one folder."""
        reference, folder = self.folder / "reference", self.folder / name
        sizes = [path.stat().st_size for path in result_files(reference / self.results)]
        for number in range(faults):
            title = f"{name}, after {number + 1} faults"
            if self.disturb(folder, whole_s, sorted(size for size in sizes if size > 8192)):
                self.differ(reference, folder, title)
                shutil.rmtree(folder / self.results)
        self.finish(folder, f"{name}, at the end")
        self.differ(reference, folder, f"{name}, at the end")


def kinds_of(results: Path) -> dict[str, list[str]]:
    """Return the names of result files by their kind, whatever alloy or property they are of."""
    found: dict[str, list[str]] = {}
    for path in result_files(results):
        name = path.relative_to(results).as_posix()
        kind = re.sub(r"(figures|baselines|stacks|candidates(?=/.*cif))/.*(?=\.)", r"\1/*", name)
        kind = re.sub(r"[a-z]+(?:_[a-zA-Z]+)*_(?:eV|GPa|atom|index)(?=[-.])", "*", kind)
        kind = re.sub(r"(kinetics|calibration)/[^/]+(?=/)", r"\1/*", kind)
        kind = re.sub(r"(?<=[/-])\d+(?=[/.])", "*", kind)
        if path.stat().st_size:
            found.setdefault(kind, []).append(name)
    return found


def processes_of(session: int) -> set[int]:
    """Return the living processes of a session."""
    found = set()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            state = (place / "stat").read_text().rpartition(")")[2].split()
            if int(state[3]) == session and state[0] != "Z":
                found.add(int(place.name))
    return found


def lives(process: int) -> bool:
    """Whether a process is there and no zombie."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def is_job(process: int) -> bool:
    """Whether a process is one of the workflow's jobs."""
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{process}/cmdline").read_bytes()
        return b"set -euo pipefail" in line
    return False


def contents(results: Path) -> dict[str, Any]:
    """Return what result files hold by their names, without how long anything took."""
    return {
        path.relative_to(results).as_posix(): _content(path)
        for path in (result_files(results) if results.exists() else [])
        # the page and its figures show times, too
        if path.suffix not in (".html", ".svg", ".png") and path.parts[-2] != "figures"
    }


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    return path.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if "second" not in k and k != "checksum"}
    return [_timeless(item) for item in value] if isinstance(value, list) else value


def prepared(folder: Path, seed: int, *, whole: bool = False) -> Chaos:
    """Write the inputs of two runs, one of which is to be disturbed."""
    for name in ("reference", *DISTURBED):
        place = folder / name
        if whole:
            make(place / "build/small")
        else:
            place.mkdir(parents=True)
            (place / "few.yaml").write_text(FEW)
            packed(place / "few.csv.gz", cut("elastic", 8, 12))
    chance = random.Random(seed)
    if whole:
        arguments = ["--cores", "2", "--configfile", str(ROOT / "workflow/config-small.yaml")]
        faults = (*FAULTS, STATE)
        return Chaos(folder, arguments, "build/small/results", chance, 1800.0, faults, 0.12)
    arguments = ["--cores", "1", "--configfile", "few.yaml", "results/graphs/summary.json"]
    return Chaos(folder, arguments, "results", chance)


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--only", default="", help="pattern of the kinds of files to spoil")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ENDING.set())
    with tempfile.TemporaryDirectory() as folder:
        chaos = prepared(Path(folder), given.seed, whole=given.whole)
        with contextlib.suppress(Ended):
            chaos.run(given.faults, given.only)
    print(", ".join(f"{count} {kind}" for kind, count in chaos.done.items()))
    for kind, what in sorted(chaos.kinds.items()):
        print(f"one bit of {kind}: {what}")
    hangs = sum(HANG in problem for problem in chaos.problems)
    longest = max(chaos.spent_s, default=0.0)
    print(
        f"{hangs} hangs: {len(chaos.spent_s)} runs were waited for, the longest {longest:.0f} s of "
        f"{chaos.slowest_s:.0f}"
    )
    print("ended early: " * ENDING.is_set() + "; ".join(chaos.problems or [GOOD]))
    sys.exit(bool(chaos.problems) or ENDING.is_set())


if __name__ == "__main__":
    main()
