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


rule kinetics:
    input:
        settings=KINETICS_SECTION,
        files=lambda wildcards: KINETICS_FILES[wildcards.dataset],
    output:
        observations=ensure(f"{KINETICS}/observations.csv", non_empty=True),
        alloys=ensure(f"{KINETICS}/alloys.csv", non_empty=True),
        description=ensure(f"{KINETICS}/observations.json", non_empty=True),
        population=ensure(f"{KINETICS}/population/population.json", non_empty=True),
        parameters=ensure(
            f"{KINETICS}/population/training_parameters.csv", non_empty=True
        ),
        learned=ensure(f"{KINETICS}/population/learn.json", non_empty=True),
        calibration=directory(f"{KINETICS}/calibration"),
        scores=ensure(f"{KINETICS}/scores.csv", non_empty=True),
        scores_by_alloy=ensure(f"{KINETICS}/scores_by_alloy.csv", non_empty=True),
        summary=ensure(f"{KINETICS}/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/kinetics-{{dataset}}-run.log",
    benchmark:
        f"{OUT}/benchmarks/kinetics-{{dataset}}-run.tsv"
    threads: 1
    resources:
        mem_mb=memory(1200, 60),
    params:
        out=subpath(output.observations, parent=True),
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.run:run"),
    message:
        "Learning from the alloys of {wildcards.dataset}, and testing it on held-out ones"
    shell:
        "matml kinetics run --dataset {wildcards.dataset:q} --config {input.settings:q}"
        " --seed {params.seed:q} --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


KINETICS_RESULTS = expand([*rules.kinetics.output], dataset=DATASETS)
