"""The stacked Gaussian process as a method: the default where it was fitted."""

import numpy as np

from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Method, Trained
from matml.properties.stack.base_models import Inputs
from matml.properties.stack.fit import AdaptedStack


class Stacked(Method[Inputs, AdaptedStack]):
    """The stacked Gaussian process, whose intervals are calibrated in its own deviations."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.fitted = trained.stack()

    def view(self, crystals: EncodedCrystals) -> Inputs:
        """As of `Method`."""
        return crystals.inputs

    def fit(self, support: Inputs, labels: np.ndarray) -> AdaptedStack:
        """As of `Method`."""
        return self.fitted.adapt(support, labels)

    def predict(self, state: AdaptedStack, query: Inputs) -> tuple[np.ndarray, np.ndarray]:
        """As of `Method`."""
        return state.predict(query)

    def half_width(
        self, deviation: np.ndarray | None, shots: int, distance: np.ndarray
    ) -> np.ndarray:
        """As of `Method`."""
        assert deviation is not None
        return deviation * self.fitted.scale(shots) * np.maximum(distance, 1)

    def over(self, crystals: EncodedCrystals) -> JointPool:
        """As of `Method`."""
        stack = self.fitted.stack
        process = stack.joint(self.fitted.models.predict(crystals.inputs))
        return JointPool(process, float(stack.noise), stack)
