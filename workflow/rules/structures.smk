# Crystals in: read, check, classify (ingest), then their graphs.


rule ingest:
    input:
        settings=f"{OUT}/settings/structures.yaml",
        crystals=watched_files(
            [*SETTINGS.structures.inputs, *filter(None, [SETTINGS.structures.labels])]
        ),
    output:
        structures=ensure(f"{OUT}/structures/structures.parquet", non_empty=True),
        quarantine=f"{OUT}/structures/quarantine.csv",
        families=ensure(f"{OUT}/structures/families.csv", non_empty=True),
        summary=ensure(f"{OUT}/structures/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/ingest.log",
    benchmark:
        f"{OUT}/benchmarks/ingest.tsv"
    priority: 100
    threads: workflow.cores
    resources:
        mem_mb=memory(1000, 40, 4000),
    params:
        out=subpath(output.structures, parent=True),
        sources=source_hash("matml.cli.structures:ingest"),
    message:
        "Reading and checking crystals, and sorting them into families"
    shell:
        "matml structures ingest --config {input.settings:q} --out {params.out:q}"
        " --threads {threads} 2>&1 | tee {log:q}"


rule graphs:
    input:
        settings=f"{OUT}/settings/graphs.yaml",
        structures=rules.ingest.output.structures,
    output:
        graphs=ensure(f"{OUT}/graphs/graphs.safetensors", non_empty=True),
        index=ensure(f"{OUT}/graphs/index.parquet", non_empty=True),
        summary=ensure(f"{OUT}/graphs/summary.json", non_empty=True),
    log:
        f"{OUT}/logs/graphs.log",
    benchmark:
        f"{OUT}/benchmarks/graphs.tsv"
    priority: 100
    threads: workflow.cores
    resources:
        mem_mb=memory(1000, 40, 4000),
    params:
        structures=subpath(input.structures, parent=True),
        out=subpath(output.graphs, parent=True),
        sources=source_hash("matml.cli.structures:graph"),
    message:
        "Finding the neighbours of every atom"
    shell:
        "matml structures graph {params.structures:q} --config {input.settings:q}"
        " --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"
