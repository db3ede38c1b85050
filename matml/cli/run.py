"""`matml run`: the whole workflow, from any folder."""

import os
import sys
from pathlib import Path

import click


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "ignore_unknown_options": True}
)
@click.option("--cores", help="Processors to use at most; all, where the profile says no number.")
@click.option(
    "--configfile",
    "configfiles",
    multiple=True,
    type=click.Path(path_type=Path),
    help="YAML with the keys that differ from the defaults; may be given several times.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[SNAKEMAKE ARGUMENT…]")
def run(cores: str | None, configfiles: tuple[Path, ...], arguments: tuple[str, ...]) -> None:
    """Run the workflow that comes with matml; results go below the current folder.

    Everything else that is given goes to Snakemake: `matml run -n` shows what would run, and
    `matml run --cores 2 results/report.html` makes one file. A configuration file that is not
    here is looked for in the project, such as `workflow/config-long.yaml`.
    """
    from matml.core.errors import MatmlError
    from matml.core.project import input_path, project_root
    from matml.core.settings import read_yaml
    from matml.core.text.encoding import encoding_of

    command = [sys.executable, "-m", "snakemake", "--snakefile", str(project_root() / "Snakefile")]
    # Snakemake takes all words that follow for further files: the user's arguments come first
    files = [str(input_path(path)) for path in configfiles]
    for file in files:
        # which Snakemake would do with a traceback
        read_yaml(file)
        if encoding_of(Path(file).read_bytes()) not in ("utf-8", "utf-8-sig"):
            raise MatmlError(f"{file}: is not UTF-8, which Snakemake reads only; save it as UTF-8")
    command += [*arguments, *(["--cores", cores] if cores else [])]
    command += ["--configfile", *files] if files else []
    # in place of this process: signals and the exit code are Snakemake's own
    os.execv(sys.executable, command)
