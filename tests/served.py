"""An interpreter that has imported its libraries already runs each command in a fork of itself.

To import torch and what goes with it takes two to four seconds of processor time, and tests start
commands by the dozen. `commands` starts the server and gives a folder in which `matml` and `python`
ask it: arguments, folder, variables and open streams are their caller's.
"""

import gc
import json
import os
import runpy
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("torch", "torch.distributed.run", "pandas", "pyarrow.parquet", "pymatgen.core"),
    *("scipy.optimize", "scipy.spatial", "scipy.special", "scipy.stats", "matplotlib.pyplot"),
    *("matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "safetensors.torch"),
)
"""Imported before a command asks for them; nothing of matml is."""
SERVERS: list[int] = []
"""Process ids of those that run."""


@contextmanager
def commands(folder: Path, python: Path = Path(sys.executable)) -> Iterator[Path]:
    """Start a server of an interpreter; yields the folder of its commands."""
    place = folder / "server"
    for name in ("matml", "python"):
        command = folder / name
        asked = f'exec {python} -I -S {__file__} ask {place} {name} "$@"'
        command.write_text(f"#!/bin/sh\n{asked}\n")
        command.chmod(0o755)
    # the clone is on the path of those alone that say so
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    words = [str(python), "-P", __file__, "serve", str(place)]
    with subprocess.Popen(words, env=own, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        assert server.stdout.readline(), "the server has not begun"
        SERVERS.append(server.pid)
        yield folder
        SERVERS.remove(server.pid)
        server.terminate()


def commands_seconds() -> float:
    """Return the processor time of what servers have run and waited for."""
    if not Path("/proc/self").exists():
        return 0.0
    states = [Path(f"/proc/{server}/stat").read_text() for server in SERVERS]
    times = [state.rpartition(")")[2].split()[13:15] for state in states]
    return sum(int(ticks) for pair in times for ticks in pair) / os.sysconf("SC_CLK_TCK")


def ask(place: str, words: list[str]) -> int:
    """Have a command run with the streams of this process; returns its exit code."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(place)
        socket.send_fds(server, [b"?"], [0, 1, 2])
        asked = {"words": words, "folder": os.getcwd(), "variables": dict(os.environ)}
        server.sendall(json.dumps(asked).encode() + b"\n")
        return int(server.recv(100) or 1)


def serve(place: str) -> None:
    """Run every command that is asked for in a fork."""
    for library in LIBRARIES:
        __import__(library)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(place)
    listening.listen(64)
    gc.freeze()
    print("ready", flush=True)
    running: dict[int, tuple[multiprocessing.process.BaseProcess, socket.socket]] = {}
    while True:
        for ready in select.select([listening.fileno(), *running], [], [])[0]:
            if ready in running:
                process, caller = running.pop(ready)
                process.join()
                code = process.exitcode or 0
                # which may be gone by now
                with caller, suppress(OSError):
                    caller.send(str(code if code >= 0 else 128 - code).encode())
                continue
            caller, _ = listening.accept()
            _, streams, *_ = socket.recv_fds(caller, 1, 3)
            with caller.makefile("rb") as request:
                asked = json.loads(request.readline())
            used = [listening, caller, *(given for _, given in running.values())]
            process = FORK.Process(target=become, args=(used, streams), kwargs=asked)
            process.start()
            running[process.sentinel] = process, caller
            for stream in streams:
                os.close(stream)


def become(
    used: list[socket.socket],
    streams: list[int],
    words: list[str],
    folder: str,
    variables: dict[str, str],
) -> None:
    """Run a command with the streams, in the folder and under the variables of its caller."""
    for one in used:
        one.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = os.fdopen(0)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))
    run(words)


def run(words: list[str]) -> Any:
    """Run a command as the interpreter would at its start."""
    name, *given = words
    if name == "matml":
        sys.argv = words
        from matml.cli.main import main

        return main()
    option, *rest = given
    if option in ("-c", "-m"):
        sys.argv = [option, *rest[1:]]
        sys.path.insert(0, "")
        if option == "-m":
            return runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return exec(rest[0], {"__name__": "__main__"})
    sys.argv = given
    return runpy.run_path(option, run_name="__main__")


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    import multiprocessing.process

    FORK = multiprocessing.get_context("fork")
    serve(sys.argv[2])
