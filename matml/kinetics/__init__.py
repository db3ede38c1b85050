"""Phase-transformation kinetics across alloys.

What users import stands here: `from matml.kinetics import Population`. Importing it brings torch
along, importing the package alone does not.
"""

from typing import TYPE_CHECKING

from matml.core.lazy import lazily

if TYPE_CHECKING:
    from matml.kinetics.frames import CalibratedAlloy, Population

__all__ = ["CalibratedAlloy", "Population"]
__getattr__ = lazily(__name__, {"CalibratedAlloy": "frames", "Population": "frames"})
