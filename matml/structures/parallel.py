"""A pure function over many items: in order, on as many processes as there are processors."""

import logging
import multiprocessing
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from tqdm import tqdm

from matml.errors import MatmlError
from matml.processors import usable_threads

logger = logging.getLogger(__name__)
# below this many items, starting processes costs more than it saves
MIN_PARALLEL = 400
SECONDS_BETWEEN_LINES = 15.0
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

    Processes are spawned, not forked, so that libraries with threads of their own are safe.

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
        Where a process dies (out of memory, most likely).
    """
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    workers = min(processors(threads), len(chunks))
    if workers <= 1 or len(items) < MIN_PARALLEL:
        parts = (_run_chunk(function, chunk) for chunk in chunks)
        return _collect(parts, len(items), title)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            return _collect(pool.map(partial(_run_chunk, function), chunks), len(items), title)
        except BrokenProcessPool:
            raise MatmlError(
                f"{title}: a worker process died, most likely out of memory; "
                "use fewer --threads or leave out the largest structures"
            ) from None


_END = object()


class Helpers:
    """Further processes that share the work of this one, which does not wait for them to start.

    They are spawned, as those of `map_ordered`. Use it as a context manager: processes start on
    entering and end on leaving.

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
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(max(number, 1), context, prepare, arguments)

    def __enter__(self) -> "Helpers":
        # a process starts when it has something to do
        for _ in range(self.number):
            self._pool.submit(_nothing)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

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
            Where a process dies (out of memory, most likely).
        """
        items, waiting = iter(items), deque[Future]()
        try:
            while True:
                # the helpers first, so that they do not wait while the caller uses a result
                while sum(not each.done() for each in waiting) < 2 * self.number:
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
        except BrokenProcessPool:
            raise MatmlError(
                f"{self.title}: a worker process died, most likely out of memory; "
                "use fewer processes"
            ) from None


def _nothing() -> None:
    """What a process starts with."""


def _collect(parts: Iterator[list], total: int, title: str) -> list:
    """Join the parts; a bar on a terminal, else a plain line now and then."""
    results: list = []
    last = time.monotonic()
    with tqdm(total=total, desc=title, unit="", disable=not sys.stderr.isatty()) as bar:
        for part in parts:
            results.extend(part)
            bar.update(len(part))
            if bar.disable and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                logger.info("%s: %d of %d", title, len(results), total)
    return results
