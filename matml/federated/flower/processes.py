"""Flower's programs as processes: begun with what they need, watched, and ended with all theirs."""

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from matml.core.errors import MatmlError
from matml.federated.flower.answers import Answers
from matml.federated.flower.link import Link, address

log = logging.getLogger(__name__)
GUARDS = "matml.federated.flower.guards"
READY_S, END_S = 120.0, 5.0
AGAIN_S, AGAIN_EVERY_S = 150.0, 5.0
"""A SuperLink takes a killed SuperNode for present for a minute, and refuses it so long."""


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_ready(host: str, port: int, authority: Path) -> bool:
    """Return whether somebody answers there whom the authority vouches for.

    Raises
    ------
    MatmlError
        Where who answers is another one.
    """
    context = ssl.create_default_context(cafile=authority)
    try:
        plain = socket.create_connection((host, port), timeout=5)
        with plain, context.wrap_socket(plain, server_hostname=host):
            return True
    except ssl.SSLCertVerificationError as error:
        raise MatmlError(
            f"{host}:{port}: {authority} does not vouch for its certificate "
            f"({error.verify_message}); give the ca.crt of the SuperLink's folder, and an address "
            "that its certificate names"
        ) from error
    except OSError:
        return False


@contextmanager
def running(program: str, line: Sequence[str], **variables: str) -> Iterator[subprocess.Popen]:
    """Run a guarded program of Flower; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", GUARDS, program, *line]
        process = subprocess.Popen(command, env=_environment(home, variables))
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen) -> None:
    """End a process and all that it began: asked to first, then by force."""
    # some are in sessions of their own and outlive it
    theirs = _descendants(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)
    for number in [process.pid, *theirs]:
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.wait()


def serve(
    folder: Path, host: str, port: int, laboratories: Mapping[str, Path], ready: Callable[[], None]
) -> None:
    """Run a SuperLink that these laboratories may join, until it is interrupted.

    Parameters
    ----------
    folder
        Of the certificates.
    ready
        Called when laboratories may join.
    """
    files = {
        name: folder / file
        for name, file in (
            ("--ssl-ca-certfile", "ca.crt"),
            ("--ssl-certfile", "server.crt"),
            ("--ssl-keyfile", "server.key"),
        )
    }
    for path in files.values():
        if not path.is_file():
            raise MatmlError(f"{path}: is not there; `matml federated flower certificates`")
    line = [word for name, path in files.items() for word in (name, str(path))]
    line += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    line += ["--host", host, "--port", str(port)]
    with running("superlink", line) as process:
        own = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        deadline = time.monotonic() + READY_S
        while not is_ready(own, port, files["--ssl-ca-certfile"]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise MatmlError(f"the SuperLink did not begin at {host}:{port}; see what it said")
            time.sleep(0.1)
        link = Link(f"{own}:{port}", files["--ssl-ca-certfile"])
        for name, path in laboratories.items():
            link.register(name, path)
        ready()
        if process.wait():
            raise MatmlError("the SuperLink ended; see what it said")


def join(superlink: str, authority: Path, key: Path, command: Callable[[Path, Path], None]) -> None:
    """Run a laboratory's SuperNode until it is interrupted.

    Parameters
    ----------
    command
        Writes the second file in answer to the first one.
    """
    host, port = address(superlink)
    is_ready(host, port, authority)
    line = ["--superlink", superlink, "--root-certificates", str(authority)]
    line += ["--auth-supernode-private-key", str(key), "--port"]
    deadline = time.monotonic() + AGAIN_S
    with Answers(command) as answers:
        while True:
            with running("supernode", [*line, str(free_port())], **answers.variables) as process:
                if not process.wait():
                    return
            if time.monotonic() > deadline:
                raise MatmlError("the SuperNode ended; see what it said")
            log.warning(
                "the SuperNode ended; tried again, as a SuperLink may begin later, and refuses for "
                "a minute who was killed; where it goes on, ask the coordinator whether your key "
                "is there"
            )
            time.sleep(AGAIN_EVERY_S)


def _environment(home: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Flower's programs: no telemetry, no look for updates."""
    # they begin each other by name
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {
        "FLWR_HOME": home,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": found,
    }
    return os.environ | own | dict(variables)


def _descendants(number: int) -> list[int]:
    """Return the ids of all processes that a process has begun, and those theirs."""
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
    children: dict[int, list[int]] = {}
    for line in told.splitlines():
        own, parent = map(int, line.split())
        children.setdefault(parent, []).append(own)
    found, left = list[int](), [number]
    while left:
        theirs = children.get(left.pop(), [])
        left += theirs
        found += theirs
    return found
