"""Candidates, ranking, shortlist.

What users import stands here: `from matml.screening import LabelNext`, which brings torch along;
importing the package alone does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matml.screening.acquire.label_next import LabelNext

__all__ = ["LabelNext"]


def __getattr__(name: str) -> Any:
    """Return the public class, imported when it is asked for."""
    if name != "LabelNext":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.acquire.label_next").LabelNext
