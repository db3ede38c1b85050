# Kinetic equations across alloys, for every data set of the configuration.

DATASETS = SETTINGS.kinetics.datasets
KINETICS = f"{OUT}/kinetics/{{dataset}}"
KINETICS_SECTION = f"{OUT}/settings/kinetics.yaml"
# the files that a data set is read or simulated from
KINETICS_FILES = {
    name: watched_files(
        [
            SETTINGS.kinetics.simulation.jmak_table,
            SETTINGS.kinetics.simulation.steel_table,
        ]
        if dataset.simulate
        else list(filter(None, [dataset.observations, dataset.alloys]))
    )
    for name, dataset in DATASETS.items()
}


rule prepare:
    input:
        settings=KINETICS_SECTION,
        files=lambda wildcards: KINETICS_FILES[wildcards.dataset],
    output:
        observations=ensure(f"{KINETICS}/observations.csv", non_empty=True),
        alloys=ensure(f"{KINETICS}/alloys.csv", non_empty=True),
        description=ensure(f"{KINETICS}/observations.json", non_empty=True),
    log:
        f"{OUT}/logs/kinetics-{{dataset}}-prepare.log",
    benchmark:
        f"{OUT}/benchmarks/kinetics-{{dataset}}-prepare.tsv"
    threads: 1
    params:
        out=subpath(output.observations, parent=True),
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.commands:prepare"),
    message:
        "Preparing the observations of {wildcards.dataset}"
    shell:
        "matml kinetics prepare --dataset {wildcards.dataset} --config {input.settings:q}"
        " --seed {params.seed} --out {params.out:q} 2>&1 | tee {log:q}"


rule learn:
    input:
        settings=KINETICS_SECTION,
        observations=rules.prepare.output.observations,
        alloys=rules.prepare.output.alloys,
    output:
        population=ensure(f"{KINETICS}/population/population.json", non_empty=True),
        parameters=ensure(
            f"{KINETICS}/population/training_parameters.csv", non_empty=True
        ),
        summary=ensure(f"{KINETICS}/population/learn.json", non_empty=True),
    log:
        f"{OUT}/logs/kinetics-{{dataset}}-learn.log",
    benchmark:
        f"{OUT}/benchmarks/kinetics-{{dataset}}-learn.tsv"
    threads: 1
    params:
        out=subpath(output.population, parent=True),
        equation=lambda wildcards: DATASETS[wildcards.dataset].equation,
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.commands:learn"),
    message:
        "Learning from the alloys of {wildcards.dataset}"
    shell:
        "matml kinetics learn --data {input.observations:q} --alloys {input.alloys:q}"
        " --equation {params.equation} --config {input.settings:q} --seed {params.seed}"
        " --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


rule calibrate:
    input:
        settings=KINETICS_SECTION,
        population=rules.learn.output.population,
        observations=rules.prepare.output.observations,
        alloys=rules.prepare.output.alloys,
    output:
        folder=directory(f"{KINETICS}/calibration"),
    log:
        f"{OUT}/logs/kinetics-{{dataset}}-calibrate.log",
    benchmark:
        f"{OUT}/benchmarks/kinetics-{{dataset}}-calibrate.tsv"
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.commands:calibrate"),
    message:
        "Calibrating held-out alloys of {wildcards.dataset}"
    shell:
        "matml kinetics calibrate --prior {input.population:q} --data {input.observations:q}"
        " --alloys {input.alloys:q} --held-out --config {input.settings:q} --seed {params.seed}"
        " --out {output.folder:q} --threads {threads} 2>&1 | tee {log:q}"


rule benchmark_kinetics:
    input:
        settings=KINETICS_SECTION,
        observations=rules.prepare.output.observations,
        alloys=rules.prepare.output.alloys,
        description=rules.prepare.output.description,
    output:
        scores=ensure(f"{KINETICS}/scores.csv", non_empty=True),
        alloys=ensure(f"{KINETICS}/scores_by_alloy.csv", non_empty=True),
        summary=ensure(f"{KINETICS}/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/kinetics-{{dataset}}-benchmark.log",
    benchmark:
        f"{OUT}/benchmarks/kinetics-{{dataset}}-benchmark.tsv"
    threads: 1
    params:
        out=subpath(output.scores, parent=True),
        equation=lambda wildcards: DATASETS[wildcards.dataset].equation,
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.commands:benchmark"),
    message:
        "Comparing methods on held-out alloys of {wildcards.dataset}"
    shell:
        "matml kinetics benchmark --data {input.observations:q} --alloys {input.alloys:q}"
        " --equation {params.equation} --name {wildcards.dataset} --config {input.settings:q}"
        " --seed {params.seed} --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


KINETICS_RESULTS = expand(
    [
        *rules.prepare.output,
        *rules.learn.output,
        *rules.calibrate.output,
        *rules.benchmark_kinetics.output,
    ],
    dataset=DATASETS,
)
