"""One thread a process of tests; limits on time that a slow or busy machine keeps, too."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

# before torch or numpy come in: tests run in as many processes as there are processors
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

REFERENCE_S = 0.06


def yardstick() -> float:
    """Return the seconds of a fixed piece of interpreted and vectorised work, the best of three."""
    table = np.random.default_rng(0).random(400_000)

    def once() -> float:
        begin = time.perf_counter()
        np.sort(table)
        sum(n * n % 7 for n in range(700_000))
        return time.perf_counter() - begin

    return min(once() for _ in range(3))


@pytest.fixture
def within() -> Callable[[float], AbstractContextManager[None]]:
    """A block ends within so many seconds of a machine that needs REFERENCE_S for the yardstick.

    The yardstick is laid on before and after the block: neither a slow nor a busy machine fails
    what became no slower.
    """

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        before, begin = yardstick(), time.perf_counter()
        yield
        spent = time.perf_counter() - begin
        slower = max(1.0, max(before, yardstick()) / REFERENCE_S)
        assert spent < seconds * slower, f"{spent:.2f} s on a machine {slower:.1f} times as slow"

    return limit
