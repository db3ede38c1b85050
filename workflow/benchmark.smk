# The properties' benchmark by itself, for `matml properties benchmark`, which writes its settings
# into the working directory and says where the crystals are.

import re
import shlex
import sys
from pathlib import Path

from matml.cli.sources import source_hash
from matml.core.files import read_json
from matml.core.settings import validate
from matml.properties.benchmark.plan import MADE_WITH, Benchmark

OUT = Path.cwd().as_posix()
POTENTIAL = f"{OUT}/potential.safetensors"
PLAN = validate(Benchmark, read_json(MADE_WITH), MADE_WITH)
RUNS = PLAN.runs("", f"{OUT}/settings", POTENTIAL)
SECTION = RUNS[next(iter(RUNS))].settings
CRYSTALS = [
    f"{config['structures']}/structures.parquet",
    f"{config['graphs']}/graphs.safetensors",
    f"{config['graphs']}/index.parquet",
]
COMMON = [
    f"--structures={config['structures']}",
    f"--graphs={config['graphs']}",
    f"--seed={PLAN.seed}",
    f"--device={config['device']}",
]
GPUS = int(config["device"].startswith("cuda"))


include: "rules/shell.smk"
include: "rules/predictors.smk"
include: "rules/benchmark.smk"
