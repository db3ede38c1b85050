"""The benchmark's jobs in this process: what Snakemake would run, without its start-ups."""

import contextlib
import shlex
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))
from warm import snakemake

ORDER = (
    "split",
    "member",
    "new-property-member",
    "property",
    "features",
    "score-run",
    "score-new-property",
)


def jobs_of(command: list[str]) -> list[list[str]]:
    """Return the arguments of the commands that a call of Snakemake would run, in order."""
    arguments = command[command.index("snakemake") + 1 :]
    planned = snakemake(Path.cwd(), *arguments, "--dry-run", "--printshellcmds")
    told = planned.stdout + planned.stderr
    assert planned.returncode == 0, told
    lines = [line.partition("matml properties ")[2] for line in told.splitlines()]
    jobs = [shlex.split(line.partition(" 2>&1")[0]) for line in lines if line]
    return sorted(jobs, key=lambda job: ORDER.index(job[0]))


class InProcess:
    """Stands in for the module `subprocess` of the command `matml properties benchmark`."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess:
        """Run the jobs that are to do, in the folder that Snakemake would run in."""
        from matml.cli.properties.commands import properties

        place = Path(command[command.index("--directory") + 1])
        with contextlib.chdir(place):
            for job in jobs_of(command):
                self.done.append(job[0])
                result = CliRunner().invoke(properties, job, catch_exceptions=False)
                assert result.exit_code == 0, result.output
        return subprocess.CompletedProcess(command, 0)
