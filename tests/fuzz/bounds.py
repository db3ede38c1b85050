"""How many files are spoilt, and within what bounds each is read or refused."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matml.core.errors import MatmlError

SPOILT = int(os.environ.get("MATML_FUZZ", "360"))
SLOWEST_S = 20
MOST_MB = 1024
BEFORE_KB = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refused_or_read(read: Callable[[Path], Any], path: Path) -> Any:
    """Return what was read of a file; None where it is refused with its name and a reason."""
    begin, found, refusal = time.process_time(), None, None
    try:
        found = read(path)
    except MatmlError as error:
        refusal = str(error)
    assert time.process_time() - begin < SLOWEST_S
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1024 * MOST_MB + BEFORE_KB
    if refusal is not None:
        assert path.name in refusal or path.parent.name in refusal
        assert "\n" not in refusal
        assert len(refusal) < 5000
    return found
