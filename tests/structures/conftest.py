import os
import sys
from pathlib import Path

import pytest

# spglib, which some tests compare with, warns at each call unless it raises exceptions
os.environ.setdefault("SPGLIB_OLD_ERROR_HANDLING", "0")
os.environ.setdefault("SPGLIB_WARNING", "OFF")
# the builders are shared by the tests of this folder only
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def repository():
    """Root of the repository."""
    return Path(__file__).parents[2]
