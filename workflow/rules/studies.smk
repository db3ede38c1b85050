# Benchmarks and studies that take far longer than a run; none is part of `all`.

from matml.studies.adaptation.size_parts import (
    EPOCHS,
    FRACTIONS,
    SAMPLINGS,
    SEEDS,
    plan,
)

SIZE_PARTS = [
    str(part)
    for part in plan(
        FRACTIONS,
        SAMPLINGS,
        EPOCHS,
        SETTINGS.properties.epochs,
        range(SETTINGS.seed, SETTINGS.seed + SEEDS),
    )
]


rule benchmark_tables:
    input:
        scores=lambda wildcards: expand(
            f"{OUT}/{{run}}/families.csv", run=BENCHMARK_RUNS[wildcards.setting]
        ),
    output:
        records=ensure(f"{OUT}/properties-benchmark/{{setting}}.json", non_empty=True),
        tables=ensure(f"{OUT}/properties-benchmark/{{setting}}.txt", non_empty=True),
    log:
        f"{OUT}/logs/properties-benchmark-{{setting}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-benchmark-{{setting}}.tsv"
    wildcard_constraints:
        setting="[AB]",
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.properties.benchmark:benchmark_tables"),
    message:
        "Tables of the benchmark, setting {wildcards.setting}"
    shell:
        "(matml properties benchmark-tables --setting {wildcards.setting:q} --seed {params.seed:q}"
        " --json {output.records:q} {input.scores:q} > {output.tables:q}) 2>&1 | tee {log:q}"


# takes the packages of the extras `potential` and `zeolites`
rule properties_benchmark_energies:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
        networks=expand(rules.member.output.network, run="properties", member=MEMBERS),
    output:
        records=ensure(f"{OUT}/properties-benchmark/C.json", non_empty=True),
        tables=ensure(f"{OUT}/properties-benchmark/C.txt", non_empty=True),
    log:
        f"{OUT}/logs/properties-benchmark-energies.log",
    benchmark:
        f"{OUT}/benchmarks/properties-benchmark-energies.tsv"
    threads: 1
    params:
        out=subpath(output.records, parent=True),
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:benchmark"),
    message:
        "Benchmark of the predictors on energies of zeolites and perovskites"
    shell:
        "(matml properties benchmark --setting C --out {params.out:q}/C --run {params.run:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} --json {output.records:q}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"


# the members are trained anew for every size and seed; what is trained is kept, whatever becomes of
# the job
rule size_part:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
    output:
        errors=ensure(
            f"{OUT}/properties-sizes/parts/{{part}}/errors.parquet", non_empty=True
        ),
    log:
        f"{OUT}/logs/properties-sizes-{{part}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-sizes-{{part}}.tsv"
    threads: 1
    params:
        out=subpath(output.errors, ancestor=2),
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.studies:study_size"),
    message:
        "Training on a part of the crystals: {wildcards.part}"
    shell:
        "matml properties study-size --run {params.run:q} --out {params.out:q}"
        " --part {wildcards.part:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule properties_sizes:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
        parts=expand(rules.size_part.output.errors, part=SIZE_PARTS),
    output:
        records=ensure(f"{OUT}/properties-sizes/sizes.json", non_empty=True),
        tables=ensure(f"{OUT}/properties-sizes/sizes.txt", non_empty=True),
        figure=ensure(
            multiext(
                f"{OUT}/properties-sizes/error_against_training_size", ".png", ".svg"
            ),
            non_empty=True,
        ),
    log:
        f"{OUT}/logs/properties-sizes.log",
    benchmark:
        f"{OUT}/benchmarks/properties-sizes.tsv"
    threads: 1
    params:
        out=subpath(output.records, parent=True),
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.studies:study_size"),
    message:
        "Errors on unseen families against training-set size and time to train"
    shell:
        "(matml properties study-size --run {params.run:q} --out {params.out:q}/parts"
        " --figure {output.figure[0]:q} --json {output.records:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_volatility:
    output:
        records=ensure(
            f"{OUT}/studies/prices/volatility-{{shots}}.json", non_empty=True
        ),
        tables=ensure(f"{OUT}/studies/prices/volatility-{{shots}}.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-volatility-{{shots}}.log",
    benchmark:
        f"{OUT}/benchmarks/study-volatility-{{shots}}.tsv"
    wildcard_constraints:
        shots=r"\d+",
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.studies.prices:volatility"),
    message:
        "Volatility of assets not seen before from their first {wildcards.shots} days"
    shell:
        "(matml study prices volatility --shots {wildcards.shots:q} --seed {params.seed:q}"
        " --json {output.records:q} > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_prices:
    output:
        records=ensure(f"{OUT}/studies/prices/{{part}}.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/prices/{{part}}.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-prices-{{part}}.log",
    benchmark:
        f"{OUT}/benchmarks/study-prices-{{part}}.tsv"
    wildcard_constraints:
        part="returns|policy",
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.studies.prices:policy"),
    message:
        "Prices: {wildcards.part}"
    shell:
        "(matml study prices {wildcards.part:q} --seed {params.seed:q}"
        " --json {output.records:q} > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_patients:
    output:
        records=ensure(f"{OUT}/studies/patients/compare.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/patients/compare.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-patients.log",
    benchmark:
        f"{OUT}/benchmarks/study-patients.tsv"
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.studies.patients:compare"),
    message:
        "Next concentration of patients held out"
    shell:
        "(matml study patients compare --seed {params.seed:q} --json {output.records:q}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_batch_norm:
    input:
        crystals=CRYSTALS,
    output:
        records=ensure(f"{OUT}/studies/batch-norm.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/batch-norm.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-batch-norm.log",
    benchmark:
        f"{OUT}/benchmarks/study-batch-norm.tsv"
    threads: 1
    params:
        crystals=COMMON[:2],
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.studies.batch_norm:batch_norm"),
    message:
        "What each treatment of BatchNorm costs on new families"
    shell:
        "(matml study batch-norm {params.crystals:q} --seed {params.seed:q}"
        " --json {output.records:q} > {output.tables:q}) 2>&1 | tee {log:q}"


# these two take the measured set, which matml does not ship: its folder is MATML_KINETICS_DATA
rule study_furnace:
    output:
        records=ensure(f"{OUT}/studies/furnace.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/furnace.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-furnace.log",
    benchmark:
        f"{OUT}/benchmarks/study-furnace.tsv"
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.studies.furnace:furnace"),
    message:
        "Policies that learn the furnace by trials, beside planning"
    shell:
        "(matml study furnace --seed {params.seed:q} --json {output.records:q}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_reach:
    output:
        records=ensure(f"{OUT}/studies/reach.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/reach.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-reach.log",
    benchmark:
        f"{OUT}/benchmarks/study-reach.tsv"
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.kinetics.commands:reach_benchmark"),
    message:
        "Trials that policies need to reach a hardness"
    shell:
        "(matml kinetics reach-benchmark --seed {params.seed:q}"
        " --json {output.records:q} > {output.tables:q}) 2>&1 | tee {log:q}"


rule study_navigation:
    output:
        records=ensure(f"{OUT}/studies/navigation.json", non_empty=True),
        tables=ensure(f"{OUT}/studies/navigation.txt", non_empty=True),
    log:
        f"{OUT}/logs/study-navigation.log",
    benchmark:
        f"{OUT}/benchmarks/study-navigation.tsv"
    threads: 1
    params:
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.meta:navigation"),
    message:
        "Navigation of the MAML paper, by policy gradients"
    shell:
        "(matml meta navigation --seed {params.seed:q} --json {output.records:q}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"
