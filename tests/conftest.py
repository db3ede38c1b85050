"""One thread a process of tests; limits on time that a slow or busy machine keeps, too."""

import gc
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

# before torch or numpy come in: tests run in as many processes as there are processors
os.environ.setdefault("OMP_NUM_THREADS", "1")

# modules that tests share
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import pytest
import served
from pymatgen.core.operations import SymmOp

# libraries come in without a search for cycles every 700 objects
gc.set_threshold(10_000)
REFERENCE_S = 0.06
LONGEST = (
    *("packaging/test_wheel.py", "faults/test_chaos.py", "properties/test_benchmark.py"),
    *("meta/test_oracles.py", "kinetics/test_learning.py", "kinetics/test_processes.py"),
    *("properties/test_devices.py", "studies/test_patients.py", "kinetics/test_design.py"),
    *("fuzz/test_crystals.py", "meta/test_policy.py", "properties/test_new_property.py"),
)
"""Files of tests that take longest, a third of all: begun last, one process would wait for them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first."""
    rank = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """Leave what libraries and tests hold out of all later searches for cycles."""
    gc.freeze()


def pytest_unconfigure() -> None:
    """End without such a search."""
    gc.freeze()


def _equal(one: SymmOp, other: object) -> bool:
    if not isinstance(other, SymmOp):
        return NotImplemented
    expected = other.affine_matrix
    close = np.abs(one.affine_matrix - expected) <= one.tol + 1e-5 * np.abs(expected)
    return bool(close.all())


# as `numpy.allclose` has it, five times as fast: a crystal of Fm-3m compares its 192 operations in
# pairs, for most of a second
SymmOp.__eq__ = _equal


def processor_seconds() -> float:
    """Return the processor time of this process, of those that it has waited for, of commands."""
    return sum(os.times()[:4]) + served.commands_seconds()


def yardstick() -> float:
    """Return the processor seconds of a fixed piece of interpreted and vectorised work."""
    table = np.random.default_rng(0).random(400_000)
    begin = processor_seconds()
    for _ in range(2):
        np.sort(table)
        sum(n * n % 7 for n in range(700_000))
    return (processor_seconds() - begin) / 2


@pytest.fixture(scope="session")
def shipped() -> Any:
    """The shipped model; what is fitted stays so, which takes seconds for formation energies."""
    # not by the process that hands the tests out
    from matml.properties import FewShotPredictor

    predictor = FewShotPredictor.load()
    predictor.fitted = cache(predictor.fitted)
    return predictor


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables of an environment whose `matml` and `python` have their libraries already."""
    with served.commands(tmp_path_factory.mktemp("commands")) as folder:
        yield os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="session")
def chromium_executable() -> str:
    """Where an installed Chromium is; without one, tests that need it are skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if (found := next(filter(None, map(shutil.which, names)), None)) is None:
        pytest.skip("needs Chromium, which pip cannot install")
    return found


@pytest.fixture
def within() -> Callable[[float], AbstractContextManager[None]]:
    """A block ends within so many seconds of a machine that needs REFERENCE_S for the yardstick.

    By the clock or in processor time, whichever is less. The yardstick is laid on before and after
    the block: neither a slow nor a busy machine fails what became no slower.
    """

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        before, begin, clock = yardstick(), processor_seconds(), time.perf_counter()
        yield
        spent = min(time.perf_counter() - clock, processor_seconds() - begin)
        slower = max(1.0, max(before, yardstick()) / REFERENCE_S)
        assert spent < seconds * slower, f"{spent:.2f} s on a machine {slower:.1f} times as slow"

    return limit
