"""The crystal-graph property predictor across material families.

What users import stands here: `from matml.properties import FewShotPredictor`. Importing it brings
torch along, importing the package alone does not.
"""

from typing import TYPE_CHECKING

from matml.core.lazy import lazily

if TYPE_CHECKING:
    from matml.properties.predictor.adapted import AdaptedPredictor
    from matml.properties.predictor.few_shot import FewShotPredictor
    from matml.properties.predictor.fitted import FittedPredictor
    from matml.properties.predictor.regressor import FewShotRegressor

__all__ = ["AdaptedPredictor", "FewShotPredictor", "FewShotRegressor", "FittedPredictor"]
__getattr__ = lazily(
    __name__,
    {
        "AdaptedPredictor": "predictor.adapted",
        "FewShotPredictor": "predictor.few_shot",
        "FewShotRegressor": "predictor.regressor",
        "FittedPredictor": "predictor.fitted",
    },
)
