"""A run of the workflow and its jobs: no job outlives the run, and no lock outlives both.

Snakemake's own locks are files that a killed run leaves behind. Beside them stands one of the
kernel's: each run and each of its jobs holds it, and it is gone with the last of them.
"""

import logging
import os
import select
import shlex
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)
VARIABLE = "MATML_RUN"
"""Tells a job the process id of its run and the file of the lock."""
LOCK = "matml.lock"
SECONDS_TO_END = 3.0
"""Time for an orphan to remove what it has not finished."""
_held: list[int] = []


def may_live(state: Path) -> bool:
    """Return whether another run may be at work: here, or on a machine that cannot be asked."""
    if fcntl is None or not any((state / "locks").glob("*")):
        return False
    try:
        host, process = _owner((state / LOCK).read_bytes())
    except OSError:
        return True
    return host not in ("", socket.gethostname()) or _lives(process)


def take_over(state: Path) -> None:
    """Hold the lock of a run's folder, and remove Snakemake's locks where a killed run left them.

    Jobs that such a run has left end by themselves; they are waited for.

    Parameters
    ----------
    state
        `.snakemake`.
    """
    # a file system without such locks, a folder that cannot be written: as it was before
    with suppress(OSError):
        state.mkdir(parents=True, exist_ok=True)
        lock = _open(state / LOCK)
        if lock is None:
            return
        host, process = _owner(os.pread(lock, 1000, 0))
        left = list((state / "locks").glob("*"))
        if host in ("", socket.gethostname()):
            patience = 2 * SECONDS_TO_END if left and not _lives(process) else 0
            if _alone(lock, patience) and left:
                log.warning("an earlier run was killed: its locks are removed")
                for path in left:
                    path.unlink(missing_ok=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{socket.gethostname()} {os.getpid()}".encode(), 0)


def shell_words(state: Path) -> str:
    """Return what tells the jobs that this process starts by a shell whose they are."""
    return f"export {VARIABLE}={shlex.quote(f'{os.getpid()} {(state / LOCK).absolute()}')}; "


def end_with_run() -> None:
    """Hold the lock of the run that this process is a job of, and end when the run is gone."""
    process, _, lock = os.environ.get(VARIABLE, "").partition(" ")
    if not process.isdigit() or fcntl is None:
        return
    with suppress(OSError):
        if (held := _open(Path(lock))) is not None:
            fcntl.flock(held, fcntl.LOCK_SH)
    # unfinished files are removed, as after Ctrl-C, which a shell's background jobs do not get
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    threading.Thread(target=_end_after, args=(int(process),), daemon=True).start()


def locked(handle: int) -> bool:
    """Lock an open file for this process; False where another holds it, or there are no locks."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(said: bytes) -> tuple[str, int]:
    """Return the host and the process id of the run that a lock's content names."""
    words = said.decode(errors="replace").split()
    return (words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else ("", 0)


def _open(path: Path) -> int | None:
    """Return the lock's file, held open as long as this process lives."""
    if fcntl is None:
        return None
    _held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o666))
    return _held[-1]


def _alone(lock: int, patience: float) -> bool:
    """Return whether nobody else holds the lock, after so many seconds at most."""
    deadline = time.monotonic() + patience
    while True:
        if locked(lock):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)


def _lives(process: int) -> bool:
    """Return whether there is a process of this id."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process > 0


def _end_after(process: int) -> None:
    """Wait for the end of a process, then end this one: cleanly, or else at once."""
    try:
        # the kernel tells of its end
        select.select([os.pidfd_open(process)], [], [])
    except ProcessLookupError:
        pass
    except (OSError, AttributeError):
        while _lives(process):
            time.sleep(0.5)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(1)
