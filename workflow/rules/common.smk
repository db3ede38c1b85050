# Names that every rule uses. What computes anything stands in the package, with tests.

import re
import shlex
import sys
from pathlib import Path

from matml.config.files import load_or_exit, section_models, section_values
from matml.core.processors import usable_threads
from matml.core.provenance import versions, watched_files
from matml.core.sources import source_hash

SETTINGS = load_or_exit(config, ", ".join(map(str, workflow.configfiles)))
SECTION_VALUES = section_values(SETTINGS)
OUT = SETTINGS.output_dir.as_posix().rstrip("/")
MEMBERS = range(SETTINGS.properties.members)
PROPERTIES = list(SETTINGS.properties.properties)

# jobs beyond the processors that are really there would only be in each other's way
if workflow.local_exec:
    workflow.global_resources["_cores"] = usable_threads(workflow.cores)

# `matml` of the Python that runs Snakemake, also where its folder is not on the PATH
shell.prefix(
    f'set -euo pipefail; export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"; '
)


wildcard_constraints:
    section="|".join(section_models()),
    member=r"\d+",
    shard=r"\d+",
    property="|".join(PROPERTIES),
    dataset="|".join(map(re.escape, SETTINGS.kinetics.datasets)),
