# The page and its figures, made of result files only, and the checksums of all results.


rule report:
    input:
        section=f"{OUT}/settings/report.yaml",
        settings=expand(f"{OUT}/settings/{{section}}.yaml", section=section_models()),
        versions=rules.versions.output,
        structures=rules.ingest.output,
        graphs=rules.graphs.output.summary,
        split=SPLIT,
        episodes=EPISODES,
        training=expand(
            [rules.member.output.pretraining, rules.member.output.metatraining],
            run="properties",
            member=MEMBERS,
        ),
        evaluation=rules.compare.output,
        candidates=rules.candidates.output.summary,
        screening=rules.screen.output,
        kinetics=KINETICS_RESULTS,
    output:
        page=ensure(f"{OUT}/report.html", non_empty=True),
        # each figure as PNG and SVG, with a CSV of the numbers drawn
        figures=directory(f"{OUT}/figures"),
    log:
        f"{OUT}/logs/report.log",
    benchmark:
        f"{OUT}/benchmarks/report.tsv"
    threads: 1
    resources:
        mem_mb=memory(700, 20),
    params:
        results=subpath(output.page, parent=True),
        sources=source_hash("matml.cli.report:report"),
    message:
        "Making the report and its figures"
    shell:
        "matml report {params.results:q} --config {input.section:q} --out {output.page:q}"
        " --figures {output.figures:q} 2>&1 | tee {log:q}"


# a file in one of these is made again with its folder
FOLDERS = [
    rules.report.output.figures,
    rules.screen.output.cifs,
    *expand(rules.kinetics.output.calibration, dataset=SETTINGS.kinetics.datasets),
]


rule checksums:
    input:
        rules.report.output,
    output:
        checksums=ensure(f"{OUT}/checksums.json", non_empty=True),
        # date, machine and commit, for the benchmarks' page
        origin=f"{OUT}/origin.json",
    log:
        f"{OUT}/logs/checksums.log",
    benchmark:
        f"{OUT}/benchmarks/checksums.tsv"
    threads: 1
    params:
        results=subpath(output.checksums, parent=True),
        started=STARTED,
        folders=[f"--folder={folder}" for folder in FOLDERS],
        sources=source_hash("matml.cli.config:checksums"),
    message:
        "Noting the checksums of all results"
    shell:
        "matml config checksums {params.results:q} --out {output.checksums:q}"
        " --origin {output.origin:q} --started {params.started:q} {params.folders:q}"
        " 2>&1 | tee {log:q}"
