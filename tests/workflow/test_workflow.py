"""The workflow without running its stages; a whole small run is in .ci/run."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from warm import copy_workflow, snakemake

from matml.core.processors import usable_threads

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return copy_workflow(tmp_path_factory.mktemp("repository"))


def test_a_dry_run_from_the_root_uses_the_profile_and_is_quick(copy, within):
    command = [sys.executable, "-m", "snakemake", "-n"]
    with within(6):
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "profiles/default" in done.stderr
    assert (ROOT / "profiles/default/config.yaml").is_file()
    assert "matml report results" in done.stdout + done.stderr
    assert not (copy / "results").exists()


@pytest.fixture(scope="module")
def planned(copy):
    """Jobs and commands of a run with more processors than there are, members trained by two."""
    options = ["--cores", "64", "--config", "properties={processes: 2}"]
    done = snakemake(copy, "-n", "-p", *options, "--quiet", "host")
    return done.stdout + done.stderr


def test_several_processes_share_a_members_training_where_they_are_configured(planned):
    lines = [x for x in planned.splitlines() if "matml properties member" in x]
    start = "torchrun --standalone --nproc-per-node=2 --no-python -- matml properties member --run"
    assert lines
    assert all(start in line for line in lines)


def test_no_job_asks_for_more_processors_than_there_are(planned):
    threads = re.findall(r"--threads (\d+)", planned)
    assert threads
    assert max(map(int, threads)) == usable_threads(64)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "sed: 3\ngraphs: {neighbours: 0}\nseed: [1, 2]\n",
            (
                "sed: unknown key",
                "graphs.neighbours = 0: input should be greater",
                "seed = [1, 2]",
            ),
        ),
        ("structures: {inputs: [nowhere.cif]}\n", ("'nowhere.cif': no such file",)),
    ],
)
def test_a_wrong_configuration_ends_before_anything_runs(copy, text, messages):
    (copy / "mine.yaml").write_text(text, encoding="utf-8")
    done = snakemake(copy, "--cores", "2", "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert [message for message in messages if message not in done.stderr] == []
    assert "mine.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "results").exists()


def test_every_rule_has_log_benchmark_message_threads_and_source_hash():
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        text = file.read_text(encoding="utf-8")
        # `use rule … with:` says only what is otherwise
        for rule in re.split(r"^(?=rule |use rule )", text, flags=re.M):
            if not rule.startswith("rule "):
                continue
            name = rule.removeprefix("rule ").split(":")[0]
            wanted = ["log:", "benchmark:", "message:", "shell:", "params:", "matml "]
            if file.name != "settings.smk":
                wanted += ["threads:", "sources=", "ensure("]
            for word in wanted:
                assert word in rule, f"{file.name}, rule {name}: no {word}"


def test_the_benchmark_is_jobs_of_the_same_rules(copy):
    told = snakemake(copy, "-n", "--quiet", "host", "--", "properties_benchmark").stdout
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", told, flags=re.M))
    # five folds of setting A, and three of B for each of two properties; ten members of each
    assert {name: int(jobs[name]) for name in ("split", "member", "new_property_member")} == {
        "split": 11,
        "member": 50,
        "new_property_member": 60,
    }
    assert int(jobs["property"]) == int(jobs["features"]) == 20
    assert int(jobs["score_run"]) == 5
    assert int(jobs["score_new_property"]) == 6
    assert "--property=refractive_index" in told


def test_snakemakes_lint_finds_only_what_does_not_apply(copy):
    # matml is installed with pip together with Snakemake, so no rule has a conda environment
    done = snakemake(copy, "--lint")
    found = set(re.findall(r"^ +\* (.*):$", done.stdout + done.stderr, flags=re.M))
    assert found == {"Specify a conda environment or container for each rule."}


def test_stages_rerun_only_for_the_section_that_changed(copy):
    with gzip.open(copy / "data/crystals/elastic.csv.gz", "rt", encoding="utf-8") as stream:
        table = pd.read_csv(stream, comment="#", nrows=4)
    table.to_csv(copy / "few.csv", index=False)
    few = {"structures": {"inputs": ["few.csv"]}}

    def run(*arguments: str, **more: dict) -> str:
        (copy / "few.yaml").write_text(json.dumps(few | more), encoding="utf-8")
        options = [*arguments, "results/graphs/summary.json", "--configfile", "few.yaml"]
        done = snakemake(copy, *options)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    run("--cores", "2")
    assert "neighbours: 8" in (copy / "results/settings/graphs.yaml").read_text(encoding="utf-8")
    assert "Nothing to be done" in run("-n")
    stages = ("matml config section", "matml structures ingest", "matml structures graph")
    for more, wanted in (
        ({"screening": {"top": 3}}, [False, False, False]),
        ({"graphs": {"neighbours": 9}}, [True, False, True]),
        ({"structures": few["structures"] | {"max_sites": 99}}, [True, True, True]),
    ):
        told = run("-n", **more)
        assert [stage in told for stage in stages] == wanted, more
    run("--cores", "2", graphs={"neighbours": 9})
    assert "neighbours: 9" in (copy / "results/settings/graphs.yaml").read_text(encoding="utf-8")


def test_a_command_that_fails_fails_its_rule(copy):
    # every rule pipes through tee: the exit code of matml must not get lost
    text = "kinetics: {datasets: {bad: {equation: jmak, observations: bad.csv}}}\n"
    (copy / "mine.yaml").write_text(text, encoding="utf-8")
    (copy / "bad.csv").write_text("alloy,time_s\nx,-1\n", encoding="utf-8")
    target = "results/kinetics/bad/observations.csv"
    done = snakemake(copy, "--cores", "2", target, "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert "matml: error: bad.csv" in done.stdout + done.stderr
    log = (copy / "results/logs/kinetics-bad-run.log").read_text(encoding="utf-8")
    assert log.startswith("matml: error: bad.csv")
    assert "Traceback" not in log


def test_the_readme_and_ci_hold_the_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python -m pip install -e . && snakemake --cores 8" in readme
    command = 'python -m pip install -e ".[test]" && python -m pytest'
    assert command in readme
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8")
