"""Methods on descriptors alone, and the mean of the support."""

import numpy as np

from matml.gp.exact import GlobalGP
from matml.properties.methods.corrected import Corrected, Plain
from matml.properties.methods.encoded import EncodedCrystals
from matml.properties.methods.joint import JointPool
from matml.properties.methods.method import Method, Trained

TREES, PROCESS = "extra_trees", "global_gp"
"""Kinds of baselines."""


class SupportMean(Method[np.ndarray, float]):
    """The mean of the support's labels; of all training crystals where there is none."""

    def view(self, crystals: EncodedCrystals) -> np.ndarray:
        """As of `Method`: the number of crystals is enough."""
        return np.zeros(len(crystals))

    def fit(self, support: np.ndarray, labels: np.ndarray) -> float:
        """As of `Method`."""
        return float(labels.mean()) if len(labels) else 0.0

    def predict(self, state: float, query: np.ndarray) -> tuple[np.ndarray, None]:
        """As of `Method`."""
        return query + state, None


class Trees(Corrected):
    """Extra-trees, to which labels of the family add nothing."""

    kind = TREES

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.baseline = trained.baseline(self.kind)
        self.processes = [None]

    def view(self, crystals: EncodedCrystals) -> Plain:
        """As of `Method`."""
        features = crystals.descriptors
        # scikit-learn refuses to predict nothing
        prediction = self.baseline.predict(features) if len(features) else np.zeros(0)
        return Plain(prediction[None], features[None])


class CorrectedTrees(Trees):
    """Extra-trees with a Gaussian process on the residuals of the support."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        self.processes = [self.baseline.residual_gp]


class CorrectedProcess(CorrectedTrees):
    """The global Gaussian process with another one on the residuals of the support."""

    kind = PROCESS


class Process(Method[np.ndarray, tuple[np.ndarray, np.ndarray]]):
    """The global Gaussian process, conditioned on the support as on its training crystals."""

    def __init__(self, name: str, trained: Trained) -> None:
        super().__init__(name, trained)
        model = trained.baseline(PROCESS).model
        assert isinstance(model, GlobalGP)
        self.model = model

    def view(self, crystals: EncodedCrystals) -> np.ndarray:
        """As of `Method`."""
        return crystals.descriptors

    def fit(self, support: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of `Method`."""
        return support, labels

    def predict(
        self, state: tuple[np.ndarray, np.ndarray], query: np.ndarray
    ) -> tuple[np.ndarray, None]:
        """As of `Method`."""
        if not len(state[1]):
            return self.model.predict(query), None
        return self.model.adapt(*state, query), None

    def over(self, crystals: EncodedCrystals) -> JointPool:
        """As of `Method`."""
        process = self.model.joint(crystals.descriptors)
        return JointPool(process, process.noise)
