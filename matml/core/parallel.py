"""A pure function over many items: in order, on as many processes as there are processors."""

import logging
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from threading import Event, Thread
from typing import Any

from tqdm import tqdm

from matml.core.errors import MatmlError
from matml.core.processors import usable_threads

logger = logging.getLogger(__name__)
# below this many items, starting processes costs more than it saves
MIN_PARALLEL = 400
SECONDS_BETWEEN_LINES = 8.0
MOST_WAITING = 32
"""Results of `Helpers` that wait for one before them, so that memory does not grow with items."""


def processors(threads: int | None) -> int:
    """Processes to use: what is asked for, at most the processors this process may run on."""
    return usable_threads(sys.maxsize if threads is None else threads)


def _run_chunk(function: Callable, chunk: Sequence) -> list:
    return [function(item) for item in chunk]


def map_ordered(
    function: Callable, items: Sequence, threads: int | None, title: str, chunk_size: int = 64
) -> list:
    """Return `[function(item) for item in items]`.

    Parameters
    ----------
    function
        Picklable; must not depend on the order of calls.
    threads
        Processes wanted; None for one per processor.
    title
        What the progress is called.

    Raises
    ------
    MatmlError
        As of `Helpers.share`.
    """
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    workers = min(processors(threads), len(chunks))
    if workers <= 1 or len(items) < MIN_PARALLEL:
        alone = (_run_chunk(function, chunk) for chunk in chunks)
        return _collect(alone, len(items), title)
    with Helpers(workers - 1, title) as helpers:
        parts = helpers.share(partial(_run_chunk, function), chunks)
        return _collect(parts, len(items), title)


_END = object()


class _Spawning(SpawnContext):
    """Starts processes anew, and keeps those that it has started."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        """Return a process, not started yet; the name is that of `multiprocessing`."""
        self.started.append(SpawnProcess(*args, **kwargs))
        return self.started[-1]


class Helpers:
    """Further processes that share the work of this one, which does not wait for them to start.

    They are spawned, so that libraries with threads of their own are safe. Use it as a context
    manager: processes start on entering and end on leaving, those that are still starting at once.
    They end with this process, too, however it ends, and leave Ctrl-C to it.

    Parameters
    ----------
    number
        How many, beside this process; may be 0.
    title
        What they do, for messages.
    prepare, arguments
        Called once in each process as it starts.
    """

    def __init__(
        self, number: int, title: str, prepare: Callable | None = None, arguments: tuple = ()
    ) -> None:
        self.number, self.title = number, title
        self._context = _Spawning()
        self._told, self._ready = self._context.SimpleQueue(), set[int]()
        given = (self._told, prepare, arguments)
        self._pool = ProcessPoolExecutor(max(number, 1), self._context, _begin, given)
        self._first: list[Future] = []

    def __enter__(self) -> "Helpers":
        # a process starts when it has something to do
        with _interrupts_held_back():
            self._first = [self._pool.submit(_nothing) for _ in range(self.number)]
        return self

    def __exit__(self, *_: object) -> None:
        ready = self.ready
        # one that works may be sending a result, which must not be cut short
        for process in self._context.started:
            if process.pid not in ready:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)

    @property
    def ready(self) -> set[int]:
        """Process ids of those that have started."""
        while not self._told.empty():
            self._ready.add(self._told.get())
        return self._ready

    def share(self, function: Callable, items: Iterable, own: Callable | None = None) -> Iterator:
        """Yield `function(item)` for each item, in order.

        Parameters
        ----------
        function
            Picklable; for the helpers.
        own
            The same for this process, which does what the helpers have no room for.

        Raises
        ------
        MatmlError
            Where a process cannot start, or dies (out of memory, most likely).
        """
        items, waiting = iter(items), deque[Future]()
        try:
            while True:
                for first in self._first:
                    if first.done():
                        first.result()
                # the helpers first, so that they do not wait while the caller uses a result
                while sum(not each.done() for each in waiting) < 2 * len(self.ready):
                    if (item := next(items, _END)) is _END:
                        break
                    waiting.append(self._pool.submit(function, item))
                if waiting and (waiting[0].done() or len(waiting) > MOST_WAITING):
                    yield waiting.popleft().result()
                elif (item := next(items, _END)) is not _END:
                    done: Future = Future()
                    done.set_result((own or function)(item))
                    waiting.append(done)
                elif waiting:
                    yield waiting.popleft().result()
                else:
                    return
        except BrokenProcessPool as broken:
            # what could not be read back is a fault of ours, and says so
            if broken.__cause__ is not None:
                raise
            why = "a worker process died, most likely out of memory; use fewer processes"
            if not self.ready:
                why = (
                    "further processes could not start: each imports the script anew, so keep it "
                    'in a file with its work under `if __name__ == "__main__":`, or use one process'
                )
            raise MatmlError(f"{self.title}: {why}") from None


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that start meanwhile take no notice of Ctrl-C, where the system allows it.

    It goes to all processes of a terminal; each would print where it was interrupted.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(told: SimpleQueue, prepare: Callable | None, arguments: tuple) -> None:
    """Start a helper."""
    Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)
    told.put(os.getpid())


def _end_with_parent() -> None:
    """End this process once the one that started it is gone, which may have been killed."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
    os._exit(1)


def _nothing() -> None:
    """What a process starts with."""


@contextmanager
def heartbeat(say: Callable[[], str], seconds: float = SECONDS_BETWEEN_LINES) -> Iterator[None]:
    """Log a line now and then while the block works, however long each of its parts takes."""
    done = Event()

    def beat() -> None:
        while not done.wait(seconds):
            logger.info("%s", say())

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def progress_bar(title: str, *, total: int, unit: str = "", **options: Any) -> tqdm:
    """Return a bar to update: on a terminal and in a notebook, else one that shows nothing.

    In a notebook it is a widget where `ipywidgets` is installed, else a line.

    Parameters
    ----------
    options
        Of `tqdm`.
    """
    given: dict[str, Any] = {"desc": title, "total": total, "unit": unit, "leave": False} | options
    if not _in_notebook():
        return tqdm(**{"disable": not sys.stderr.isatty()} | given)
    if find_spec("ipywidgets"):
        from tqdm.notebook import tqdm as widget

        return widget(**given)
    return tqdm(**given | {"file": sys.stdout})


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    # of IPython on a terminal there is none
    return hasattr(shell, "kernel")


def _collect(parts: Iterator[list], total: int, title: str) -> list:
    """Join the parts; a bar on a terminal, else a plain line now and then."""
    results: list = []
    with progress_bar(title, total=total, leave=True) as bar:
        if not bar.disable:
            for part in parts:
                results.extend(part)
                bar.update(len(part))
            return results
        with heartbeat(lambda: f"{title}: {len(results)} of {total}"):
            for part in parts:
                results.extend(part)
    return results
