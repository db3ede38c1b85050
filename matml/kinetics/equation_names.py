"""The equations that come with matml, as `equations.json` declares them, without torch."""

import json
from pathlib import Path
from typing import Any

from matml.core.errors import MatmlError

BUILT_IN = Path(__file__).parent / "equations.json"
"""Made anew by `python -m matml.kinetics.listing` after a change."""


def built_in_equations() -> list[dict[str, Any]]:
    """Return the declarations of all equations that come with matml."""
    return list(json.loads(BUILT_IN.read_text(encoding="utf-8")))


def check_equation(name: Any) -> None:
    """Raise MatmlError for what is neither the name of an equation nor a Python file."""
    known = [what["name"] for what in built_in_equations()]
    if not isinstance(name, str) or not (name in known or name.endswith(".py")):
        raise MatmlError(
            f"equation {name!r} is unknown; known ones are {', '.join(known)}, or a Python file "
            "(path ending in .py) that defines EQUATION"
        )
