"""Ten faults in every run of the tests; more by hand: ``MATML_CHAOS=100 pytest tests/faults``."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from chaos import prepared


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_nothing_is_lost_other_or_stuck_whatever_is_killed(tmp_path):
    faults, seed = (
        int(os.environ.get(f"MATML_CHAOS{end}", n)) for end, n in (("", 10), ("_SEED", 0))
    )
    chaos = prepared(tmp_path, seed)
    chaos.run(faults)
    print(dict(chaos.done))
    assert not chaos.problems, "\n".join(chaos.problems)
    assert chaos.done["files spoilt"] >= 6
