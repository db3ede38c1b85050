"""Copies of the workflow, and Snakemake in processes that need not import it, which is most of a
dry run."""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli", "snakemake.workflow", "matml.config.files"])
LOCK = Lock()
"""Processes of that module look after each other, of one thread at a time."""


def copy_workflow(folder: Path) -> Path:
    """Copy what the workflow needs, so that a run elsewhere locks nothing here; the folder."""
    for name in ("workflow", "data"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Snakemake in a folder and return its exit code and what it said."""
    with tempfile.TemporaryDirectory() as place:
        told = [Path(place) / name for name in ("stdout", "stderr")]
        process = CONTEXT.Process(target=_run, args=(folder, arguments, told))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
        said = [path.read_text(encoding="utf-8") for path in told]
    return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _run(folder: Path, arguments: tuple[str, ...], told: list[Path]) -> None:
    os.chdir(folder)
    for stream, path in enumerate(told, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.argv = ["snakemake", *arguments]
    from snakemake.cli import main

    main()


class Run:
    """A `matml run` in a session of its own; where given, no file may grow beyond so many bytes."""

    def __init__(
        self, folder: Path, arguments: list[str], told: Path, most_bytes: int | None = None
    ) -> None:
        given = (folder, arguments, told, most_bytes)
        with LOCK:
            self._process = CONTEXT.Process(target=_run_all, args=given)
            self._process.start()
        self.pid: int = self._process.pid or 0
        # a group that is not there yet cannot be killed
        with suppress(ProcessLookupError):
            while self.poll() is None and os.getpgid(self.pid) != self.pid:
                time.sleep(0.01)

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        with LOCK:
            return self._process.exitcode

    def kill(self, *, jobs: bool) -> None:
        """Kill the run, with its jobs or without, and wait for its end."""
        with suppress(ProcessLookupError):
            (os.killpg if jobs else os.kill)(self.pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.01)


def _run_all(folder: Path, arguments: list[str], told: Path, most_bytes: int | None) -> None:
    os.setsid()
    os.chdir(folder)
    stream = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(stream, number)
    if most_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    os.environ["PYTHONPATH"] = str(ROOT)

    def become(_: str, command: list[str]) -> None:
        from snakemake.cli import main

        sys.argv = command[2:]
        main()

    # which would import all anew
    os.execv = become  # type: ignore[assignment]
    sys.argv = ["matml", "run", *arguments]
    from matml.cli.main import main

    main()
