"""How many processors are really there."""

import os


def usable_threads(asked: int) -> int:
    """Return the threads to use: what was asked for, but no more than this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    return max(1, min(asked, there))
