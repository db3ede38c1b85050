# The workflow's own run: all methods compared, and the predictor that screening uses.

SPLIT = f"{OUT}/properties/split.json"
EPISODES = [f"{OUT}/properties/{name}" for name in ("episodes.parquet", "setup.json")]


rule compare:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
        members=expand(
            rules.member.output.predictions, run="properties", member=MEMBERS
        ),
        baselines=expand(
            rules.property.output.baseline, run="properties", property=PROPERTIES
        ),
        stacks=expand(
            rules.property.output.stack, run="properties", property=PROPERTIES
        ),
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
    resources:
        mem_mb=memory(500, 20),
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
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule new_property:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
        networks=expand(rules.member.output.network, run="properties", member=MEMBERS),
    output:
        ensure(f"{OUT}/properties/new-property.safetensors", non_empty=True),
    log:
        f"{OUT}/logs/properties-new-property.log",
    benchmark:
        f"{OUT}/benchmarks/properties-new-property.tsv"
    priority: 12
    threads: 1
    resources:
        mem_mb=memory(1000, 200),
    params:
        run=subpath(input.split, parent=True),
        members=expand(f"--member={OUT}/properties/members/{{member}}", member=MEMBERS),
        common=COMMON,
        sources=source_hash("matml.cli.properties.commands:learn_new_property"),
    message:
        "Learning to take up properties that nobody trained on"
    shell:
        "matml properties new-property --run {params.run:q} {params.members:q} --out {output:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"


rule export:
    input:
        settings=SECTION,
        crystals=CRYSTALS,
        split=SPLIT,
        episodes=EPISODES,
        networks=expand(rules.member.output.network, run="properties", member=MEMBERS),
        baselines=expand(
            rules.property.output.baselines, run="properties", property=PROPERTIES
        ),
        stacks=expand(
            rules.property.output.stacks, run="properties", property=PROPERTIES
        ),
        new_property=rules.new_property.output,
        choices=rules.compare.output.choices,
    output:
        card=ensure(f"{OUT}/model/card.json", non_empty=True),
        training=ensure(f"{OUT}/model/training.safetensors", non_empty=True),
        checks=ensure(f"{OUT}/model/checks.json", non_empty=True),
        new_property=ensure(f"{OUT}/model/new-property.safetensors", non_empty=True),
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
    resources:
        mem_mb=memory(1000, 60),
    params:
        run=subpath(input.split, parent=True),
        members=expand(f"--member={OUT}/properties/members/{{member}}", member=MEMBERS),
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
        " {params.stacks:q} --new-property {input.new_property:q}"
        " --evaluation {params.evaluation:q} --out {params.model:q}"
        " --config {input.settings:q} {params.common:q} --threads {threads} 2>&1 | tee {log:q}"
