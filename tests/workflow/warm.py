"""Snakemake in processes of its own that need not import it: most of what a dry run takes."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli", "snakemake.workflow", "matml.config.files"])


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
