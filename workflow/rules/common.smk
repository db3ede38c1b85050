# Names that every rule uses. What computes anything stands in the package, with tests.

import json
import re
import shlex
import sys
from pathlib import Path

from matml.cli.sources import source_hash
from matml.config.files import (
    load_or_exit,
    section_models,
    section_values,
    with_own_names,
)
from matml.core.processors import usable_threads
from matml.core.provenance import (
    started_again,
    to_make_again,
    versions,
    watched_files,
)
from matml.properties.benchmark.plan import (
    Run,
    benchmark_sections,
    default_benchmarks,
    with_potential,
)

SETTINGS = load_or_exit(
    with_own_names(
        config, workflow.overwrite_configfiles, workflow.config_settings.config
    ),
    workflow.configfiles,
)
OUT = SETTINGS.output_dir.as_posix().rstrip("/")
MEMBERS = range(SETTINGS.properties.members)
PROPERTIES = list(SETTINGS.properties.properties)
BENCHMARKS = default_benchmarks(SETTINGS.properties, SETTINGS.seed)
SECTIONS = section_values(SETTINGS) | benchmark_sections(BENCHMARKS)

# how the run is started again, the configuration named from the folder that it runs in
STARTED = started_again(workflow.overwrite_configfiles, workflow.config_settings.config)

# jobs beyond the processors that are really there would only be in each other's way
if workflow.local_exec:
    workflow.global_resources["_cores"] = usable_threads(workflow.cores)


wildcard_constraints:
    section="|".join(SECTIONS),
    shard=r"\d+",
    dataset="|".join(map(re.escape, SETTINGS.kinetics.datasets)),


def gone_results():
    """Results of the last run that are no longer there and that a rule names."""
    if not workflow.is_main_process:
        return []
    made = [file for rule in workflow.rules for file in rule.output]
    return to_make_again(Path(OUT), lambda path: any(file.match(path) for file in made))


# of a scheduler, for what trains networks
GPUS = int(SETTINGS.device.startswith("cuda"))
