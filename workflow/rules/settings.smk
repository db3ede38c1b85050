# The validated settings as files, one per section, so that a change reruns only what depends on it.


localrules:
    settings,
    versions,


rule settings:
    output:
        f"{OUT}/settings/{{section}}.yaml",
    log:
        f"{OUT}/logs/settings/{{section}}.log",
    benchmark:
        f"{OUT}/benchmarks/settings-{{section}}.tsv"
    params:
        values=lambda wildcards: json.dumps(SECTIONS[wildcards.section], sort_keys=True),
    message:
        "Writing the settings of section {wildcards.section}"
    shell:
        "matml config section {wildcards.section:q} --values {params.values:q} --out {output:q}"
        " 2>&1 | tee {log:q}"


rule versions:
    output:
        f"{OUT}/settings/versions.json",
    log:
        f"{OUT}/logs/versions.log",
    benchmark:
        f"{OUT}/benchmarks/versions.tsv"
    params:
        versions=versions(),
    message:
        "Noting the versions of the packages"
    shell:
        "matml config versions --out {output:q} 2>&1 | tee {log:q}"
