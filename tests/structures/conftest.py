import sys
from pathlib import Path

import pytest

# the builders are shared by the tests of this folder only
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def repository():
    """Root of the repository."""
    return Path(__file__).parents[2]
