# Candidates of a new family and their ranking.

SUPPORT = SETTINGS.screening.support or f"{OUT}/screening/support.csv"
CANDIDATES = [*SETTINGS.screening.candidates] or [
    f"{OUT}/candidates/candidates.parquet"
]
SCREENING_SECTION = f"{OUT}/settings/screening.yaml"
SHARD = f"{OUT}/screening/shards/{{shard}}"


rule candidates:
    input:
        settings=SCREENING_SECTION,
        structures=rules.ingest.output.structures,
    output:
        candidates=ensure(f"{OUT}/candidates/candidates.parquet", non_empty=True),
        summary=ensure(f"{OUT}/candidates/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/candidates.log",
    benchmark:
        f"{OUT}/benchmarks/candidates.tsv"
    threads: workflow.cores if SETTINGS.screening.relax else 1
    resources:
        mem_mb=memory(500, 20),
    params:
        out=subpath(output.candidates, parent=True),
        structures=subpath(input.structures, parent=True),
        sources=source_hash("matml.cli.screening:candidates"),
    message:
        "Making charge-neutral candidates by substitution"
    shell:
        "matml candidates --structures {params.structures:q} --config {input.settings:q}"
        " --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


rule support:
    input:
        settings=SCREENING_SECTION,
        structures=rules.ingest.output.structures,
    output:
        ensure(f"{OUT}/screening/support.csv", non_empty=True),
    log:
        f"{OUT}/logs/support.log",
    benchmark:
        f"{OUT}/benchmarks/support.tsv"
    threads: 1
    params:
        structures=subpath(input.structures, parent=True),
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.screening:support"),
    message:
        "Drawing a few labelled members of the family"
    shell:
        "matml candidates support --structures {params.structures:q}"
        " --config {input.settings:q} --seed {params.seed:q} --out {output:q}"
        " 2>&1 | tee {log:q}"


rule screen_shard:
    input:
        settings=SCREENING_SECTION,
        model=rules.export.output.card,
        parts=[rules.export.output.members, rules.export.output.baselines],
        support=watched_files([Path(SUPPORT)]),
        candidates=watched_files(SETTINGS.screening.candidates) or CANDIDATES,
        prices=SETTINGS.screening.prices or [],
        crystals=[rules.ingest.output.structures, *rules.graphs.output],
    output:
        scores=ensure(f"{SHARD}/scores.parquet", non_empty=True),
        kept=ensure(f"{SHARD}/kept.parquet", non_empty=True),
        state=ensure(f"{SHARD}/state.json", non_empty=True),
        quarantine=ensure(f"{SHARD}/crystals/quarantine.csv", non_empty=True),
    log:
        f"{OUT}/logs/screen-{{shard}}.log",
    benchmark:
        f"{OUT}/benchmarks/screen-{{shard}}.tsv"
    threads: max(1, workflow.cores // SETTINGS.screening.shards)
    resources:
        mem_mb=memory(1500, 60),
    params:
        out=subpath(output.state, parent=True),
        model=subpath(input.model, parent=True),
        # by functions, since braces in a user's path are no wildcards
        candidates=lambda wildcards: [f"--candidates={path}" for path in CANDIDATES],
        support=lambda wildcards: SUPPORT,
        known=[f"--known={OUT}/structures", f"--known-graphs={OUT}/graphs"],
        shards=SETTINGS.screening.shards,
        seed=SETTINGS.seed,
        sources=source_hash("matml.cli.screening:screen"),
    message:
        "Scoring the candidates, share {wildcards.shard}"
    shell:
        "matml screen --model {params.model:q} --support {params.support:q} {params.candidates:q}"
        " {params.known:q} --config {input.settings:q} --seed {params.seed:q}"
        " --shard {wildcards.shard:q} --shards {params.shards:q}"
        " --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


rule screen:
    input:
        settings=SCREENING_SECTION,
        shards=expand(
            rules.screen_shard.output.state, shard=range(SETTINGS.screening.shards)
        ),
        known=rules.ingest.output.structures,
    output:
        shortlist=ensure(f"{OUT}/screening/shortlist.csv", non_empty=True),
        cifs=directory(f"{OUT}/screening/candidates"),
        explained=ensure(f"{OUT}/screening/explained.json", non_empty=True),
        summary=ensure(f"{OUT}/screening/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/screen.log",
    benchmark:
        f"{OUT}/benchmarks/screen.tsv"
    threads: 1
    resources:
        mem_mb=memory(500, 20),
    params:
        out=subpath(output.shortlist, parent=True),
        shards=lambda wildcards, input: [
            f"--shard={path.rsplit('/', 1)[0]}" for path in input.shards
        ],
        sources=source_hash("matml.cli.screening:merge"),
    message:
        "Ranking the candidates"
    shell:
        "matml screen merge {params.shards:q} --out {params.out:q} 2>&1 | tee {log:q}"
