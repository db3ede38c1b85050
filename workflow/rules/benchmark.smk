# What the properties' benchmark adds to the runs: models of fixed features, and the scores.


rule potential:
    input:
        settings=ancient(SECTION),
        # a file that is there is taken: the potential need not be installed then
        # (`str`, since `ancient` marks what it is given for all rules)
        crystals=[ancient(str(path)) for path in CRYSTALS],
    output:
        features=ensure(POTENTIAL, non_empty=True),
    log:
        f"{OUT}/logs/potential.log",
    benchmark:
        f"{OUT}/benchmarks/potential.tsv"
    priority: 90
    threads: 1
    params:
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:potential"),
    message:
        "Computing what a potential says of the crystals"
    shell:
        "matml properties potential --out {output.features:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule features:
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
        potential=lambda wildcards: RUNS[wildcards.run].potential,
    output:
        predictions=ensure(
            f"{OUT}/{{run}}/predictions/features-{{property}}.parquet", non_empty=True
        ),
    log:
        f"{OUT}/logs/{{run}}-features-{{property}}.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-features-{{property}}.tsv"
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        potential=lambda wildcards, input: [
            f"--potential={path}" for path in input.potential
        ],
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:features"),
    message:
        "Predicting {wildcards.property} from few labels and fixed features"
    shell:
        "matml properties features --run {params.run:q} --property {wildcards.property:q}"
        " {params.potential:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule score_run:
    input:
        settings=lambda wildcards: RUNS[wildcards.run].settings,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        members=lambda wildcards: expand(
            rules.member.output.predictions,
            run=wildcards.run,
            member=range(RUNS[wildcards.run].members),
        ),
        properties=lambda wildcards: expand(
            [
                rules.property.output.baseline,
                rules.property.output.stack,
                rules.features.output.predictions,
            ],
            run=wildcards.run,
            property=RUNS[wildcards.run].properties,
        ),
    output:
        scores=ensure(f"{OUT}/{{run}}/families.csv", non_empty=True),
    log:
        f"{OUT}/logs/{{run}}-score.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-score.tsv"
    wildcard_constraints:
        run=names_of(FAMILY_RUNS),
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        options=lambda wildcards: RUNS[wildcards.run].scores,
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:score_run"),
    message:
        "Scoring all methods on the test families of {wildcards.run}"
    shell:
        "matml properties score-run --run {params.run:q} {params.options:q}"
        " --out {output.scores:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


# the same job, but trained to take up a property that no network knows; it predicts nothing
use rule member as new_property_member with:
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
    wildcard_constraints:
        run=names_of(NEW_PROPERTY_RUNS),
    params:
        launch=[],
        command="new-property-member",
        run=subpath(input.split, parent=True),
        options=lambda wildcards: RUNS[wildcards.run].member,
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:new_property_member"),
    message:
        "Training network {wildcards.member} of {wildcards.run}, which knows not all properties"


rule score_new_property:
    input:
        settings=lambda wildcards: RUNS[wildcards.run].settings,
        crystals=CRYSTALS,
        split=rules.split.output.split,
        episodes=[rules.split.output.episodes, rules.split.output.setup],
        networks=lambda wildcards: expand(
            rules.new_property_member.output.network,
            run=wildcards.run,
            member=range(RUNS[wildcards.run].members),
        ),
        potential=lambda wildcards: RUNS[wildcards.run].potential,
    output:
        scores=ensure(f"{OUT}/{{run}}/families.csv", non_empty=True),
    log:
        f"{OUT}/logs/{{run}}-score.log",
    benchmark:
        f"{OUT}/benchmarks/{{run}}-score.tsv"
    wildcard_constraints:
        run=names_of(NEW_PROPERTY_RUNS),
    threads: 1
    params:
        run=subpath(input.split, parent=True),
        options=lambda wildcards: RUNS[wildcards.run].scores,
        potential=lambda wildcards, input: [
            f"--potential={path}" for path in input.potential
        ],
        common=COMMON,
        sources=source_hash("matml.cli.properties.benchmark:score_new_property"),
    message:
        "Scoring all methods on a property that {wildcards.run} was trained without"
    shell:
        "matml properties score-new-property --run {params.run:q} {params.options:q}"
        " {params.potential:q} --out {output.scores:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"
