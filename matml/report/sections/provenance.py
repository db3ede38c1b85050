"""The part of the page about the run itself: sources, settings, versions, run times."""

import pandas as pd
import yaml

from matml.figures.figure import columns
from matml.report.html.figure_set import Figures
from matml.report.html.markup import (
    count,
    count_cell,
    details,
    escape,
    missing,
    number,
    number_cell,
    preformatted,
    table,
    text_cell,
)
from matml.report.html.results import Results
from matml.report.html.wording import LICENCE, SOURCES, doi, title_of


def run_times(results: Results) -> pd.DataFrame:
    """Return the benchmark files of a run: rule, seconds, largest memory in MB, processor seconds.

    Sorted, longest first; without rows where there are none.
    """
    rows = []
    for name in results.names("benchmarks/**/*.tsv"):
        measured = pd.read_csv(results.folder / name, sep="\t", na_values="-")
        results.used.append(name)
        rule = name.removeprefix("benchmarks/").removesuffix(".tsv")
        if measured.empty:
            continue
        rows.append(
            {
                "rule": rule,
                "seconds": float(measured["s"].iloc[0]),
                "memory_MB": float(measured["max_rss"].iloc[0]),
                "processor_seconds": float(measured["cpu_time"].iloc[0]),
            }
        )
    table = pd.DataFrame(rows, columns=["rule", "seconds", "memory_MB", "processor_seconds"])
    return table.sort_values("seconds", ascending=False, ignore_index=True)


def sources_section(results: Results) -> str:
    """Return data sources with licence and citation, for the sources that this run has read."""
    summary = results.json("structures/summary.json")
    parts = []
    if summary is not None:
        rows = []
        for name, crystals in summary["sources"].items():
            what, cite, identifier = SOURCES.get(name, ("given by the user", "", ""))
            rows.append(
                [
                    text_cell(name, "code"),
                    count_cell(crystals),
                    text_cell(what),
                    text_cell(LICENCE if identifier else "–"),
                ]
            )
            if identifier:
                rows[-1].append(text_cell(f"{cite}, "))
                rows[-1][-1].shown += doi(identifier)
            else:
                rows[-1].append(text_cell("–"))
        parts.append(
            table(
                ["file", "crystals", "what it holds", "licence", "please cite"],
                rows,
                caption="Sources of the crystals, their licences, and what to cite",
            )
        )
        if any(name in SOURCES for name in summary["sources"]):
            parts.append(
                "<p>All three are of the Materials Project: A. Jain et al., APL Materials 1 (2013) "
                f"011002, {doi('10.1063/1.4812323')}.</p>"
            )
    for name in results.names("kinetics/*/summary.json"):
        kinetics = results.json(name) or {}
        kind = "simulated from published parameters" if kinetics.get("simulated") else "measured"
        data = kinetics.get("data") or {}
        known = [data[key] for key in ("published", "equation") if data.get(key)]
        source = kinetics.get("source") or kinetics.get("sources") or known
        text = ", ".join(map(str, source)) if isinstance(source, list) else str(source)
        told = f": {escape(text)}" if text else ""
        parts.append(f"<p>{escape(title_of(name.split('/')[1]))}: {kind}{told}.</p>")
    return "\n".join(parts) or missing("This run has read no data.")


def run_section(results: Results, figures: Figures) -> str:
    """Return settings, versions and run times of a run."""
    parts = [_times(results, figures)]
    settings = {
        name.removeprefix("settings/").removesuffix(".yaml"): results.yaml(name)
        for name in results.names("settings/*.yaml")
    }
    if "run" in settings:
        run = settings["run"]
        parts.append(
            f"<p>Seed of every random choice: <b>{escape(run['seed'])}</b>; computed on "
            f"<b>{escape(run['device'])}</b>.</p>"
        )
    if settings:
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=88)
        parts.append(
            details("The whole configuration", preformatted(text, "The whole configuration"))
        )
    else:
        parts.append(missing("This run has kept no settings."))
    versions = results.json("settings/versions.json")
    if versions is not None:
        rows = [[text_cell(name), text_cell(version)] for name, version in versions.items()]
        parts.append(details("Versions", table(["package", "version"], rows, caption="Versions")))
    return "\n".join(parts)


def rule_of(job: str) -> str:
    """Return the rule of a job such as `properties-pretrain-3` or `kinetics-mine-calibrate`."""
    parts = job.split("-")
    if parts[0] == "kinetics" and len(parts) > 2:
        return f"kinetics-{parts[-1]}"
    return "-".join(parts[:2]) if parts[0] == "properties" else parts[0]


def by_rule(times: pd.DataFrame) -> pd.DataFrame:
    """Return jobs, seconds, processor seconds and largest memory of each rule, longest first."""
    grouped = times.assign(rule=times["rule"].map(rule_of)).groupby("rule")
    table = grouped.agg(
        jobs=("seconds", "size"),
        seconds=("seconds", "sum"),
        processor_seconds=("processor_seconds", "sum"),
        memory_MB=("memory_MB", "max"),
    )
    return table.sort_values("processor_seconds", ascending=False).reset_index()


def _times(results: Results, figures: Figures) -> str:
    """Return a figure and tables of run times."""
    times = run_times(results)
    if times.empty:
        return missing("This run has kept no run times.")
    longest = times.head(12)
    rules = by_rule(times)
    head = ["seconds", "processor seconds", "largest memory, MB"]
    measures = ["seconds", "processor_seconds", "memory_MB"]
    per_rule = [
        [
            text_cell(row["rule"], "code"),
            count_cell(row["jobs"]),
            *(number_cell(row[n]) for n in measures),
        ]
        for row in rules.to_dict("records")
    ]
    per_job = [
        [text_cell(row["rule"], "code"), *(number_cell(row[n]) for n in measures)]
        for row in times.to_dict("records")
    ]
    total = [
        text_cell("all rules", "best"),
        count_cell(len(times)),
        number_cell(times["seconds"].sum(), kind="best"),
        number_cell(times["processor_seconds"].sum(), kind="best"),
        number_cell(times["memory_MB"].max(), kind="best"),
    ]
    return (
        f"<p>{count(len(times))} jobs took {number(times['processor_seconds'].sum())} seconds of "
        f"processor time together; the largest needed {number(times['memory_MB'].max())} MB of "
        "memory.</p><h3>Run time of each rule</h3>"
        + table(
            ["rule", "jobs", *head],
            [*per_rule, total],
            caption="Run time of each rule of the workflow",
            note="Wall-clock seconds are added over the jobs of a rule, though jobs ran side by "
            "side; memory is the largest of any job.",
        )
        + figures.add(
            columns(
                "run-times",
                f"The {len(longest)} longest jobs of the run, wall-clock time",
                longest["rule"],
                longest["seconds"].round(1),
                "seconds",
            )
        )
        + details(
            "All jobs",
            table(["job", *head], per_job, sortable=True, caption="Run time of each job"),
        )
    )
