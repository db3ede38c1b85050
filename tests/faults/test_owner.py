"""Jobs end with the run that started them; locks of killed runs go, those of living ones stay."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from matml.core.integrity import owner

pytestmark = pytest.mark.skipif(owner.fcntl is None, reason="no locks of this kind on Windows")
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
# a job: it tells that it has begun, and would leave a file behind
JOB = """
import sys, time
from pathlib import Path
from matml.core.integrity.owner import end_with_run
end_with_run()
unfinished = Path(sys.argv[1])
try:
    unfinished.touch()
    print("begun", flush=True)
    time.sleep(300)
finally:
    unfinished.unlink()
"""
# a run: it takes the lock, starts the job by a shell as Snakemake does, and would wait for it
RUN = """
import subprocess, sys
from pathlib import Path
from matml.core.integrity.owner import shell_words, take_over
state = Path(".snakemake")
take_over(state)
(state / "locks").mkdir(exist_ok=True)
(state / "locks/0.output.lock").write_text("results/a")
words = shell_words(state) + f"{sys.executable} -c '{sys.argv[1]}' result.csv | tee log"
subprocess.run(["bash", "-c", words])
"""


@pytest.fixture
def run(tmp_path):
    """A run with a job at work, in its own session."""
    started = subprocess.Popen(
        [sys.executable, "-c", RUN, JOB], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        start_new_session=True, env=ENVIRONMENT,
    )  # fmt: skip
    assert started.stdout.readline() == "begun\n"
    yield started
    for end in (started.kill, started.stdout.close, started.wait):
        end()


def jobs(folder):
    """Process ids whose command line names the job's file and that work in the folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            line = (place / "cmdline").read_bytes()
            if b"result.csv" in line and (place / "cwd").resolve() == folder.resolve():
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_a_job_ends_with_its_run_and_leaves_nothing(run, tmp_path):
    assert jobs(tmp_path)
    assert (tmp_path / "result.csv").exists()
    run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while jobs(tmp_path):
        assert time.monotonic() < deadline, "the job outlives its run"
        time.sleep(0.05)
    assert not (tmp_path / "result.csv").exists()


def test_locks_of_a_killed_run_are_removed_once_its_jobs_are_gone(run, tmp_path, caplog):
    locks = tmp_path / ".snakemake/locks"
    other = (
        "from pathlib import Path; from matml.core.integrity.owner import take_over as t; t(Path())"
    )
    subprocess.run([sys.executable, "-c", other], cwd=locks.parent, env=ENVIRONMENT, check=True)
    assert list(locks.iterdir()), "a living run keeps its locks"
    run.kill()
    run.wait()
    owner.take_over(tmp_path / ".snakemake")
    assert not list(locks.iterdir())
    assert "an earlier run was killed: its locks are removed" in caplog.text
    assert not jobs(tmp_path)
    os.close(owner._held.pop())


def test_locks_that_another_host_may_hold_stay(tmp_path):
    state = tmp_path / ".snakemake"
    (state / "locks").mkdir(parents=True)
    (state / "locks/0.input.lock").write_text("a")
    (state / owner.LOCK).write_text("elsewhere 1234")
    owner.take_over(state)
    assert list((state / "locks").iterdir())
    os.close(owner._held.pop())


def test_a_job_whose_run_is_gone_already_does_not_begin(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    env = ENVIRONMENT | {owner.VARIABLE: f"{gone.pid} {tmp_path}/lock"}
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(tmp_path / "x.csv")],
        env=env, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode != 0
    assert time.monotonic() - start < 60
    assert not (tmp_path / "x.csv").exists()
