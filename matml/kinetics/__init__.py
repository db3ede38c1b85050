"""Phase-transformation kinetics across alloys.

What users import stands here: `from matml.kinetics import Population`. Importing it brings torch
along, importing the package alone does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matml.kinetics.frames import CalibratedAlloy, Population

__all__ = ["CalibratedAlloy", "Population"]


def __getattr__(name: str) -> Any:
    """Return a public class, imported when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.frames"), name)
