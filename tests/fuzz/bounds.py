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


def peak_kb() -> int:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refused_or_read(read: Callable[[Path], Any], path: Path) -> Any:
    """Return what was read of a file; None where it is refused with its name and a reason."""
    # other tests of this process may have held more before
    begin, before, found, refusal = time.process_time(), peak_kb(), None, None
    try:
        found = read(path)
    except MatmlError as error:
        refusal = str(error)
    assert time.process_time() - begin < SLOWEST_S
    assert peak_kb() - before < 1024 * MOST_MB
    if refusal is not None:
        assert path.name in refusal or path.parent.name in refusal
        assert "\n" not in refusal
        assert len(refusal) < 5000
    return found
