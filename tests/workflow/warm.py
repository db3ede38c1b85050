"""Copies of the workflow, and Snakemake in processes that need not import it, which is most of a
dry run."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["snakemake.cli", "snakemake.workflow", "matml.config.files"])


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
