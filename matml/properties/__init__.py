"""The crystal-graph property predictor across material families.

What users import stands here: `from matml.properties import FewShotPredictor`. Importing it brings
torch along, importing the package alone does not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matml.properties.predictor.adapted import AdaptedPredictor
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.properties.predictor.fitted import FittedPredictor
    from matml.properties.predictor.regressor import FewShotRegressor

__all__ = ["AdaptedPredictor", "FewShotPredictor", "FewShotRegressor", "FittedPredictor"]
_MODULES = {
    "AdaptedPredictor": "adapted",
    "FewShotPredictor": "few_shot",
    "FewShotRegressor": "regressor",
    "FittedPredictor": "fitted",
}


def __getattr__(name: str) -> Any:
    """Return a public class, imported when it is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.predictor.{_MODULES[name]}"), name)
