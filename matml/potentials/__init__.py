"""What universal potentials say of crystals, as features of the predictors.

What users import stands here: `from matml.potentials import describe`. Importing it brings neither
ASE nor a potential along; `describe` does.
"""

from typing import TYPE_CHECKING

from matml.core.lazy import lazily

if TYPE_CHECKING:
    from matml.potentials.features import describe
    from matml.potentials.mechanics import Deformations
    from matml.potentials.named import Potential, load_potential

__all__ = ["Deformations", "Potential", "describe", "load_potential"]
__getattr__ = lazily(
    __name__,
    {
        "Deformations": "mechanics",
        "Potential": "named",
        "describe": "features",
        "load_potential": "named",
    },
)
