"""Jobs of a killed run that Slurm still works on: they are waited for, not done a second time."""

import logging
import re
import shutil
import subprocess
import time
from pathlib import Path

log = logging.getLogger(__name__)
# what Snakemake's plugin names its jobs: the run's UUID, after a prefix where one is set
NAME = re.compile(r"\S*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# with one of these Snakemake only looks; which executor is meant is not known at this point
ONLY_LOOKS = re.compile(
    r"-[fkpqF]*[nltDSv][fkpqF]*|--(dry-?run|unlock|lint|list.*|summary|detailed-summary|dag|.*graph|d3dag"
    r"|report|touch|cleanup-.*|archive|delete-.*|help|version|gui|print-compilation)"
)
SECONDS_BETWEEN = 10.0
SECONDS_TO_ANSWER = 60


def runs(arguments: list[str]) -> bool:
    """Return whether a command line of Snakemake runs jobs, rather than only looking."""
    return not any(ONLY_LOOKS.fullmatch(argument) for argument in arguments)


def jobs_left(folder: Path) -> list[str]:
    """Return the ids of this user's jobs that a run of the workflow in a folder has submitted."""
    # where the plugin has submitted anything, it has made a folder of logs
    if not (folder / ".snakemake/slurm_logs").exists() or shutil.which("squeue") is None:
        return []
    try:
        told = subprocess.run(
            ["squeue", "--me", "--noheader", "--format=%i %j %Z"],
            capture_output=True, text=True, check=True, timeout=SECONDS_TO_ANSWER,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("Slurm was asked for jobs of an earlier run and did not answer: %s", error)
        return []
    rows = [line.split(" ", 2) for line in told.stdout.splitlines()]
    here = folder.resolve()
    return [
        row[0]
        for row in rows
        if len(row) == 3 and NAME.fullmatch(row[1]) and Path(row[2]).resolve() == here
    ]


def wait_for_jobs(folder: Path, seconds: float = SECONDS_BETWEEN) -> None:
    """Wait until Slurm has no job of an earlier run in a folder, and say so meanwhile.

    What such jobs finish counts: nothing that was computed is computed again.
    """
    while left := jobs_left(folder):
        jobs = "1 job" if len(left) == 1 else f"{len(left)} jobs"
        log.warning(
            "Slurm still works on %s of an earlier run, which is waited for; "
            "to go on without: `scancel %s`", jobs, " ".join(left),
        )  # fmt: skip
        time.sleep(seconds)
