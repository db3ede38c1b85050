"""A pure function over many items: in order, on as many processes as there are processors."""

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from tqdm import tqdm

from matml.errors import MatmlError
from matml.processors import usable_threads

logger = logging.getLogger(__name__)
# below this many items, starting processes costs more than it saves
MIN_PARALLEL = 400
SECONDS_BETWEEN_LINES = 15.0


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
