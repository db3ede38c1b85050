"""What universal potentials say of crystals, as features of the predictors.

What users import stands here: `from matml.potentials import describe`. Importing it brings neither
ASE nor a potential along; `describe` does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matml.potentials.features import describe
    from matml.potentials.mechanics import Deformations
    from matml.potentials.named import Potential, load_potential

__all__ = ["Deformations", "Potential", "describe", "load_potential"]
_MODULES = {
    "Deformations": "mechanics",
    "Potential": "named",
    "describe": "features",
    "load_potential": "named",
}


def __getattr__(name: str) -> Any:
    """Return a public class or function, imported when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
