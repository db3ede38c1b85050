"""The workflow on a real Slurm of one node, as the how-to about clusters has it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from matml.core.integrity.slurm import runs

sys.path.insert(0, str(Path(__file__).parent))
from one_node_slurm import OneNode, what_is_missing
from small_tables import SIZES, cut
from warm import copy_workflow

DATASET = {"equation": "jmak", "simulate": "jmak", "observations": None, "alloys": None}
SETTINGS = {
    "output_dir": "out",
    "structures": {"inputs": ["crystals.csv"]},
    "properties": {"properties": {"refractive_index": 0.3}, "smallest_family": 6},
    "kinetics": {
        "datasets": {"one": DATASET, "two": DATASET},
        "simulation": {"conditions": 1},
        "meta_batches": 1,
        "inner_steps": 1,
        "shots": [2],
        "draws": 1,
        "folds": 2,
        "calibrated_alloys": 1,
    },
}
TARGETS = ["out/graphs/index.parquet", *(f"out/kinetics/{x}/summary.json" for x in ("one", "two"))]


@pytest.mark.parametrize(
    ("line", "works"),
    [
        (["snakemake", "--cores", "2"], True),
        (["snakemake", "-c2", "-F", "-kp", "results/report.html"], True),
        (["snakemake", "-n"], False),
        (["snakemake", "-np"], False),
        (["snakemake", "--unlock"], False),
        (["snakemake", "--rulegraph"], False),
    ],
)
def test_only_a_run_waits_for_the_jobs_of_an_earlier_one(line, works):
    assert runs(line) is works


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The daemons, ended after the tests."""
    if reason := what_is_missing():
        pytest.skip(reason)
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs matml[cluster]")
    node = OneNode(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            node.start()
        except (RuntimeError, subprocess.SubprocessError) as error:
            pytest.skip(f"Slurm's daemons do not start on this machine: {error}")
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the workflow with small inputs."""
    made = copy_workflow(tmp_path_factory.mktemp("cluster"))
    (made / "crystals.csv").write_text(cut("dielectric", *SIZES["dielectric"]), encoding="utf-8")
    (made / "small.yaml").write_text(yaml.safe_dump(SETTINGS), encoding="utf-8")
    return made


class Run:
    """A run of the workflow on Slurm, whose output goes to a file."""

    def __init__(self, slurm: OneNode, folder: Path, name: str) -> None:
        self.slurm, self.told = slurm, folder / f"{name}.log"
        words = ["--workflow-profile", "workflow/profiles/slurm", "--configfile", "small.yaml",
                 "--cores", "2", "--group-components", "kinetics=1",
                 "--slurm-init-seconds-before-status-checks", "1",
                 "--seconds-between-status-checks", "1"]  # fmt: skip
        with self.told.open("w") as told:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *TARGETS, *words],
                cwd=folder, env=slurm.environment, stdout=told, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def submitted(self, rule: str = "") -> list[str]:
        """Return the ids of the jobs, of a rule or of all, that were submitted so far."""
        pattern = rf"submitted with SLURM jobid (\d+) \(log: \S*{rule}"
        return re.findall(pattern, self.told.read_text())

    def running(self) -> str:
        """Wait until a job of the kinetics is at work, and return its id."""
        for _ in range(600):
            at_work = self.slurm.call("squeue", "--noheader", "--states=R", "--format=%i").split()
            if found := set(at_work) & set(self.submitted("kinetics")):
                return min(found)
            assert self.process.poll() is None, self.told.read_text()
            time.sleep(0.1)
        raise AssertionError(self.told.read_text())

    def end(self) -> int:
        """Wait for the end, and return the exit status."""
        return self.process.wait(timeout=400)


def test_a_lost_job_costs_itself_alone_and_no_job_is_done_twice(slurm, folder):
    first = Run(slurm, folder, "first")
    slurm.call("scancel", first.running())
    assert first.end() != 0
    # crystals and their graphs are one job, two sets of alloys two
    assert len(first.submitted()) == 3, first.told.read_text()
    made = [(folder / target).exists() for target in TARGETS]
    assert made[0]
    assert made.count(True) == 2

    second = Run(slurm, folder, "second")
    job = second.running()
    second.process.kill()
    second.end()
    assert second.submitted() == [job]

    third = Run(slurm, folder, "third")
    assert third.end() == 0, third.told.read_text()
    assert third.submitted() == []
    told = third.told.read_text()
    assert "Slurm still works on 1 job of an earlier run, which is waited for" in told
    assert f"`scancel {job}`" in told
    assert all((folder / target).exists() for target in TARGETS)
