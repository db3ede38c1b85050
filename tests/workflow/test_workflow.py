"""The workflow without running its stages; a whole small run is in .ci/run."""

import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from matml.core.processors import usable_threads

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of what the workflow needs, so that a run elsewhere locks nothing here."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("workflow", "data"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "profiles").symlink_to("workflow/profiles")
    return folder


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_dry_run_from_the_root_uses_the_profile_and_is_quick(copy):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = snakemake(copy, "-n")
        times.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert statistics.median(times) < 5
    assert "profiles/default" in done.stderr
    assert (ROOT / "profiles/default/config.yaml").is_file()
    assert "matml report --results results" in done.stdout + done.stderr
    assert not (copy / "results").exists()


def test_no_job_asks_for_more_processors_than_there_are(copy):
    done = snakemake(copy, "-n", "--cores", "64", "--quiet", "host")
    threads = re.findall(r"--threads (\d+)", done.stdout + done.stderr)
    assert threads
    assert max(map(int, threads)) == usable_threads(64)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 3\n", "sed: unknown key"),
        ("graphs: {neighbours: 0}\n", "graphs.neighbours = 0: input should be greater"),
        ("structures: {inputs: [nowhere.cif]}\n", "'nowhere.cif': no such file"),
        ("seed: [1, 2]\n", "seed = [1, 2]"),
    ],
)
def test_a_wrong_configuration_ends_before_anything_runs(copy, text, message):
    (copy / "mine.yaml").write_text(text, encoding="utf-8")
    done = snakemake(copy, "--cores", "2", "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert message in done.stderr
    assert "mine.yaml" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (copy / "results").exists()


def test_every_rule_has_log_benchmark_message_threads_and_source_hash():
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.M)[1:]:
            name = rule.split(":")[0]
            wanted = ["log:", "benchmark:", "message:", "shell:", "params:", "matml "]
            if file.name != "settings.smk":
                wanted += ["threads:", "sources=", "ensure("]
            if name == "calibrate":
                wanted.remove("ensure(")  # its one output is a folder
            for word in wanted:
                assert word in rule, f"{file.name}, rule {name}: no {word}"


def test_snakemakes_lint_finds_only_what_does_not_apply(copy):
    # matml is installed with pip together with Snakemake, so no rule has a conda environment
    done = snakemake(copy, "--lint")
    found = set(re.findall(r"^ +\* (.*):$", done.stdout + done.stderr, flags=re.M))
    assert found == {"Specify a conda environment or container for each rule."}


def test_settings_rerun_only_for_the_section_that_changed(copy):
    targets = ["results/settings/graphs.yaml", "results/settings/screening.yaml"]
    assert snakemake(copy, "--cores", "2", *targets).returncode == 0
    again = snakemake(copy, "-n", *targets)
    assert "Nothing to be done" in again.stdout + again.stderr
    (copy / "mine.yaml").write_text("graphs: {neighbours: 9}\n", encoding="utf-8")
    changed = snakemake(copy, "-n", *targets, "--configfile", "mine.yaml")
    told = changed.stdout + changed.stderr
    assert "settings of section graphs" in told
    assert "settings of section screening" not in told
    assert snakemake(copy, "--cores", "2", *targets, "--configfile", "mine.yaml").returncode == 0
    assert "neighbours: 9" in (copy / targets[0]).read_text(encoding="utf-8")


def test_a_command_that_fails_fails_its_rule(copy):
    # every rule pipes through tee: the exit code of matml must not get lost
    text = "kinetics: {datasets: {bad: {equation: jmak, observations: bad.csv}}}\n"
    (copy / "mine.yaml").write_text(text, encoding="utf-8")
    (copy / "bad.csv").write_text("alloy,time_s\nx,-1\n", encoding="utf-8")
    target = "results/kinetics/bad/observations.csv"
    done = snakemake(copy, "--cores", "2", target, "--configfile", "mine.yaml")
    assert done.returncode != 0
    assert "matml: error: bad.csv" in done.stdout + done.stderr
    log = (copy / "results/logs/kinetics-bad-prepare.log").read_text(encoding="utf-8")
    assert log.startswith("matml: error: bad.csv")
    assert "Traceback" not in log


def test_the_readme_and_ci_hold_the_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python -m pip install -e . && snakemake --cores 8" in readme
    command = 'python -m pip install -e ".[test]" && python -m pytest'
    assert command in readme
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8")
