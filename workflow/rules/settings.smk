# The validated settings as files, one a section, and the versions of the packages.
#
# All are written by one job; so that a change reruns only what depends on it, rules take the files
# as `ancient`, and a hash of their section's values as a param.


localrules:
    settings,


rule settings:
    output:
        sections=[path for path in VALUES],
        versions=f"{OUT}/settings/versions.json",
    log:
        f"{OUT}/logs/settings.log",
    benchmark:
        f"{OUT}/benchmarks/settings.tsv"
    params:
        out=subpath(output.versions, parent=True),
        values=lambda wildcards: SECTION_VALUES,
        versions=versions(),
    message:
        "Writing the settings"
    shell:
        "matml config sections --out {params.out:q} {params.values:q} 2>&1 | tee {log:q}"
