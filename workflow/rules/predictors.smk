# One run of the predictors: families are split, networks trained and tested, by jobs of one
# processor each. RUNS names the runs (the workflow's own, folds of the benchmark) with their options.


FAMILY_RUNS = {name: run for name, run in RUNS.items() if not run.new_property}
NEW_PROPERTY_RUNS = {name: run for name, run in RUNS.items() if run.new_property}


wildcard_constraints:
    run=names_of(RUNS),
    member=r"\d+",
    property=r"[^/]+",


rule split:
    input:
        settings=lambda wildcards: RUNS[wildcards.run].settings,
        crystals=CRYSTALS,
    output:
        split=ensure(f"{OUT}/{{run}}/split.json", non_empty=True),
        episodes=ensure(f"{OUT}/{{run}}/episodes.parquet", non_empty=True),
        setup=ensure(f"{OUT}/{{run}}/setup.json", non_empty=True),
    log:
        f"{OUT}/logs/{{run}}-split.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-split.tsv"
    priority: 80
    threads: 1
    resources:
        mem_mb=memory(500, 20),
    params:
        out=subpath(output.split, parent=True),
        options=lambda wildcards: RUNS[wildcards.run].split,
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:split"),
    message:
        "Setting families aside for validation and test: {wildcards.run}"
    shell:
        "matml properties split --out {params.out:q} {params.options:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule member:
    input:
        settings=lambda wildcards: RUNS[wildcards.run].settings,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
    output:
        network=ensure(
            f"{OUT}/{{run}}/members/{{member}}/pretrained.safetensors", non_empty=True
        ),
        residuals=ensure(
            f"{OUT}/{{run}}/members/{{member}}/residual_gp.safetensors", non_empty=True
        ),
        pretraining=ensure(
            f"{OUT}/{{run}}/members/{{member}}/pretraining.csv", non_empty=True
        ),
        metatraining=ensure(
            f"{OUT}/{{run}}/members/{{member}}/metatraining.csv", non_empty=True
        ),
        predictions=ensure(
            f"{OUT}/{{run}}/predictions/member-{{member}}.parquet", non_empty=True
        ),
    log:
        f"{OUT}/logs/{{run}}-member-{{member}}.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-member-{{member}}.tsv"
    wildcard_constraints:
        run=names_of(FAMILY_RUNS),
    priority: 20
    threads: lambda wildcards: RUNS[wildcards.run].processes
    resources:
        mem_mb=memory(1000, 60),
        gpu=GPUS,
    params:
        launch=lambda wildcards: RUNS[wildcards.run].launch,
        run=subpath(input.split, parent=True),
        command="member",
        options=lambda wildcards: RUNS[wildcards.run].member,
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:member"),
    message:
        "Training network {wildcards.member} of {wildcards.run}, and adapting it to unseen families"
    shell:
        "{params.launch:q} matml properties {params.command:q} --run {params.run:q}"
        " --member {wildcards.member:q} {params.options:q}"
        " --config {input.settings:q} {params.common:q} --threads 1 2>&1 | tee {log:q}"


rule property:
    input:
        settings=lambda wildcards: RUNS[wildcards.run].settings,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        networks=lambda wildcards: expand(
            rules.member.output.network,
            run=wildcards.run,
            member=range(RUNS[wildcards.run].members),
        ),
    output:
        baseline=ensure(
            f"{OUT}/{{run}}/predictions/baseline-{{property}}.parquet", non_empty=True
        ),
        baselines=ensure(
            f"{OUT}/{{run}}/baselines/{{property}}.safetensors", non_empty=True
        ),
        stack=ensure(
            f"{OUT}/{{run}}/predictions/stack-{{property}}.parquet", non_empty=True
        ),
        stacks=ensure(f"{OUT}/{{run}}/stacks/{{property}}.safetensors", non_empty=True),
    log:
        f"{OUT}/logs/{{run}}-property-{{property}}.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-property-{{property}}.tsv"
    priority: 12
    threads: 1
    resources:
        mem_mb=memory(1000, 200),
    params:
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:of_property"),
    message:
        "Fitting baselines and a stack of Gaussian processes to {wildcards.property}"
    shell:
        "matml properties property --run {params.run:q} --property {wildcards.property:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"
