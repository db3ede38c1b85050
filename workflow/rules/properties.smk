# Property predictors across families. Every member of the ensemble is trained by jobs of one
# processor each, so that members, baselines and kinetics run side by side.

# what every stage reads
SECTION = f"{OUT}/settings/properties.yaml"
CRYSTALS = [
    rules.ingest.output.structures,
    rules.graphs.output.graphs,
    rules.graphs.output.index,
]
# each member's episodes are dealt to so many jobs, for machines with many processors
SHARDS = 2
MEMBER = f"{OUT}/properties/members/{{member}}"
COMMON = [
    f"--structures={OUT}/structures",
    f"--graphs={OUT}/graphs",
    f"--config={SECTION}",
    f"--seed={SETTINGS.seed}",
    f"--device={SETTINGS.device}",
]


rule split:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
    output:
        split=ensure(f"{OUT}/properties/split.json", non_empty=True),
        episodes=ensure(f"{OUT}/properties/episodes.parquet", non_empty=True),
        setup=ensure(f"{OUT}/properties/setup.json", non_empty=True),
    log:
        f"{OUT}/logs/properties-split.log",
    benchmark:
        f"{OUT}/benchmarks/properties-split.tsv"
    priority: 80
    threads: 1
    params:
        run=subpath(output.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:split"),
    message:
        "Setting families aside for validation and test"
    shell:
        "matml properties split --out {params.run:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule pretrain:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
    output:
        network=ensure(f"{MEMBER}/pretrained.safetensors", non_empty=True),
        residuals=ensure(f"{MEMBER}/residual_gp.safetensors", non_empty=True),
        training=ensure(f"{MEMBER}/pretraining.csv", non_empty=True),
    log:
        f"{OUT}/logs/properties-pretrain-{{member}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-pretrain-{{member}}.tsv"
    priority: 20
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        out=subpath(output.network, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:pretrain"),
    message:
        "Pre-training network {wildcards.member} without the families of its fold"
    shell:
        "matml properties pretrain --run {params.run:q} --member {wildcards.member}"
        " --out {params.out:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule metatrain:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        network=rules.pretrain.output.network,
    output:
        maml=ensure(f"{MEMBER}/maml.safetensors", non_empty=True),
        fomaml=ensure(f"{MEMBER}/fomaml.safetensors", non_empty=True),
        training=ensure(f"{MEMBER}/metatraining.csv", non_empty=True),
    log:
        f"{OUT}/logs/properties-metatrain-{{member}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-metatrain-{{member}}.tsv"
    priority: 15
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        out=subpath(output.maml, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:metatrain"),
    message:
        "Meta-training network {wildcards.member} on families it has not seen"
    shell:
        "matml properties metatrain --run {params.run:q} --member {wildcards.member}"
        " --pretrained {params.out:q} --out {params.out:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        network=rules.pretrain.output.network,
        residuals=rules.pretrain.output.residuals,
        adapted=[rules.metatrain.output.maml, rules.metatrain.output.fomaml],
    output:
        predictions=ensure(
            f"{OUT}/properties/predictions/member-{{member}}-{{shard}}.parquet",
            non_empty=True,
        ),
    log:
        f"{OUT}/logs/properties-evaluate-{{member}}-{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-evaluate-{{member}}-{{shard}}.tsv"
    priority: 10
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        member=subpath(input.network, parent=True),
        shards=SHARDS,
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:evaluate"),
    message:
        "Adapting network {wildcards.member} to unseen families, part {wildcards.shard}"
    shell:
        "matml properties evaluate --run {params.run:q} --member {wildcards.member}"
        " --folder {params.member:q} --shard {wildcards.shard} --shards {params.shards}"
        " --out {output.predictions:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule baseline:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
    output:
        predictions=ensure(
            f"{OUT}/properties/predictions/baseline-{{property}}.parquet",
            non_empty=True,
        ),
        model=ensure(
            f"{OUT}/properties/baselines/{{property}}.safetensors", non_empty=True
        ),
    log:
        f"{OUT}/logs/properties-baseline-{{property}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-baseline-{{property}}.tsv"
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:baseline"),
    message:
        "Fitting the baselines for {wildcards.property}"
    shell:
        "matml properties baseline --run {params.run:q} --property {wildcards.property}"
        " --out {output.predictions:q} --model-out {output.model:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule stack:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        networks=expand(rules.pretrain.output.network, member=MEMBERS),
    output:
        predictions=ensure(
            f"{OUT}/properties/predictions/stack-{{property}}.parquet",
            non_empty=True,
        ),
        model=ensure(
            f"{OUT}/properties/stacks/{{property}}.safetensors", non_empty=True
        ),
    log:
        f"{OUT}/logs/properties-stack-{{property}}.log",
    benchmark:
        f"{OUT}/benchmarks/properties-stack-{{property}}.tsv"
    priority: 12
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        members=expand(f"--member={MEMBER}", member=MEMBERS),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:stack"),
    message:
        "Stacking Gaussian processes for {wildcards.property}"
    shell:
        "matml properties stack --run {params.run:q} --property {wildcards.property}"
        " {params.members:q} --out {output.predictions:q} --model-out {output.model:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule compare:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        members=expand(
            rules.evaluate.output.predictions, member=MEMBERS, shard=range(SHARDS)
        ),
        baselines=expand(rules.baseline.output.predictions, property=PROPERTIES),
        stacks=expand(rules.stack.output.predictions, property=PROPERTIES),
    output:
        scores=ensure(f"{OUT}/properties/evaluation/scores.csv", non_empty=True),
        predictions=ensure(
            f"{OUT}/properties/evaluation/predictions.parquet", non_empty=True
        ),
        choices=ensure(f"{OUT}/properties/evaluation/choices.json", non_empty=True),
        summary=ensure(f"{OUT}/properties/evaluation/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/properties-compare.log",
    benchmark:
        f"{OUT}/benchmarks/properties-compare.tsv"
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        out=subpath(output.scores, parent=True),
        members=lambda wildcards, input: [f"--member={path}" for path in input.members],
        baselines=lambda wildcards, input: [
            f"--baseline={path}" for path in input.baselines
        ],
        stacks=lambda wildcards, input: [f"--stack={path}" for path in input.stacks],
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:compare"),
    message:
        "Comparing all methods on the same episodes"
    shell:
        "matml properties compare --run {params.run:q} {params.members:q} {params.baselines:q}"
        " {params.stacks:q}"
        " --out {params.out:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule export:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        networks=[
            expand(path, member=MEMBERS)
            for path in (*rules.pretrain.output, *rules.metatrain.output)
        ],
        baselines=expand(rules.baseline.output.model, property=PROPERTIES),
        stacks=expand(rules.stack.output.model, property=PROPERTIES),
        choices=rules.compare.output.choices,
    output:
        card=ensure(f"{OUT}/model/card.json", non_empty=True),
        training=ensure(f"{OUT}/model/training.safetensors", non_empty=True),
        checks=ensure(f"{OUT}/model/checks.json", non_empty=True),
        members=ensure(
            expand(
                f"{OUT}/model/member-{{member}}/{{part}}.safetensors",
                member=MEMBERS,
                part=["pretrained", "maml", "fomaml", "residual_gp"],
            ),
            non_empty=True,
        ),
        baselines=ensure(
            expand(f"{OUT}/model/{{property}}.safetensors", property=PROPERTIES),
            non_empty=True,
        ),
        stacks=ensure(
            expand(f"{OUT}/model/{{property}}-stack.safetensors", property=PROPERTIES),
            non_empty=True,
        ),
    log:
        f"{OUT}/logs/properties-export.log",
    benchmark:
        f"{OUT}/benchmarks/properties-export.tsv"
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        members=expand(f"--member={MEMBER}", member=MEMBERS),
        baselines=lambda wildcards, input: [
            f"--baseline={path}" for path in input.baselines
        ],
        stacks=lambda wildcards, input: [f"--stack={path}" for path in input.stacks],
        evaluation=subpath(input.choices, parent=True),
        model=subpath(output.card, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:export"),
    message:
        "Gathering the predictor that screening uses"
    shell:
        "matml properties export --run {params.run:q} {params.members:q} {params.baselines:q}"
        " {params.stacks:q}"
        " --evaluation {params.evaluation:q} --out {params.model:q}"
        " {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


# neither is part of `all`: the first trains anew for every fold, which takes far longer than a run,
# and the second needs the packages of the extras `potential` and `zeolites`
rule properties_benchmark:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
    output:
        families=ensure(f"{OUT}/properties-benchmark/A.json", non_empty=True),
        families_tables=ensure(f"{OUT}/properties-benchmark/A.txt", non_empty=True),
        property=ensure(f"{OUT}/properties-benchmark/B.json", non_empty=True),
        property_tables=ensure(f"{OUT}/properties-benchmark/B.txt", non_empty=True),
    log:
        f"{OUT}/logs/properties-benchmark.log",
    benchmark:
        f"{OUT}/benchmarks/properties-benchmark.tsv"
    threads: workflow.cores
    params:
        # what is finished is kept beside, whatever becomes of the job
        out=subpath(output.families, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:benchmark"),
    message:
        "Benchmark of the predictors on new families and on new properties"
    shell:
        "(matml properties benchmark --setting A --out {params.out:q}/folds-A --jobs {threads}"
        " {params.common:q} --json {output.families:q} > {output.families_tables:q}"
        " && matml properties benchmark --setting B --out {params.out:q}/folds-B --jobs {threads}"
        " {params.common:q} --json {output.property:q} > {output.property_tables:q})"
        " 2>&1 | tee {log:q}"


rule properties_benchmark_energies:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        networks=expand(rules.pretrain.output.network, member=MEMBERS),
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
        sources=source_hash("matml.cli.properties.commands:benchmark"),
    message:
        "Benchmark of the predictors on energies of zeolites and perovskites"
    shell:
        "(matml properties benchmark --setting C --out {params.out:q}/C --run {params.run:q}"
        " {params.common:q} --threads {threads} --json {output.records:q}"
        " > {output.tables:q}) 2>&1 | tee {log:q}"


# not part of `all` either: it trains the members anew for every size and seed
rule properties_sizes:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
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
        # what is finished is kept beside, whatever becomes of the job
        out=subpath(output.records, parent=True),
        run=subpath(input.split, parent=True),
        common=COMMON,
        sources=source_hash("matml.cli.studies:study_size"),
    message:
        "Errors on unseen families against training-set size and time to train"
    shell:
        "(matml properties study-size --run {params.run:q} --out {params.out:q}/parts"
        " --figure {output.figure[0]:q} --json {output.records:q}"
        " {params.common:q} --threads {threads} > {output.tables:q}) 2>&1 | tee {log:q}"
