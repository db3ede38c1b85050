"""Freed memory is kept."""

import subprocess
import sys

import pytest

from matml.core.processors import keep_memory

# blocks as large as a batch's arrays, all freed and taken again
SCRIPT = """
import resource
import numpy as np
from matml.core.processors import keep_memory

{call}
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [np.ones(10 << 17) for _ in range(10)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(call):
    command = [sys.executable, "-c", SCRIPT.format(call=call)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout)


def test_memory_is_not_mapped_anew_when_it_is_taken_again():
    if not keep_memory():
        pytest.skip("the C library has no mallopt")
    kept, given_back = faults("keep_memory()"), faults("")
    # 100 MB are 25,600 pages of 4 kB
    assert kept < 0.1 * given_back
