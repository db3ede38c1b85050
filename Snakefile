# matml's workflow, a table of contents: settings, then one file of rules per stage.
# Snakemake takes its defaults from profiles/default beside this file, a link into workflow/.

import logging
import os

from snakemake.utils import min_version

min_version("9.0")
# a log that a full disk does not take is no error of its own, with a traceback
logging.raiseExceptions = False


# beside this file wherever it is run from
configfile: f"{workflow.basedir}/workflow/config.yaml"


# checks the whole configuration; a wrong one ends here, before anything runs
include: "workflow/rules/common.smk"
include: "workflow/rules/shell.smk"
include: "workflow/rules/settings.smk"
include: "workflow/rules/structures.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/predictors.smk"
include: "workflow/rules/properties.smk"
include: "workflow/rules/screening.smk"
include: "workflow/rules/kinetics.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/benchmark.smk"
include: "workflow/rules/studies.smk"


rule all:
    default_target: True
    input:
        f"{OUT}/report.html",
        f"{OUT}/checksums.json",
        # what was deleted since the last run, needed by another rule or not
        gone_results(),


# trains anew for every fold, which takes far longer than a run
rule properties_benchmark:
    input:
        expand(rules.benchmark_tables.output, setting=BENCHMARKS),


# other fields on the same core
rule studies:
    input:
        expand(rules.study_volatility.output, shots=[60, 250]),
        expand(rules.study_prices.output, part=["returns", "policy"]),
        rules.study_patients.output,
        rules.study_batch_norm.output,
        rules.study_navigation.output,
        # on measured steels, where one has them
        (
            [rules.study_furnace.output, rules.study_reach.output]
            if os.environ.get("MATML_KINETICS_DATA")
            else []
        ),
