"""Further processes that share the work of this one.

They know nothing of this module: what they are given is of the standard library.
"""

import contextlib
import operator
import os
import signal
import subprocess
import sys
import time
import types
from functools import partial
from pathlib import Path

import pytest

from matml.core.errors import MatmlError
from matml.core.parallel import Helpers, progress_bar

HELPED = """
import operator, signal, time
from functools import partial
from matml.core.parallel import Helpers
def main():
    # ignored, where the tests run in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Helpers(1, "numbers") as helpers:
        print("started", flush=True)
        while not helpers.ready:
            time.sleep(0.01)
        print(*helpers.ready, flush=True)
        time.sleep(60)
"""
GUARDED = f"{HELPED}\nif __name__ == '__main__':\n    main()\n"


@pytest.fixture
def script(tmp_path):
    """Start a script in a session of its own; what is left of it is ended."""
    running = []

    def start(text: str) -> subprocess.Popen:
        path = tmp_path / "script.py"
        path.write_text(text)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        running.append(
            subprocess.Popen([sys.executable, path], **pipes, text=True, start_new_session=True)
        )
        return running[-1]

    yield start
    for each in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.pid, signal.SIGKILL)
        each.communicate()


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # one that has ended and that nobody has asked about is still there
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_results_come_in_order_from_this_process_and_the_others():
    items = [partial(divmod, i, 7) for i in range(300)]
    who = [os.getpid if i % 2 else partial(time.sleep, 0.01) for i in range(400)]
    with Helpers(1, "numbers") as helpers:
        wait_for(lambda: helpers.ready)
        assert list(helpers.share(operator.call, items)) == [divmod(i, 7) for i in range(300)]
        by = {*helpers.share(operator.call, who)} - {None}
    assert os.getpid() in by
    assert len(by) == 2


def test_this_process_does_its_part_its_own_way_and_all_of_it_without_others():
    with Helpers(0, "numbers") as helpers:
        found = helpers.share(operator.call, range(5), own=operator.neg)
        assert list(found) == [0, -1, -2, -3, -4]


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for i in range(10_000):
            taken.append(i)
            yield partial(divmod, i, 7)

    with Helpers(1, "numbers") as helpers:
        results = helpers.share(operator.call, items())
        assert next(results) == (0, 0)
        assert len(taken) < 100


def test_an_error_of_a_helper_and_its_death_reach_the_caller():
    items = [partial(divmod, 1, i) for i in (2, 1, 0)]
    with pytest.raises(ZeroDivisionError), Helpers(1, "numbers") as helpers:
        list(helpers.share(operator.call, items))
    dies = [partial(os._exit, 1) for _ in range(100)]
    with Helpers(1, "numbers") as helpers:
        wait_for(lambda: helpers.ready)
        with pytest.raises(MatmlError, match=r"numbers: a worker process died.*fewer processes"):
            list(helpers.share(operator.call, dies, own=lambda item: None))


def test_processes_that_start_slowly_are_not_waited_for():
    begin = time.monotonic()
    with Helpers(1, "numbers", time.sleep, (60,)) as helpers:
        assert list(helpers.share(operator.neg, range(100))) == [-i for i in range(100)]
    assert time.monotonic() - begin < 20


def test_leaving_early_ends_the_processes():
    with Helpers(1, "numbers") as helpers:
        wait_for(lambda: helpers.ready)
        results = helpers.share(operator.call, [partial(bytes, 1_000_000)] * 50)
        next(results)
        (helper,) = helpers.ready
    assert not is_running(helper)


def test_processes_end_with_one_that_is_killed(script):
    killed = script(GUARDED)
    assert killed.stdout.readline() == "started\n"
    helper = int(killed.stdout.readline())
    assert is_running(helper)
    killed.kill()
    wait_for(lambda: not is_running(helper), 10)


@pytest.mark.parametrize("started", [False, True])
def test_an_interruption_is_told_once(script, started):
    interrupted = script(GUARDED)
    assert interrupted.stdout.readline() == "started\n"
    if started:
        interrupted.stdout.readline()
    os.killpg(interrupted.pid, signal.SIGINT)
    _, told = interrupted.communicate(timeout=20)
    assert told.count("Traceback") == told.count("KeyboardInterrupt") == 1


def test_a_script_without_the_guard_is_told_of_it(script):
    work = """
with Helpers(1, "numbers") as helpers:
    print(list(helpers.share(operator.call, [partial(time.sleep, 0.05)] * 500)))
"""
    _, told = script(HELPED + work).communicate(timeout=60)
    last = told.strip().splitlines()[-1]
    assert last.startswith(
        "matml.core.errors.MatmlError: numbers: further processes could not start"
    )
    assert '`if __name__ == "__main__":`' in last


class Kernel:
    """What IPython gives as its shell in a notebook."""

    kernel = object()


@pytest.mark.parametrize("shell", [Kernel(), object(), None])
def test_a_bar_is_shown_where_one_can_be_seen(shell, monkeypatch, capsys):
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr("matml.core.parallel.find_spec", lambda _: None)
    with progress_bar("training", total=2, unit="epoch", mininterval=0) as bar:
        bar.update()
        bar.update()
    told = capsys.readouterr()
    # a file of a log is no place for a bar
    assert not told.err
    assert ("training: 100%" in told.out and "2/2" in told.out) == isinstance(shell, Kernel)
