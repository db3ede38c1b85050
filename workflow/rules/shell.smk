# What the rules of the workflow and of the benchmark share.

import math

from matml.config.files import room_or_exit
from matml.core.integrity.owner import may_live, shell_words, take_over
from matml.core.integrity.slurm import runs, wait_for_jobs

if workflow.is_main_process:
    if runs(sys.argv):
        room_or_exit(Path())
        if not may_live(Path(".snakemake")):
            wait_for_jobs(Path())
    take_over(Path(".snakemake"))

# `matml` of the Python that runs Snakemake, also where its folder is not on the PATH
shell.prefix(
    f'set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
    # a job ends with the process that started it, however that ends
    + shell_words(Path(".snakemake"))
)


def names_of(runs: dict) -> str:
    """Return the pattern of runs' names; one that nothing has where there are none."""
    return "|".join(map(re.escape, runs)) or "-"


def memory(base_mb, of_input, most_mb=math.inf):
    """What a scheduler is asked for, MB: what was measured (docs: Many labels), with room to spare."""
    return lambda wildcards, input: int(
        min(base_mb + of_input * input.size_mb, most_mb)
    )
