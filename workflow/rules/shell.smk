# What the rules of the workflow and of the benchmark share.

# `matml` of the Python that runs Snakemake, also where its folder is not on the PATH
shell.prefix(
    f'set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
)


def names_of(runs: dict) -> str:
    """Return the pattern of runs' names; one that nothing has where there are none."""
    return "|".join(map(re.escape, runs)) or "-"
