# The runs of the predictors: the workflow's own, and those of the benchmark's settings A and B.

SECTION = f"{OUT}/settings/properties.yaml"
# what every stage reads
CRYSTALS = [
    rules.ingest.output.structures,
    rules.graphs.output.graphs,
    rules.graphs.output.index,
]
COMMON = [
    f"--structures={OUT}/structures",
    f"--graphs={OUT}/graphs",
    f"--seed={SETTINGS.seed}",
    f"--device={SETTINGS.device}",
]
POTENTIAL = f"{OUT}/properties-benchmark/potential.safetensors"
BENCHMARK_RUNS = {
    setting: with_potential(plan, Path(POTENTIAL)).runs(
        f"properties-benchmark/folds-{setting}/",
        f"{OUT}/settings/properties-{setting}",
        POTENTIAL,
    )
    for setting, plan in BENCHMARKS.items()
}
RUNS = {
    "properties": Run(
        SECTION,
        SETTINGS.properties.members,
        tuple(PROPERTIES),
        processes=SETTINGS.properties.processes,
    ),
    **{name: run for runs in BENCHMARK_RUNS.values() for name, run in runs.items()},
}
