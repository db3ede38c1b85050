"""How many processors are really there, and how memory is taken on them."""

import ctypes
import os


def usable_threads(asked: int) -> int:
    """Return the threads to use: what was asked for, but no more than this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    return max(1, min(asked, there))


def keep_memory() -> bool:
    """Let the C library keep up to 256 MB that were freed; returns whether it agreed.

    Batches' arrays of some MB are otherwise given back to the system and mapped anew, page by page,
    at every step of training: a sixth of an epoch. No number depends on it. Only glibc is asked,
    by its `mallopt(3)`; elsewhere nothing is done.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3
    # blocks above 32 MB are mapped in any case: it is the largest threshold allowed
    return bool(mallopt(mmap_threshold, 32 << 20) and mallopt(trim_threshold, 256 << 20))
